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


def group_into(codes: Tensor, inverse: Tensor, first: Tensor, found: Tensor, count: Tensor) -> None:
    """Number the distinct codes in ascending order; never waits for the device.

    Args:
        codes: (N,) int64, none negative; ``UNUSED`` for elements to leave out.
        inverse: (N,) int64, receives the number of each element's code, -1 for none and beyond the capacity.
        first: (capacity,) int64, receives the lowest element of each code, 0 beyond.
        found: (capacity,) int64, receives the codes, ``UNUSED`` beyond.
        count: (1,) int64, receives how many distinct codes there are, be it more than the capacity.
    """
    found.fill_(UNUSED)
    first.zero_()
    n = len(codes)
    ordered, order = torch.sort(codes, stable=True)
    grid = (triton.cdiv(n, BLOCK),)
    heads = torch.zeros(max(grid[0], 1), dtype=torch.int32, device=codes.device)
    launch(_count_heads, grid, ordered, heads, n, BLOCK)
    ends = heads.cumsum(0)
    count.copy_(ends[-1:])
    launch(_number, grid, ordered, order, ends, inverse, first, found, n, len(found), BLOCK)


def coords_into(codes: Tensor, coords: Tensor, n_bits: int = 60) -> None:
    """Write the coordinates that the low bits of Z-order codes (M,) stand for to ``coords`` (M, 3) int64."""
    grid = (triton.cdiv(len(codes), BLOCK),)
    launch(_coords, grid, codes, coords, len(codes), n_bits, BLOCK)


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


@triton.jit(do_not_specialize=["n", "capacity"])
def _number(ordered, order, ends, inverse, first, found, n, capacity, BLOCK: tl.constexpr):
    i, code, head = _heads(ordered, n, BLOCK)
    before = tl.load(ends + tl.program_id(0)) - tl.sum(head.to(tl.int32), 0)
    number = before + tl.cumsum(head.to(tl.int32), 0) - 1
    element = tl.load(order + i, mask=i < n, other=0)
    inside = (code != LAST) & (number < capacity)
    tl.store(inverse + element, tl.where(inside, number, -1), mask=i < n)
    tl.store(first + number, element, mask=head & inside)
    tl.store(found + number, code, mask=head & inside)


@triton.jit(do_not_specialize=["m"])
def _coords(codes, coords, m, N_BITS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    code = tl.load(codes + i, mask=i < m, other=0)
    low = tl.where(code == LAST, 0, code & ((1 << N_BITS) - 1))
    tl.store(coords + 3 * i, gather(low), mask=i < m)
    tl.store(coords + 3 * i + 1, gather(low >> 1), mask=i < m)
    tl.store(coords + 3 * i + 2, gather(low >> 2), mask=i < m)
