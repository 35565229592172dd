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

from .launch import launch

LARGEST_K = 128
"""Neighbours that fit the registers beside a tile; beyond, the reference searches."""
QUERIES, POINTS = 16, 128
"""Queries of one program, and points it holds against them at a time."""
ALL_PAIRS = 2048
"""Scenes of more points are searched by buckets: sorting them costs less than looking at every pair."""


def search(
    xyz: Tensor,
    starts: Tensor,
    most_points: int,
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
        most_points: points of any scene, at most (a bucket's capacity does).
        queries: (Q, 3) as ``xyz``.
        query_starts: (B + 1,) int64.
        most_queries: queries of any scene, at most.
        squared: radius squared, that neighbours must be below, a float32; inf for none.
        by_index: take those of lowest index instead of the nearest.
        packed: give rows of ``xyz`` instead of indices within the scene.
        index: (Q, k) int64, k <= 128; -1 where there are fewer.
        distance: (Q, k) float32, metres; inf there.

    At most 65535 scenes. O(Q N) for few points a scene, else see ``neighbor_buckets``. No gradient.
    """
    from .neighbor_buckets import MOST_SCENES, search_buckets

    scenes, k = len(starts) - 1, index.shape[1]
    if not scenes or not most_queries:
        return
    if most_points > ALL_PAIRS and scenes < MOST_SCENES:
        search_buckets(
            xyz, starts, most_points, queries, query_starts, most_queries, squared, by_index, packed,
            index, distance, (QUERIES, POINTS),
        )  # fmt: skip
    else:
        launch(
            _search, (triton.cdiv(most_queries, QUERIES), scenes),
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
    x, y, z = _load(queries, row, asked)
    kept = _none_yet(asked, K, SLOTS)
    begin = 0
    while begin < count:
        point = begin + tl.arange(0, POINTS)
        u, v, w = _load(xyz, base + point, point < count)
        dx, dy, dz = x[:, None] - u[None, :], y[:, None] - v[None, :], z[:, None] - w[None, :]
        square = dx * dx + dy * dy + dz * dz
        offered = (point < count)[None, :] & (square < squared)
        kept = _replace(kept, _keys(square, point[None, :], offered, BY_INDEX))
        begin += POINTS
        if BY_INDEX:  # later points have higher indices: done once every list is full
            begin = tl.where(tl.max(tl.max(kept, 1), 0) < 0x7FFFFFFF00000000, count, begin)
    _write(tl.sort(kept), row, asked, base, index, distance, BY_INDEX, PACKED, K, SLOTS)


@triton.jit
def _load(xyz, row, inside):  # type: ignore[no-untyped-def]
    x = tl.load(xyz + 3 * row, mask=inside, other=0.0)
    y = tl.load(xyz + 3 * row + 1, mask=inside, other=0.0)
    z = tl.load(xyz + 3 * row + 2, mask=inside, other=0.0)
    return x, y, z


@triton.jit
def _none_yet(asked, K: tl.constexpr, SLOTS: tl.constexpr):  # type: ignore[no-untyped-def]
    # Larger than any neighbour and all different, to be replaced one at a time; slots past k never are.
    slot = tl.arange(0, SLOTS)[None, :].to(tl.int64)
    return tl.where((slot < K) & asked[:, None], 0x7FFFFFFF00000000 + slot, -1 - slot)


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
