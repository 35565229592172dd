# SPDX-License-Identifier: Apache-2.0
"""Exact neighbour search in Triton: every pair in tiles, the best k of each query in registers.

The lists are those of ``nearest_lists``. Fused multiply-adds are off, for the reference's last bit. Nothing is
read back on the host.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .nearest_lists import empty_lists, load_points, neighbor_keys, replace_largest, write_lists
from .neighbor_buckets import MOST_SCENES, search_buckets

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
    x, y, z = load_points(queries, row, asked)
    kept = empty_lists(asked, K, SLOTS)
    begin = 0
    while begin < count:
        point = begin + tl.arange(0, POINTS)
        u, v, w = load_points(xyz, base + point, point < count)
        dx, dy, dz = x[:, None] - u[None, :], y[:, None] - v[None, :], z[:, None] - w[None, :]
        square = dx * dx + dy * dy + dz * dz
        offered = (point < count)[None, :] & (square < squared)
        kept = replace_largest(kept, neighbor_keys(square, point[None, :], offered, BY_INDEX))
        begin += POINTS
        if BY_INDEX:  # later points have higher indices: done once every list is full
            begin = tl.where(tl.max(tl.max(kept, 1), 0) < 0x7FFFFFFF00000000, count, begin)
    write_lists(tl.sort(kept), row, asked, base, index, distance, BY_INDEX, PACKED, K, SLOTS)
