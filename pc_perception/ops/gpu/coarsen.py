# SPDX-License-Identifier: Apache-2.0
"""The voxels of twice the edge, of voxels in Z-order, in tensors of fixed capacity; never waits for the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .runs import LAST, UNUSED
from .serialize import gather

BLOCK = 256


@dataclass(frozen=True)
class Coarse:
    """What ``coarsen`` found, in P rows.

    Attributes:
        parent: (M,) int64 coarse row of each voxel; of rows not in use the last one or P - 1, the lower.
        starts: (P + 1,), index: (M + P + 1,) int64, lists of each coarse voxel's children. Coarse rows that are not in
            use have voxel 0 for a child: numbers stay finite.
        codes: (P,) int64, ascending, the largest integer beyond those in use.
        coords: (P, 3) int64, 0 beyond.
        centers: (P, 3) float32, means of the children's, 0 beyond.
        in_use: (2,) int64, 0 and how many rows are coarse voxels, at most P.
        count: (1,) int64, how many there are; above P some are missing.
    """

    parent: Tensor
    starts: Tensor
    index: Tensor
    codes: Tensor
    coords: Tensor
    centers: Tensor
    in_use: Tensor
    count: Tensor


def coarsen(codes: Tensor, centers: Tensor, in_use: Tensor, capacity: int) -> Coarse:
    """Find the parents of voxels.

    Args:
        codes: (M,) int64 Z-order codes, ascending.
        centers: (M, 3) float32, contiguous.
        in_use: (2,) int64, 0 and how many rows are voxels.
        capacity: P.
    """
    m, device = len(codes), codes.device
    shapes = ((m,), (capacity + 1,), (m + capacity + 1,), (capacity,), (capacity, 3))
    parent, starts, index, above, coords = (torch.empty(s, dtype=torch.int64, device=device) for s in shapes)
    bounds, count = (torch.empty(n, dtype=torch.int64, device=device) for n in (2, 1))
    means = torch.empty(capacity, 3, dtype=torch.float32, device=device)
    grid = (triton.cdiv(m, BLOCK),)
    heads = torch.empty(grid[0], dtype=torch.int32, device=device)
    launch(_count, grid, codes, in_use, heads, m, BLOCK)
    ends = heads.cumsum(0)
    launch(_number, grid, codes, in_use, ends, parent, starts, index, above, m, capacity, BLOCK)
    launch(
        _parents, (triton.cdiv(capacity + 1, BLOCK),),
        centers, in_use, ends, starts, index, above, coords, means, bounds, count,
        m, grid[0], capacity, UNUSED, BLOCK,
    )  # fmt: skip
    return Coarse(parent, starts, index, above, coords, means, bounds, count)


@triton.jit
def _heads(codes, in_use, m, BLOCK: tl.constexpr):
    """Row, its code above, and whether it is the first of its parent."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = (row < m) & (row < tl.load(in_use + 1))
    code = tl.load(codes + row, there, LAST) >> 3
    before = tl.load(codes + row - 1, there & (row > 0), -1) >> 3
    return row, code, there & (code != before)


@triton.jit(do_not_specialize=["m"])
def _count(codes, in_use, heads, m, BLOCK: tl.constexpr):
    _, _, head = _heads(codes, in_use, m, BLOCK)
    tl.store(heads + tl.program_id(0), tl.sum(head.to(tl.int32), 0))


@triton.jit(do_not_specialize=["m", "capacity"])
def _number(codes, in_use, ends, parent, starts, index, above, m, capacity, BLOCK: tl.constexpr):
    row, code, head = _heads(codes, in_use, m, BLOCK)
    number = (
        tl.cumsum(head.to(tl.int32), 0) - tl.sum(head.to(tl.int32), 0) - 1 + tl.load(ends + tl.program_id(0))
    )
    number = tl.minimum(tl.maximum(number, 0), capacity)
    tl.store(parent + row, tl.minimum(number, capacity - 1), row < m)
    tl.store(index + row, tl.where(row < tl.load(in_use + 1), row, 0), row < m)
    tl.store(starts + number, row, head)
    tl.store(above + number, code, head & (number < capacity))


@triton.jit(do_not_specialize=["m", "n_ends", "capacity"])
def _parents(
    centers, in_use, ends, starts, index, above, coords, means, bounds, count, m, n_ends, capacity, NONE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    n_fine, n = tl.load(in_use + 1), tl.load(ends + n_ends - 1)
    there = (row < n) & (row < capacity)
    first = tl.load(starts + row, there, 0)
    # The end of the last list is nobody's start yet: other programs write what follows.
    end = tl.load(starts + row + 1, there & (row + 1 < n), 0)
    end = tl.where(row + 1 < n, end, n_fine)
    x, y, z = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for k in range(8):
        child = first + k
        own = there & (child < end)
        x += tl.load(centers + 3 * child, own, 0.0)
        y += tl.load(centers + 3 * child + 1, own, 0.0)
        z += tl.load(centers + 3 * child + 2, own, 0.0)
    children = tl.maximum(tl.where(there, end - first, 1), 1).to(tl.float32)
    inside = row < capacity
    tl.store(means + 3 * row, x / children, inside)
    tl.store(means + 3 * row + 1, y / children, inside)
    tl.store(means + 3 * row + 2, z / children, inside)
    code = tl.load(above + row, there, 0)
    tl.store(coords + 3 * row, gather(code), inside)
    tl.store(coords + 3 * row + 1, gather(code >> 1), inside)
    tl.store(coords + 3 * row + 2, gather(code >> 2), inside)
    tl.store(above + row, tl.full((BLOCK,), NONE, tl.int64), inside & ~there)
    tl.store(starts + row, n_fine + row - n, (row >= n) & (row <= capacity))
    tl.store(index + m + row, tl.zeros_like(row), row <= capacity)
    tl.store(bounds + row, tl.where(row == 0, 0, tl.minimum(n, capacity)), row < 2)
    tl.store(count + row, n, row < 1)
