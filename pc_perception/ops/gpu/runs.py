# SPDX-License-Identifier: Apache-2.0
"""Group equal codes: one stable sort, then ranks by counting where runs begin."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .serialize import gather

BLOCK = 512
UNUSED = torch.iinfo(torch.int64).max
"""The code of an element that belongs to no group; it sorts last."""
LAST = tl.constexpr(UNUSED)


def group_into(
    codes: Tensor, inverse: Tensor, first: Tensor, found: Tensor, count: Tensor, ascending: bool = False
) -> None:
    """Number the distinct codes in ascending order; never waits for the device.

    Args:
        codes: (N,) int64, none negative; ``UNUSED`` for elements to leave out.
        inverse: (N,) int64, receives the number of each element's code, -1 for none and beyond the capacity.
        first: (capacity,) int64, receives the lowest element of each code.
        found: (capacity,) int64, receives the codes; what follows the last one is left as it was.
        count: (1,) int64, receives how many distinct codes there are, be it more than the capacity.
        ascending: the caller knows that the codes ascend: nothing is sorted.
    """
    n = len(codes)
    if n == 0:
        count.zero_()
        return
    ordered, order = (codes, codes) if ascending else torch.sort(codes, stable=True)
    grid = (triton.cdiv(n, BLOCK),)
    heads = torch.empty(grid[0], dtype=torch.int32, device=codes.device)
    launch(_count_heads, grid, ordered, heads, n, BLOCK)
    ends = heads.cumsum(0)
    launch(_number, grid, ordered, order, ends, inverse, first, found, count, n, len(found), ascending, BLOCK)


def coords_into(codes: Tensor, first: Tensor, count: Tensor, coords: Tensor, n_bits: int = 60) -> None:
    """Write the coordinates that the low bits of Z-order codes stand for, and make what follows them harmless.

    Args:
        codes, first, count: from ``group_into``; become ``UNUSED`` and 0 beyond the codes found.
        coords: (capacity, 3) int64, contiguous; 0 beyond the codes found.
    """
    grid = (triton.cdiv(len(codes), BLOCK),)
    launch(_coords, grid, codes, first, count, coords, len(codes), n_bits, BLOCK)


@triton.jit
def _heads(ordered, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    code = tl.load(ordered + i, mask=i < n, other=LAST)
    before = tl.load(ordered + i - 1, mask=(i > 0) & (i < n), other=-1)
    return i, code, (code != before) & (code != LAST)


@triton.jit(do_not_specialize=["n"])
def _count_heads(ordered, heads, n, BLOCK: tl.constexpr):
    _, _, head = _heads(ordered, n, BLOCK)
    tl.store(heads + tl.program_id(0), tl.sum(head.to(tl.int32), 0))


# The count may lie anywhere in a larger buffer; that must not make another kernel of it.
@triton.jit(do_not_specialize=["n", "capacity"], do_not_specialize_on_alignment=["count"])
def _number(
    ordered, order, ends, inverse, first, found, count, n, capacity,
    ASCENDING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i, code, head = _heads(ordered, n, BLOCK)
    end = tl.load(ends + tl.program_id(0))
    number = end - tl.sum(head.to(tl.int32), 0) + tl.cumsum(head.to(tl.int32), 0) - 1
    element = i if ASCENDING else tl.load(order + i, mask=i < n, other=0)
    inside = (code != LAST) & (number < capacity)
    tl.store(inverse + element, tl.where(inside, number, -1), mask=i < n)
    tl.store(first + number, element, mask=head & inside)
    tl.store(found + number, code, mask=head & inside)
    tl.store(count, end, mask=tl.program_id(0) == tl.num_programs(0) - 1)


@triton.jit(do_not_specialize=["m"], do_not_specialize_on_alignment=["count"])
def _coords(codes, first, count, coords, m, N_BITS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < tl.load(count)
    code = tl.load(codes + i, mask=there & (i < m), other=0) & ((1 << N_BITS) - 1)
    tl.store(coords + 3 * i, gather(code), mask=i < m)
    tl.store(coords + 3 * i + 1, gather(code >> 1), mask=i < m)
    tl.store(coords + 3 * i + 2, gather(code >> 2), mask=i < m)
    tl.store(codes + i, tl.full((BLOCK,), LAST, tl.int64), mask=~there & (i < m))
    tl.store(first + i, tl.zeros_like(i), mask=~there & (i < m))
