# SPDX-License-Identifier: Apache-2.0
"""Exact neighbour search in Triton: every pair in tiles, the best k of each query in registers.

A neighbour is one integer as in ``neighbor_search``: squared distance in the high half and index in the low
one (swapped for a search by index), so that one comparison settles ties. Fused multiply-adds are off, for the
reference's last bit. Nothing is read back on the host.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

LARGEST_K = 128
"""Neighbours that fit the registers beside a tile; beyond, the reference searches."""
QUERIES, POINTS = 16, 128
"""Queries of one program, and points it holds against them at a time."""


def search(
    xyz: Tensor,
    starts: Tensor,
    queries: Tensor,
    query_starts: Tensor,
    most_queries: int,
    squared: float,
    by_index: bool,
    packed: bool,
    index: Tensor,
    distance: Tensor,
) -> None:
    """Write the neighbours of each query within its scene, nearest first or by index, ties by lowest index.

    Args:
        xyz: (N, 3) float32, contiguous, finite, metres.
        starts: (B + 1,) int64, rows where the scenes of points start and end; a scene has less than 2^31.
        queries: (Q, 3) as ``xyz``.
        query_starts: (B + 1,) int64.
        most_queries: queries of any scene, at most (a bucket's capacity does).
        squared: radius squared, that neighbours must be below, a float32; inf for none.
        by_index: take those of lowest index instead of the nearest.
        packed: give rows of ``xyz`` instead of indices within the scene.
        index: (Q, k) int64, k <= 128; -1 where there are fewer.
        distance: (Q, k) float32, metres; inf there.

    O(Q N): for few points a scene. No gradient.
    """
    scenes, k = len(starts) - 1, index.shape[1]
    if scenes and most_queries:
        _search[(triton.cdiv(most_queries, QUERIES), scenes)](
            xyz, starts, queries, query_starts, index, distance, squared, by_index, packed, k,
            triton.next_power_of_2(k), QUERIES, POINTS, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit
def _search(  # type: ignore[no-untyped-def]
    xyz, starts, queries, query_starts, index, distance, squared,
    BY_INDEX: tl.constexpr, PACKED: tl.constexpr, K: tl.constexpr, SLOTS: tl.constexpr,
    QUERIES: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    scene = tl.program_id(1)
    row = tl.load(query_starts + scene) + tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    asked = row < tl.load(query_starts + scene + 1)
    base = tl.load(starts + scene)
    count = (tl.load(starts + scene + 1) - base).to(tl.int32)
    x = tl.load(queries + 3 * row, mask=asked, other=0.0)[:, None]
    y = tl.load(queries + 3 * row + 1, mask=asked, other=0.0)[:, None]
    z = tl.load(queries + 3 * row + 2, mask=asked, other=0.0)[:, None]
    # Larger than any neighbour and all different, to be replaced one at a time; slots past k never are.
    slot = tl.arange(0, SLOTS)[None, :].to(tl.int64)
    empty: tl.constexpr = 0x7FFFFFFF00000000
    kept = tl.where((slot < K) & asked[:, None], empty + slot, -1 - slot)
    begin = 0
    while begin < count:
        point = begin + tl.arange(0, POINTS)
        column = xyz + 3 * (base + point)
        there = (point < count)[None, :]
        dx = x - tl.load(column, mask=point < count, other=0.0)[None, :]
        dy = y - tl.load(column + 1, mask=point < count, other=0.0)[None, :]
        dz = z - tl.load(column + 2, mask=point < count, other=0.0)[None, :]
        square = dx * dx + dy * dy + dz * dz
        offered = _keys(square, point[None, :], there & (square < squared), BY_INDEX)
        kept = _replace(kept, offered)
        begin += POINTS
        if BY_INDEX:  # later points have higher indices: done once every list is full
            begin = tl.where(tl.max(tl.max(kept, 1), 0) < empty, count, begin)
    _write(tl.sort(kept), row, asked, base, index, distance, BY_INDEX, PACKED, K, SLOTS)


@triton.jit
def _keys(square, point, offered, BY_INDEX: tl.constexpr):  # type: ignore[no-untyped-def]
    # A float that is not negative orders like the integer of the same bits.
    bits = square.to(tl.int32, bitcast=True).to(tl.int64)
    wide = point.to(tl.int64)
    key = (wide << 32) | bits if BY_INDEX else (bits << 32) | wide
    return tl.where(offered, key, 0x7FFFFFFFFFFFFFFF)


@triton.jit
def _replace(kept, offered):  # type: ignore[no-untyped-def]
    """Let the smallest keys offered take the places of the largest kept, as long as any is smaller.

    Most tiles offer nothing: after n points the next one is among the k nearest with probability k / n.
    """
    smallest, largest = tl.min(offered, 1), tl.max(kept, 1)
    while tl.max((smallest < largest).to(tl.int32), 0) > 0:
        better = (smallest < largest)[:, None]
        kept = tl.where(better & (kept == largest[:, None]), smallest[:, None], kept)
        offered = tl.where(offered == smallest[:, None], 0x7FFFFFFFFFFFFFFF, offered)
        smallest, largest = tl.min(offered, 1), tl.max(kept, 1)
    return kept


@triton.jit
def _write(  # type: ignore[no-untyped-def]
    kept, row, asked, base, index, distance,
    BY_INDEX: tl.constexpr, PACKED: tl.constexpr, K: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    place = tl.arange(0, SLOTS)[None, :] - (SLOTS - K)  # the unused slots came first
    wanted = asked[:, None] & (place >= 0)
    high, low = (kept >> 32).to(tl.int32), kept.to(tl.int32)
    point, bits = (high, low) if BY_INDEX else (low, high)
    found = high != 0x7FFFFFFF
    where = point.to(tl.int64) + base if PACKED else point.to(tl.int64)
    metres = tl.sqrt_rn(tl.where(found & wanted, bits, 0).to(tl.float32, bitcast=True))
    target = row[:, None] * K + place
    tl.store(index + target, tl.where(found, where, -1), mask=wanted)
    tl.store(distance + target, tl.where(found, metres, float("inf")), mask=wanted)
