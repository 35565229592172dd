# SPDX-License-Identifier: Apache-2.0
"""The same neighbour search for large clouds: points and queries along a Z-curve, buckets of points in boxes.

The queries of a program lie together, so it visits buckets nearest box first, and stops at the first one out
of reach. Gap and distance are rounded in the same steps, and rounding keeps an order: no gap is larger than
the distance of a point inside, and what is left out cannot be a neighbour, not even at the same distance.

Tiles are (points, queries), lists (slots, queries), by one warp of a query each lane: distances, lists and their
extremes stay in the registers of a lane, and only whether any of them goes on is asked of all.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .nearest_lists import NONE, empty_slots, load_points, neighbor_keys, write_lists

QUERIES = 32
"""Queries of one program, one for each lane of its warp."""
POINTS = 32
"""Points that it holds against them at a time."""
BUCKET = 128
MOST_BOXES = 1024
"""Boxes that a program keeps the gaps of; in larger clouds buckets are larger."""
MOST_SCENES = 1 << 15
"""A code has at least five bits for each axis beside the scene's."""


def search_buckets(
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
    """Write the neighbours; arguments as ``neighbors.search``. About O((N + Q) log N) where points spread out."""
    scenes, k = len(starts) - 1, index.shape[1]
    bucket = max(BUCKET, triton.next_power_of_2(triton.cdiv(most_points, MOST_BOXES)))
    boxes = triton.cdiv(most_points, bucket)
    order = z_order(xyz, starts, most_points)
    query_order = order if queries is xyz else z_order(queries, query_starts, most_queries)
    sorted_xyz = torch.empty_like(xyz)
    box = torch.empty(scenes, boxes, 6, dtype=xyz.dtype, device=xyz.device)
    launch(_boxes, (boxes, scenes), xyz, starts, order, sorted_xyz, box, boxes, bucket)
    launch(
        _search_boxes, (triton.cdiv(most_queries, QUERIES), scenes),
        sorted_xyz, starts, order, box, boxes, queries, query_starts, query_order, index, distance, squared,
        by_index, packed, k, triton.next_power_of_2(k), triton.next_power_of_2(boxes), bucket, QUERIES, POINTS,
        num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip


def z_order(xyz: Tensor, starts: Tensor, most: int) -> Tensor:
    """Rows (N,) int64 that put the points of each scene along a Z-curve; all scenes have 2^10 cells a side at most."""
    bits = (31 - (len(starts) - 2).bit_length()) // 3  # sorting half as many bits takes half the time
    low = xyz.amin(0)
    scale = (2**bits - 1) / (xyz.amax(0) - low).amax().clamp(min=1e-30)
    code = torch.empty(len(xyz), dtype=torch.int32, device=xyz.device)
    launch(_codes, (triton.cdiv(most, 256), len(starts) - 1), xyz, starts, low, scale, code, bits, 256)
    return torch.argsort(code, stable=True)


@triton.jit
def _codes(xyz, starts, low, scale, code, BITS: tl.constexpr, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    scene = tl.program_id(1)
    row = tl.load(starts + scene) + tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = row < tl.load(starts + scene + 1)
    word = tl.zeros([TILE], tl.int32) + (scene << (3 * BITS))
    for axis in tl.static_range(3):
        offset = tl.load(xyz + 3 * row + axis, mask=inside, other=0.0) - tl.load(low + axis)
        cell = tl.minimum(tl.maximum(offset * tl.load(scale), 0.0), (1 << BITS) - 1.0).to(tl.int32)
        # Two zeros between its bits, for those of the other axes.
        cell = (cell | (cell << 16)) & 0x030000FF
        cell = (cell | (cell << 8)) & 0x0300F00F
        cell = (cell | (cell << 4)) & 0x030C30C3
        cell = (cell | (cell << 2)) & 0x09249249
        word |= cell << axis
    tl.store(code + row, word, mask=inside)


@triton.jit
def _boxes(  # type: ignore[no-untyped-def]
    xyz, starts, order, sorted_xyz, box, boxes, BUCKET: tl.constexpr
):
    scene = tl.program_id(1).to(tl.int64)
    row = tl.load(starts + scene) + tl.program_id(0) * BUCKET + tl.arange(0, BUCKET)
    inside = row < tl.load(starts + scene + 1)
    source = tl.load(order + row, mask=inside, other=0)
    target = box + 6 * (scene * boxes + tl.program_id(0))
    for axis in tl.static_range(3):
        value = tl.load(xyz + 3 * source + axis, mask=inside, other=0.0)
        tl.store(sorted_xyz + 3 * row + axis, value, mask=inside)
        tl.store(target + axis, tl.min(tl.where(inside, value, float("inf")), 0))
        tl.store(target + 3 + axis, tl.max(tl.where(inside, value, -float("inf")), 0))


@triton.jit
def _search_boxes(  # type: ignore[no-untyped-def]
    sorted_xyz, starts, order, box, boxes, queries, query_starts, query_order, index, distance, squared,
    BY_INDEX: tl.constexpr, PACKED: tl.constexpr, K: tl.constexpr, SLOTS: tl.constexpr, BOXES: tl.constexpr,
    BUCKET: tl.constexpr, QUERIES: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    scene = tl.program_id(1).to(tl.int64)
    place = tl.load(query_starts + scene) + tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    asked = place < tl.load(query_starts + scene + 1)
    row = tl.load(query_order + place, mask=asked, other=0)
    x, y, z = load_points(queries, row, asked)
    base = tl.load(starts + scene)
    count = (tl.load(starts + scene + 1) - base).to(tl.int32)
    gap = _gaps(x, y, z, asked, box + 6 * scene * boxes, tl.cdiv(count, BUCKET), BOXES)
    limit = tl.full((), squared, tl.float32).to(tl.int32, bitcast=True)
    kept = tl.where(asked[None, :], empty_slots(tl.arange(0, SLOTS)[:, None], K), -1)
    nearest = tl.min(gap, 0)
    reach = limit
    while (nearest < limit) & (nearest <= reach):
        bucket = tl.argmin(gap, 0)
        for part in range(BUCKET // POINTS):
            inner = bucket * BUCKET + part * POINTS + tl.arange(0, POINTS)
            u, v, w = load_points(sorted_xyz, base + inner, inner < count)
            point = (tl.load(order + base + inner, mask=inner < count, other=0) - base).to(tl.int32)
            dx, dy, dz = x[None, :] - u[:, None], y[None, :] - v[:, None], z[None, :] - w[:, None]
            square = dx * dx + dy * dy + dz * dz
            offered = (inner < count)[:, None] & (square < squared)
            bits = tl.where(offered, square.to(tl.int32, bitcast=True), NONE)
            kept = _replace_largest(kept, bits, point[:, None], BY_INDEX)
        gap = tl.where(tl.arange(0, BOXES) == bucket, NONE, gap)
        nearest = tl.min(gap, 0)
        if not BY_INDEX:
            reach = (tl.max(tl.max(kept, 0), 0) >> 32).to(tl.int32)
    kept = tl.sort(tl.trans(kept))
    write_lists(kept, row, asked, base, index, distance, BY_INDEX, PACKED, K, SLOTS)


@triton.jit
def _replace_largest(kept, bits, point, BY_INDEX: tl.constexpr):  # type: ignore[no-untyped-def]
    """Let the smallest keys of (points, queries) take the places of the largest kept, as long as any is smaller.

    ``bits`` are squared distances as integers, NONE of what is not offered. Most tiles offer nothing: after n
    points the next one is among the k nearest with probability k / n.
    """
    largest = tl.max(kept, 0)
    worst = (
        tl.where(largest < 0, -1, NONE - 1)
        if BY_INDEX
        else tl.minimum((largest >> 32).to(tl.int32), NONE - 1)
    )
    if tl.max((tl.min(bits, 0) <= worst).to(tl.int32), 0) > 0:
        offered = tl.where(bits < NONE, neighbor_keys(bits, point, BY_INDEX), 0x7FFFFFFFFFFFFFFF)
        smallest = tl.min(offered, 0)
        while tl.max((smallest < largest).to(tl.int32), 0) > 0:
            better = (smallest < largest)[None, :]
            kept = tl.where(better & (kept == largest[None, :]), smallest[None, :], kept)
            offered = tl.where(offered == smallest[None, :], 0x7FFFFFFFFFFFFFFF, offered)
            smallest, largest = tl.min(offered, 0), tl.max(kept, 0)
    return kept


@triton.jit
def _gaps(x, y, z, asked, box, boxes, BOXES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Squared gaps between the box around the queries and those of the buckets, as integers of the same bits."""
    which = tl.arange(0, BOXES)
    there = which < boxes
    total = tl.zeros([BOXES], tl.float32)
    for axis in tl.static_range(3):
        value = x if axis == 0 else (y if axis == 1 else z)
        low = tl.min(tl.where(asked, value, float("inf")), 0)
        high = tl.max(tl.where(asked, value, -float("inf")), 0)
        below = tl.load(box + 6 * which + axis, mask=there, other=0.0) - high
        above = low - tl.load(box + 6 * which + 3 + axis, mask=there, other=0.0)
        apart = tl.maximum(tl.maximum(below, above), 0.0)
        total += apart * apart
    return tl.where(there, total, float("inf")).to(tl.int32, bitcast=True)
