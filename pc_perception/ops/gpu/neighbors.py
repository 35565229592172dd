# SPDX-License-Identifier: Apache-2.0
"""Exact neighbour search in Triton: of small scenes every distance, of large ones the buckets within reach.

The k nearest of a small scene are told from the others before any is sorted: the k-th distance is found by halving the
range of distances, as often as needed to have k below. Fused multiply-adds are off, for the reference's last bit.
Nothing is read back on the host.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .nearest_lists import NONE, empty_slots, load_points, neighbor_keys, write_lists
from .neighbor_buckets import MOST_SCENES, search_buckets

LARGEST_K = 128
"""Neighbours that fit the registers beside the distances; beyond, the reference searches."""
QUERIES = 4
"""Queries of one program, one after the other: it reads its scene's points once."""
ALL_PAIRS = 2048
"""Scenes of more points are searched by buckets; those of one warp have half as many."""


def searchable(scenes: int, most_points: int, k: int) -> bool:
    """Say whether ``search`` takes as many scenes and neighbours."""
    return k <= LARGEST_K and scenes <= (MOST_SCENES if most_points > ALL_PAIRS else 65535)


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

    Scenes as ``searchable`` says. O(Q N) for few points a scene, else see ``neighbor_buckets``. No gradient.
    """
    scenes, k = len(starts) - 1, index.shape[1]
    if not scenes or not most_queries:
        return
    if most_points > ALL_PAIRS:
        search_buckets(
            xyz, starts, most_points, queries, query_starts, most_queries, squared, by_index, packed,
            index, distance,
        )  # fmt: skip
        return
    warps = min(max(triton.next_power_of_2(most_points) // 1024, 1), 16)
    rows = triton.next_power_of_2(max(triton.cdiv(most_points, 32 * warps), 1))
    launch(
        _select, (triton.cdiv(most_queries, QUERIES), scenes),
        xyz, starts, queries, query_starts, index, distance, squared, by_index, packed, k,
        triton.next_power_of_2(k), QUERIES, rows, 32 * warps,
        num_warps=warps, enable_fp_fusion=False,
    )  # fmt: skip


@triton.jit
def _select(  # type: ignore[no-untyped-def]
    xyz, starts, queries, query_starts, index, distance, squared,
    BY_INDEX: tl.constexpr, PACKED: tl.constexpr, K: tl.constexpr, SLOTS: tl.constexpr,
    QUERIES: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Points lie as (ROWS, LANES): what goes along the rows stays in a lane's registers."""
    scene = tl.program_id(1)
    first = tl.load(query_starts + scene) + tl.program_id(0) * QUERIES
    last = tl.minimum(first + QUERIES, tl.load(query_starts + scene + 1))
    base = tl.load(starts + scene)
    count = (tl.load(starts + scene + 1) - base).to(tl.int32)
    point = tl.arange(0, ROWS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    slot = tl.arange(0, SLOTS)
    there = point < count
    u, v, w = load_points(xyz, base + point, there)
    for row in range(first, last):
        x, y, z = load_points(queries, row, True)
        dx, dy, dz = x - u, y - v, z - w
        square = dx * dx + dy * dy + dz * dz
        bits = tl.where(there & (square < squared), square.to(tl.int32, bitcast=True), NONE)
        measure = tl.where(bits == NONE, NONE, point) if BY_INDEX else bits
        cut, missing = _cut(measure, K)
        chosen = measure < cut
        if missing > 0:  # of those at the same distance, the ones of lowest index
            tied = tl.where(measure == cut, point, NONE)
            chosen = chosen | (tied < _cut(tied, missing)[0])
        number = chosen.to(tl.int32)
        each = tl.sum(number, 0)
        place = tl.cumsum(number, 0) - 1 + (tl.cumsum(each, 0) - each)[None, :]
        # In any order they lie where the sorted ones will.
        tl.store(index + row * K + place, point.to(tl.int64), mask=chosen)
        tl.store(distance + row * K + place, square, mask=chosen)
        tl.debug_barrier()
        full = slot < tl.sum(each, 0)
        who = tl.load(index + row * K + slot, mask=full, other=0)
        near = tl.load(distance + row * K + slot, mask=full, other=0.0).to(tl.int32, bitcast=True)
        kept = tl.sort(tl.where(full, neighbor_keys(near, who, BY_INDEX), empty_slots(slot, K)))
        tl.debug_barrier()  # all have read what is overwritten
        write_lists(
            kept[None, :], row + tl.zeros([1], tl.int64), tl.full([1], 1, tl.int1), base, index, distance,
            BY_INDEX, PACKED, K, SLOTS,
        )  # fmt: skip


@triton.jit
def _cut(measure, n):  # type: ignore[no-untyped-def]
    """Find where the n smallest measures end; those of NONE do not count, and no measure is negative.

    Returns:
        What the smallest are below, and how many of those equal to it belong to them.
    """
    few = _below(measure, NONE) <= n
    low = tl.where(few, NONE, tl.min(tl.min(measure, 0), 0))
    high = tl.where(few, NONE, tl.minimum(tl.max(tl.max(measure, 0), 0) + 1, NONE))
    fewer = 0  # than n are below ``low``, and at least n below ``high``
    while high - low > 1:
        middle = low + (high - low) // 2
        found = _below(measure, middle)
        low = tl.where(found <= n, middle, low)
        high = tl.where(found >= n, middle, high)
        fewer = tl.where(found <= n, found, fewer)
    return low, tl.where(few, 0, n - fewer)


@triton.jit
def _below(measure, limit):  # type: ignore[no-untyped-def]
    return tl.sum(tl.sum((measure < limit).to(tl.int32), 0), 0)
