# SPDX-License-Identifier: Apache-2.0
"""The search behind ``neighbors`` on the CPU: down a tree of Z-ordered buckets, nearest first, many queries at a time.

A list of neighbours is k descending integers with the squared distance in the high half and the index in the
low half, so that one comparison orders by distance and then by index; a ball query by index swaps the halves.
The best key that a node could hold (gap to its box, lowest index in it) prunes it in the same comparison,
which also ends the search early among points that coincide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .bucket_tree import buckets_near, build, squared_gap, z_sorted
from .search_lanes import LANES, LIST, insert, lowest_bit, near_lanes

__all__ = ["BUCKET", "build", "search", "z_sorted"]

BUCKET = 64
TOGETHER = 32
"""Queries that share one walk through the tree."""
MOST_NEAR = 64
"""Where more buckets are near to them, each walks alone."""
EMPTY = np.iinfo(np.int64).max
DEEPEST = 64
"""Room on the stack: one waiting node per level, of which there are at most 32."""


@njit(cache=True, nogil=True)
def search(  # type: ignore[no-untyped-def]
    tree, queries: np.ndarray, which: np.ndarray, limit: float, by_index: bool, base: int, index, distance
) -> None:
    """Write the neighbours of the queries ``which`` to their rows.

    Of queries that lie together the middle one walks down the tree; how far its neighbours are bounds how far those of
    the others can be. The tree is asked once which buckets are that near to any of them, and each looks at those.

    Args:
        tree: ``bucket_tree.build`` of the points.
        which: rows of queries in Z-order: near ones one after the other.
        limit: squared distance that neighbours must be below, inf for none.
        base: added to every index found.
        index, distance: (M, k) int64 and float32, a row for each query; those of ``which`` are written.
    """
    order, xyz, box, lowest = tree
    px, py, pz = xyz[0], xyz[1], xyz[2]
    n_buckets, k = len(box) // 2, index.shape[1]
    keys = new_list(k)
    square, room = np.empty(LANES, np.float32), np.empty(LANES, np.int64)
    nodes, bounds = np.empty(DEEPEST, np.int64), np.empty(max(DEEPEST, MOST_NEAR), np.int64)
    near, near_lowest = np.empty(MOST_NEAR, np.int64), np.empty(MOST_NEAR, np.int64)
    near_box, around = np.empty((6, MOST_NEAR), np.float32), np.empty((2, 3), np.float32)
    keys[0] = EMPTY
    x = y = z = np.float32(0)
    for start in range(0, len(which), TOGETHER):
        batch = which[start : start + TOGETHER]
        middle, n_near = len(batch) // 2, -1
        for turn in range(-1, len(batch)):
            if turn == middle:
                continue
            row = batch[middle if turn < 0 else turn]
            past = _gap(queries[row, 0] - x, queries[row, 1] - y, queries[row, 2] - z)
            x, y, z = queries[row, 0], queries[row, 1], queries[row, 2]
            reach = _bound(keys, past, limit, by_index)
            keys[:k] = EMPTY
            if n_near < 0:
                nodes[0], bounds[0], depth = 1, -1, 1
            else:
                depth = n_near
                _bounds(near_box, near_lowest, x, y, z, reach, by_index, bounds, n_near)
            while depth:  # one loop for both, here: in functions of their own they take 6 to 9 % longer
                depth -= 1
                if bounds[depth] >= keys[0]:
                    continue
                if n_near < 0:
                    node, depth = _descend(
                        box, lowest, nodes, bounds, depth, x, y, z, reach, by_index, keys[0]
                    )
                else:
                    node = near[depth]
                if node >= n_buckets:
                    begin, end = _places(node - n_buckets, n_buckets, len(order))
                    _take_bucket(
                        px, py, pz, order, begin, end, x, y, z, reach, by_index, square, room, keys, k
                    )
            write_keys(keys, k, by_index, base, index, distance, row)
            if turn < 0:
                reach = _bound(keys, _around(queries, batch, row, around), limit, by_index)
                n_near = buckets_near(box, around, reach, nodes, near)
                _gather(box, lowest, near, n_near, near_box, near_lowest)


@njit(cache=True, nogil=True, inline="always")
def _places(bucket, n_buckets, n_points):  # type: ignore[no-untyped-def]
    """Places of a bucket's first point and behind its last one, as ``bucket_tree.build`` cuts them."""
    return bucket * n_points // n_buckets, (bucket + 1) * n_points // n_buckets


@njit(cache=True, nogil=True, inline="always")
def _bound(keys, past, limit, by_index):  # type: ignore[no-untyped-def]
    """Squared distance that the k nearest of a query lie within, by those of a query ``past`` metres away."""
    return limit if by_index or keys[0] == EMPTY else min(limit, _reach(keys[0], past))


@njit(cache=True, nogil=True)
def _gather(box, lowest, near, n_near, near_box, near_lowest):  # type: ignore[no-untyped-def]
    """Write boxes and lowest points of the buckets near to a batch side by side, as ``_bounds`` reads them."""
    for i in range(n_near):
        near_lowest[i] = lowest[near[i]]
        for side in range(6):
            near_box[side, i] = box[near[i], side]


@njit(cache=True, nogil=True)
def _around(queries, batch, middle, around):  # type: ignore[no-untyped-def]
    """Write lowest and highest coordinates of a batch; return how far its furthest query is from row ``middle``."""
    around[0], around[1] = queries[middle], queries[middle]
    x, y, z = queries[middle, 0], queries[middle, 1], queries[middle, 2]
    furthest = np.float32(0)
    for row in batch:
        for axis in range(3):
            around[0, axis] = min(around[0, axis], queries[row, axis])
            around[1, axis] = max(around[1, axis], queries[row, axis])
        furthest = max(furthest, _gap(queries[row, 0] - x, queries[row, 1] - y, queries[row, 2] - z))
    return furthest


@njit(cache=True, nogil=True)
def _bounds(near_box, near_lowest, x, y, z, reach, by_index, bounds, n):  # type: ignore[no-untyped-def]
    """Write the best key that each of ``n`` buckets could hold, all at once as ``_descend`` does for one."""
    for j in range(n):
        i = np.uint64(j)
        dx = max(max(near_box[0, i] - x, x - near_box[3, i]), np.float32(0))
        dy = max(max(near_box[1, i] - y, y - near_box[4, i]), np.float32(0))
        dz = max(max(near_box[2, i] - z, z - near_box[5, i]), np.float32(0))
        bounds[i] = key_of(dx * dx + dy * dy + dz * dz, near_lowest[i], reach, by_index)


@njit(cache=True, nogil=True, inline="always")
def _descend(  # type: ignore[no-untyped-def]
    box, lowest, nodes, bounds, depth, x, y, z, reach, by_index, last
):
    """Go from the node on top of the stack down the nearer children, leaving the others on the stack.

    Returns:
        The bucket's node, or one above it where even the nearer child holds nothing better than ``last``;
        the new depth of the stack.
    """
    node = nodes[depth]
    while node < len(box) // 2:
        near, far = 2 * node, 2 * node + 1
        to_near = key_of(squared_gap(box, near, x, y, z), lowest[near], reach, by_index)
        to_far = key_of(squared_gap(box, far, x, y, z), lowest[far], reach, by_index)
        if to_far < to_near:
            near, far, to_near, to_far = far, near, to_far, to_near
        if to_far < last:
            nodes[depth], bounds[depth] = far, to_far
            depth += 1
        if to_near >= last:
            break
        node = near
    return node, depth


@njit(cache=True, nogil=True)
def _gap(dx, dy, dz):  # type: ignore[no-untyped-def]
    return np.sqrt(dx * dx + dy * dy + dz * dz)


@njit(cache=True, nogil=True)
def _reach(last: int, past: float) -> float:
    """Squared distance that bounds the k nearest, from the last query's k-th and the way from there.

    The triangle inequality, with a margin for rounding: that keeps far points from passing through the list.
    """
    reach = (np.sqrt(_squared(last)) + past) * np.float32(1.00001) + np.float32(1e-18)
    return reach * reach


@njit(cache=True, nogil=True, inline="always")
def _squared(key):  # type: ignore[no-untyped-def]
    """Squared distance in the high half of a key; infinite in ``EMPTY``."""
    return np.float32(np.inf) if key == EMPTY else np.int32(key >> 32).view(np.float32)


@njit(cache=True, nogil=True, inline="always")
def key_of(squared, point, limit, by_index):  # type: ignore[no-untyped-def]
    """Return the key of a point at a squared distance; ``EMPTY`` where that is not below ``limit``."""
    # A float that is not negative orders like the integer of the same bits.
    bits = np.int64(np.float32(squared).view(np.int32))
    key = (np.int64(point) << 32 | bits) if by_index else (bits << 32 | np.int64(point))
    return key if squared < limit else np.int64(EMPTY)


@njit(cache=True, nogil=True, inline="always")
def _take_bucket(  # type: ignore[no-untyped-def]
    px, py, pz, order, begin, end, x, y, z, limit, by_index, square, room, keys, k
):
    """Put the points at places begin .. end - 1 into the list, as far as they belong there."""
    # A point at the distance of the last of the list may have a lower index.
    worst = np.float32(np.inf) if by_index else _squared(keys[0])
    for start in range(begin, end, LANES):
        at = np.uint64(start)
        near: Any = near_lanes(px, py, pz, at, x, y, z, limit, worst, square)  # type: ignore[call-arg]
        if end - start < LANES:
            near &= (np.uint64(1) << np.uint64(end - start)) - np.uint64(1)
        n = np.uint64(0)
        while near:
            lane = lowest_bit(near)
            near &= near - np.uint64(1)
            room[n] = key_of(square[lane], order[at + lane], limit, by_index)
            n += np.uint64(1)
        if n > 0:
            insert(room, n, keys, k)


@njit(cache=True, nogil=True)
def new_list(k):  # type: ignore[no-untyped-def]
    """Return room for the list of k neighbours, with a sentinel behind the smallest."""
    return np.full(max(k + 1, LIST), np.int64(-1))


@njit(cache=True, nogil=True)
def write_keys(  # type: ignore[no-untyped-def]
    keys: np.ndarray, k: int, by_index: bool, base: int, index: np.ndarray, distance: np.ndarray, row: int
) -> None:
    """Write a query's list to its row, nearest (or lowest index) first; index -1 and distance inf where it is short."""
    for place in range(k):
        key = keys[k - 1 - place]
        high, low = key >> 32, key & np.int64(0xFFFFFFFF)
        point, bits = (high, low) if by_index else (low, high)
        found = key != np.int64(EMPTY)
        index[row, place] = point + base if found else -1
        distance[row, place] = np.sqrt(np.int32(bits).view(np.float32)) if found else np.float32(np.inf)
