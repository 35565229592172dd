# SPDX-License-Identifier: Apache-2.0
"""Kernel maps of sparse convolutions: tables of neighbours and children from a hash, then lists of pairs.

The ``.._into`` functions never wait for the device: with buffers of fixed capacity, and the number of voxels only in
``edges`` on the device, they can be captured in a CUDA graph. ``pairs.pairs_into`` makes lists of the tables.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .pairs import count_entries, pairs_into
from .runs import LAST, coords_into, group_into
from .serialize import interleave
from .voxel_table import enter, find, new_table, pack, scene_of

BLOCK = 128
SCENE_BIT = 57
"""Codes of parents end below this bit; above it their scene is kept, so that one sort serves all scenes."""
MAX_SCENES = 62
Found = tuple[Tensor, Tensor, Tensor]
"""in_row (E,), out_row (E,) and starts (K + 1,) of ``KernelMap``."""


def neighbors_into(coords: Tensor, edges: Tensor, table: Tensor, flag: Tensor) -> None:
    """Write the rows of every voxel's 27 neighbours.

    Args:
        coords: (M, 3) int64, distinct within a scene, any strides; rows from ``edges[-1]`` on have no neighbours.
        edges: (S + 1,) int64 on the device, the rows at which scenes begin, and where the last one ends.
        table: (27, M) int32, contiguous, receives the rows, -1 for none; lines as ``ops.submanifold_map``.
        flag: (1,) int64, becomes 1 where a coordinate is not in 0 .. 2^20 - 1.
    """
    keys, rows = new_table(len(coords), coords.device)
    enter(coords, edges, keys, rows, flag)
    grid = (triton.cdiv(len(coords), BLOCK), 27)
    sizes = (len(coords), len(edges) - 1)
    launch(_neighbors, grid, coords, edges, keys, rows, table, *sizes, *coords.stride(), BLOCK)


def children_into(
    coords: Tensor,
    edges: Tensor,
    table: Tensor,
    parents: Tensor,
    out_edges: Tensor,
    flag: Tensor,
    in_z_order: bool = False,
) -> None:
    """Find the voxels of twice the edge, and the rows of the eight voxels in each.

    Args:
        coords, edges, flag: as ``neighbors_into``; at most ``MAX_SCENES`` scenes.
        table: (8, P) int32, contiguous, receives the rows, -1 for none; lines as ``ops.strided_map``.
        parents: (P, 3) int64, contiguous, receives their coordinates, in Z-order within each scene; 0 beyond them.
        out_edges: (S + 1,) int64, receives where the scenes of the parents begin, and their number: above P, the
            capacity was too small, and parents are missing at the end.
        in_z_order: the caller knows that the rows of each scene are in Z-order, as those of ``voxelize_into`` and of
            ``parents`` are: nothing is sorted.
    """
    m, capacity = len(coords), len(parents)
    code, inverse = (torch.empty(m, dtype=torch.int64, device=coords.device) for _ in range(2))
    first, found = (torch.empty(capacity, dtype=torch.int64, device=coords.device) for _ in range(2))
    table.fill_(-1)
    grid, strides = (triton.cdiv(m, BLOCK),), coords.stride()
    launch(_parent_codes, grid, coords, edges, code, flag, m, len(edges) - 1, *strides, SCENE_BIT, BLOCK)
    count = out_edges[-1:]
    group_into(code, inverse, first, found, count, in_z_order)
    coords_into(found, first, count, parents, SCENE_BIT)
    scenes = torch.arange(len(edges) - 1, device=coords.device) << SCENE_BIT
    torch.searchsorted(found, scenes, out=out_edges[:-1])
    launch(_children, grid, coords, inverse, table, m, capacity, *strides, BLOCK)


def submanifold_map(coords: Tensor, edges: list[int]) -> Found | None:
    """Return the pairs of ``ops.submanifold_map``; None where coordinates are out of range."""
    table = torch.empty(27, len(coords), dtype=torch.int32, device=coords.device)
    flag = torch.zeros(1, dtype=torch.int64, device=coords.device)
    neighbors_into(coords, torch.tensor(edges, device=coords.device), table, flag)
    ends = count_entries(table)
    n_pairs, failed = torch.cat([ends[-1, -1:], flag]).tolist()
    return None if failed else _pairs(table, ends, n_pairs)


def strided_map(coords: Tensor, edges: list[int]) -> tuple[Found, Tensor, tuple[int, ...]] | None:
    """Return the pairs, parents and scenes of ``ops.strided_map``; None where coordinates are out of range."""
    m = len(coords)
    table = torch.empty(8, m, dtype=torch.int32, device=coords.device)
    parents = torch.empty(m, 3, dtype=torch.int64, device=coords.device)
    status = torch.zeros(len(edges) + 1, dtype=torch.int64, device=coords.device)
    # The flag first: kernels are compiled for alignments, and its must not depend on the number of scenes.
    flag, out_edges = status[:1], status[1:]
    children_into(coords, torch.tensor(edges, device=coords.device), table, parents, out_edges, flag)
    failed, *scenes = status.tolist()
    if failed:
        return None
    # Each voxel has one parent: there are as many pairs as voxels.
    return _pairs(table, count_entries(table), m), parents[: scenes[-1]], tuple(scenes)


def _pairs(table: Tensor, ends: Tensor, n_pairs: int) -> Found:
    in_row, out_row = (torch.empty(n_pairs, dtype=torch.int64, device=table.device) for _ in range(2))
    starts = torch.empty(len(table) + 1, dtype=torch.int64, device=table.device)
    pairs_into(table, ends, in_row, out_row, starts)
    return in_row, out_row, starts


@triton.jit
def _load(coords, row, mask, stride_n, stride_c):
    x = tl.load(coords + row * stride_n, mask=mask, other=0)
    y = tl.load(coords + row * stride_n + stride_c, mask=mask, other=0)
    return x, y, tl.load(coords + row * stride_n + 2 * stride_c, mask=mask, other=0)


@triton.jit(do_not_specialize=["n", "n_scenes"])
def _neighbors(
    coords, edges, keys, rows, table, n, n_scenes, stride_n, stride_c, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    line = tl.program_id(1).to(tl.int64)
    begin, end = scene_of(row, edges, n_scenes)
    inside = (row < n) & (row < end)
    x, y, z = _load(coords, row, inside, stride_n, stride_c)
    key = pack(x + line % 3 - 1, y + line // 3 % 3 - 1, z + line // 9 - 1)
    found = find(keys, rows, key, begin, end, inside)
    tl.store(table + line * n + row, found, mask=row < n)


@triton.jit(do_not_specialize=["n", "n_scenes"])
def _parent_codes(
    coords, edges, codes, flag, n, n_scenes, stride_n, stride_c, SCENE_BIT: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    scene = tl.zeros_like(row)
    for s in range(1, n_scenes):
        scene += (row >= tl.load(edges + s)).to(tl.int64)
    used = (row < n) & (row < tl.load(edges + n_scenes))
    x, y, z = _load(coords, row, used, stride_n, stride_c)
    outside = ((x | y | z) >> 20) != 0
    tl.store(flag + tl.zeros_like(row), 1, mask=outside)
    code = interleave(x >> 1, y >> 1, z >> 1) | (scene << SCENE_BIT)
    tl.store(codes + row, tl.where(used & ~outside, code, LAST), mask=row < n)


@triton.jit(do_not_specialize=["n", "capacity"])
def _children(coords, inverse, table, n, capacity, stride_n, stride_c, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    parent = tl.load(inverse + row, mask=row < n, other=-1)
    x, y, z = _load(coords, row, parent >= 0, stride_n, stride_c)
    line = (x & 1) + 2 * (y & 1) + 4 * (z & 1)
    tl.store(table + line * capacity + parent, row.to(tl.int32), mask=parent >= 0)
