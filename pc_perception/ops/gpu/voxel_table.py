# SPDX-License-Identifier: Apache-2.0
"""Hash table from voxel coordinates to rows, for kernels that look at voxels around one.

Scenes have a table of their own each, side by side: rows a .. b - 1 use slots 2 a .. 2 b - 1, half of them full.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

BLOCK = 256
MARGIN = tl.constexpr(2)
"""Voxels up to this far outside of 0 .. 2^20 - 1 can be asked for."""
FREE = tl.constexpr(-1)
MIX = tl.constexpr(0x9E3779B97F4A7C15)
"""2^64 / phi: the high bits of a product with it are well mixed."""


def new_table(n_rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return keys and rows of a table for ``n_rows`` voxels; the slots at the end take what idle lanes write."""
    n_slots = 2 * n_rows + BLOCK
    keys = torch.empty(n_slots, dtype=torch.int64, device=device)
    return keys, torch.empty(n_slots, dtype=torch.int32, device=device)


def enter(coords: Tensor, edges: Tensor, keys: Tensor, rows: Tensor, flag: Tensor) -> None:
    """Enter the voxels of all scenes; never waits for the device.

    Args:
        coords: (M, 3) int64, distinct within a scene, any strides; rows from ``edges[-1]`` on are left out.
        edges: (S + 1,) int64 on the device, the rows at which scenes begin, and where the last one ends.
        keys, rows: from ``new_table(M, ..)``; what they held is cleared.
        flag: (1,) int64, becomes 1 where a coordinate is not in 0 .. 2^20 - 1: that voxel is left out.
    """
    keys.fill_(FREE.value)
    sizes = (len(coords), len(edges) - 1, 2 * len(coords))
    grid = (triton.cdiv(len(coords), BLOCK),)
    launch(_enter, grid, coords, edges, keys, rows, flag, *sizes, *coords.stride(), BLOCK)


@triton.jit
def pack(x, y, z):
    """One integer per voxel; keys of differences add up like coordinates (no carry into the next axis)."""
    return (x + MARGIN) + ((y + MARGIN) << 21) + ((z + MARGIN) << 42)


@triton.jit
def scene_of(row, edges, n_scenes):
    """Return where the scene of each row begins and ends, 0 and 0 for a row of none."""
    begin, end = tl.zeros_like(row), tl.zeros_like(row)
    for s in range(n_scenes):
        a, b = tl.load(edges + s), tl.load(edges + s + 1)
        here = (row >= a) & (row < b)
        begin, end = tl.where(here, a, begin), tl.where(here, b, end)
    return begin, end


@triton.jit
def _slot(key, begin, end):
    mixed = (key.to(tl.uint64) * MIX) >> 32
    return 2 * begin + ((mixed * (2 * (end - begin)).to(tl.uint64)) >> 32).to(tl.int64)


@triton.jit
def find(keys, rows, key, begin, end, asked):
    """Return the int32 row of each packed voxel within its scene, -1 where it is free or not ``asked`` for."""
    found = tl.full(key.shape, -1, tl.int32)
    slot = _slot(key, begin, end)
    while tl.max(asked.to(tl.int32), 0) == 1:
        seen = tl.load(keys + slot, mask=asked, other=FREE)
        hit = asked & (seen == key)
        found = tl.where(hit, tl.load(rows + slot, mask=hit, other=-1), found)
        asked = asked & (seen != key) & (seen != FREE)
        slot = tl.where(slot + 1 == 2 * end, 2 * begin, slot + 1)
    return found


@triton.jit(do_not_specialize=["n", "n_scenes", "n_spare"])
def _enter(
    coords, edges, keys, rows, flag, n, n_scenes, n_spare, stride_n, stride_c, BLOCK: tl.constexpr
):  # fmt: skip
    lane = tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64) * BLOCK + lane
    begin, end = scene_of(row, edges, n_scenes)
    waiting = (row < n) & (row < end)
    x = tl.load(coords + row * stride_n, mask=waiting, other=0)
    y = tl.load(coords + row * stride_n + stride_c, mask=waiting, other=0)
    z = tl.load(coords + row * stride_n + 2 * stride_c, mask=waiting, other=0)
    outside = ((x | y | z) >> 20) != 0
    tl.store(flag + tl.zeros_like(row), 1, mask=outside)
    waiting = waiting & ~outside
    key = pack(x, y, z)
    slot = _slot(key, begin, end)
    free = tl.full((BLOCK,), FREE, tl.int64)
    while tl.max(waiting.to(tl.int32), 0) == 1:
        # Compare-and-swap takes no mask: idle lanes swap nothing for nothing in a slot of their own.
        at = tl.where(waiting, slot, n_spare + lane)
        seen = tl.atomic_cas(keys + at, free, tl.where(waiting, key, free), sem="relaxed")
        won = waiting & (seen == FREE)
        tl.store(rows + at, row.to(tl.int32), mask=won)
        waiting = waiting & (seen != FREE) & (seen != key)
        slot = tl.where(slot + 1 == 2 * end, 2 * begin, slot + 1)
