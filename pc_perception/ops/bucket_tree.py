# SPDX-License-Identifier: Apache-2.0
"""Points in Z-order, cut into buckets with bounding boxes: what makes exact searches on the CPU fast.

A uniform grid degrades to brute force where points crowd; here a crowded cell is cut again by its own
bounding box, so the buckets follow the density. The buckets are the leaves of a binary tree in heap layout:
node i has the children 2 i and 2 i + 1, the root is 1, and with B buckets bucket b is node B + b.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SPARE = 64
"""Coordinates that may be read behind the last point's: searches read whole vectors."""
STEPS = 1024
"""Cells per axis of one level of cutting; 10 bits an axis, one digit of the radix sort per axis' share."""


@njit(cache=True, nogil=True)
def z_sorted(points: np.ndarray, crowd: int) -> np.ndarray:
    """Return the (N,) int32 order of (N, 3) finite points along the Z-order curve.

    Cells with more than ``crowd`` points are refined until their points are told apart or coincide; those
    that coincide keep their order. O(N) for each refinement by 1024, of which LiDAR scenes need one or two.
    """
    n = len(points)
    order = np.arange(n).astype(np.int32)
    codes = np.empty(n, np.int32)
    spare = np.empty((2, n), np.int32)
    pending = np.empty((n // crowd + 2, 2), np.int64)
    pending[0, 0], pending[0, 1] = 0, n
    n_pending = 1
    while n_pending:
        n_pending -= 1
        start, stop = pending[n_pending]
        if stop - start < 2 or not _cell_codes(points, order[start:stop], codes[start:stop]):
            continue
        _radix_sort(codes[start:stop], order[start:stop], spare)
        run = start
        for i in range(start + 1, stop + 1):
            if i == stop or codes[i] != codes[run]:
                if i - run > crowd:
                    pending[n_pending, 0], pending[n_pending, 1] = run, i
                    n_pending += 1
                run = i
    return order


@njit(cache=True, nogil=True)
def _cell_codes(points: np.ndarray, order: np.ndarray, codes: np.ndarray) -> bool:
    """Write the Z-order code of each point's cell in their own bounding box; False where all coincide."""
    low, high = points[order[0]].copy(), points[order[0]].copy()
    for i in order:
        for k in range(3):
            low[k] = min(low[k], points[i, k])
            high[k] = max(high[k], points[i, k])
    extent = np.float64(0)
    for k in range(3):
        width = np.float64(high[k]) - np.float64(low[k])
        extent = width if width > extent else extent
    if extent == 0.0:
        return False
    scale = STEPS / extent
    for j in range(len(order)):
        code = np.int32(0)
        for k in range(3):
            cell = np.int32((np.float64(points[order[j], k]) - np.float64(low[k])) * scale)
            v = min(cell, np.int32(STEPS - 1))
            # Two zero bits before each bit.
            v = (v | v << 16) & 0x30000FF
            v = (v | v << 8) & 0x300F00F
            v = (v | v << 4) & 0x30C30C3
            v = (v | v << 2) & 0x9249249
            code |= np.int32(v << k)
        codes[j] = code
    return True


@njit(cache=True, nogil=True)
def _radix_sort(codes: np.ndarray, order: np.ndarray, spare: np.ndarray) -> None:
    """Sort 30-bit codes and their companions in place, stably, by three digits of ten bits."""
    n = len(codes)
    place = np.zeros((3, 1024), np.int32)
    for code in codes:
        for digit in range(3):
            place[digit, (code >> 10 * digit) & 1023] += 1
    for digit in range(3):
        total = np.int32(0)
        for value in range(1024):
            count = place[digit, value]
            place[digit, value] = total
            total += count
    source = (codes, order)
    target = (spare[0, :n], spare[1, :n])
    for digit in range(3):
        for i in range(n):
            value = (source[0][i] >> 10 * digit) & 1023
            to = place[digit, value]
            place[digit, value] = to + 1
            target[0][to] = source[0][i]
            target[1][to] = source[1][i]
        source, target = target, source
    codes[:] = source[0]
    order[:] = source[1]


@njit(cache=True, nogil=True)
def build(points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut (N, 3) finite points, N >= 1, into a power of two of buckets of at most ``size`` points.

    Returns:
        order: (N,) int32, the point at each place; bucket b holds the places b N // B .. (b + 1) N // B.
        xyz: (3, N + SPARE) coordinates by place; what is behind them is not initialised.
        box: (2 B, 6) lowest and highest coordinates in each node; inverted for an empty bucket.
        lowest: (2 B,) int32, the lowest point index in each node.
    """
    n = len(points)
    order = z_sorted(points, size)
    n_buckets = 2
    while n_buckets * size < n:
        n_buckets *= 2
    xyz = np.empty((3, n + SPARE), points.dtype)
    box = np.empty((2 * n_buckets, 6), points.dtype)
    box[:, :3], box[:, 3:] = np.inf, -np.inf
    lowest = np.full(2 * n_buckets, np.iinfo(np.int32).max, np.int32)
    for b in range(n_buckets):
        node = box[n_buckets + b]
        for place in range(b * n // n_buckets, (b + 1) * n // n_buckets):
            point = order[place]
            lowest[n_buckets + b] = min(lowest[n_buckets + b], point)
            for k in range(3):
                v = points[point, k]
                xyz[k, place] = v
                node[k], node[3 + k] = min(node[k], v), max(node[3 + k], v)
    for i in range(n_buckets - 1, 0, -1):
        lowest[i] = min(lowest[2 * i], lowest[2 * i + 1])
        for k in range(3):
            box[i, k] = min(box[2 * i, k], box[2 * i + 1, k])
            box[i, 3 + k] = max(box[2 * i, 3 + k], box[2 * i + 1, 3 + k])
    return order, xyz, box, lowest


@njit(cache=True, nogil=True, inline="always")
def squared_gap(box: np.ndarray, node: int, x: float, y: float, z: float) -> float:
    """Squared distance from a point to a node's box, never above the rounded one to any point inside.

    Rounding is monotonic and the operations are those of the distance itself: hence no safety margin.
    """
    i = np.uint64(node)  # not negative: spares a check at each access
    dx = max(max(box[i, 0] - x, x - box[i, 3]), box.dtype.type(0))
    dy = max(max(box[i, 1] - y, y - box[i, 4]), box.dtype.type(0))
    dz = max(max(box[i, 2] - z, z - box[i, 5]), box.dtype.type(0))
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True)
def buckets_near(
    box: np.ndarray, around: np.ndarray, reach: float, nodes: np.ndarray, out: np.ndarray
) -> int:
    """Write the nodes of the buckets whose boxes are closer than ``reach`` to another box, the nearer ones last.

    Args:
        around: (2, 3) lowest and highest coordinates of the other box.
        reach: squared distance.
        nodes: room for one waiting node per level and one more.

    Returns:
        How many there are; -1 where ``out`` has no room for them.
    """
    n, depth = 0, 1
    nodes[0] = 1
    while depth:
        depth -= 1
        node = nodes[depth]
        if node >= len(box) // 2:
            if n == len(out):
                return -1
            out[n] = node
            n += 1
            continue
        near, far = 2 * node, 2 * node + 1
        to_near, to_far = _box_gap(box, near, around), _box_gap(box, far, around)
        if to_far < to_near:
            near, far, to_near, to_far = far, near, to_far, to_near
        for child, gap in ((near, to_near), (far, to_far)):
            if gap < reach:
                nodes[depth] = child
                depth += 1
    return n


@njit(cache=True, nogil=True, inline="always")
def _box_gap(box, node, around):  # type: ignore[no-untyped-def]
    """Squared distance between two boxes, never above the rounded one of any points inside; as ``squared_gap``."""
    i = np.uint64(node)
    dx = max(max(box[i, 0] - around[1, 0], around[0, 0] - box[i, 3]), box.dtype.type(0))
    dy = max(max(box[i, 1] - around[1, 1], around[0, 1] - box[i, 4]), box.dtype.type(0))
    dz = max(max(box[i, 2] - around[1, 2], around[0, 2] - box[i, 5]), box.dtype.type(0))
    return dx * dx + dy * dy + dz * dz
