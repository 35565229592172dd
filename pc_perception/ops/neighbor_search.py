# SPDX-License-Identifier: Apache-2.0
"""The search behind ``neighbors`` on the CPU: sixteen queries at a time down one tree of buckets.

Queries that are neighbours in Z-order want nearly the same points. Sixteen of them walk the tree together,
nearest child first, and every point on the way is offered to all sixteen lists at once in vector
instructions. A list is k ascending integers, squared distance in the high half and index in the low half,
so that one comparison orders by distance and then by index; a ball query by index swaps the halves.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .bucket_tree import build, squared_gap, z_sorted

__all__ = ["BUCKET", "build", "search", "z_sorted"]

BUCKET = 16
LANES = 16
EMPTY = np.iinfo(np.int64).max
DEEPEST = 64
"""Room on the stack: one waiting node per level, of which there are at most 32."""


@njit(cache=True, nogil=True)
def search(  # type: ignore[no-untyped-def]
    tree, queries: np.ndarray, which: np.ndarray, limit: float, by_index: bool, base: int, index, distance
) -> None:
    """Write the neighbours of the queries ``which`` (int32, in Z-order) to their rows.

    Args:
        tree: ``bucket_tree.build`` of the points.
        limit: squared distance that neighbours must be below, inf for none.
        base: added to every index found.
    """
    order, xyz, box, lowest = tree
    k = index.shape[1]
    n_buckets = len(box) // 2
    lists = np.empty((k, LANES), np.int64)
    at = np.empty((3, LANES), np.float32)
    offered = np.empty(LANES, np.int64)
    stack = np.empty(DEEPEST, np.int64)
    for group in range(0, len(which), LANES):
        n_lanes = min(LANES, len(which) - group)
        for lane in range(LANES):  # lanes to spare repeat the last query
            query = which[group + min(lane, n_lanes - 1)]
            for c in range(3):
                at[c, lane] = queries[query, c]
        lists[:] = EMPTY
        stack[0], depth = 1, 1
        while depth:
            depth -= 1
            node = stack[depth]
            if not _offer_box(box[node], lowest[node], at, limit, by_index, offered, lists[k - 1]):
                continue
            if node >= n_buckets:
                bucket = node - n_buckets
                for place in range(bucket * len(order) // n_buckets, (bucket + 1) * len(order) // n_buckets):
                    x, y, z = xyz[0, place], xyz[1, place], xyz[2, place]
                    if _offer_point(x, y, z, order[place], at, limit, by_index, offered, lists[k - 1]):
                        _insert(offered, lists)
                continue
            x, y, z = at[0, LANES // 2], at[1, LANES // 2], at[2, LANES // 2]
            second = squared_gap(box, 2 * node + 1, x, y, z) < squared_gap(box, 2 * node, x, y, z)
            near = 2 * node + 1 if second else 2 * node
            stack[depth], stack[depth + 1] = near ^ 1, near
            depth += 2
        for lane in range(n_lanes):
            row = which[group + lane]
            _write(lists, lane, by_index, base, index[row], distance[row])


@njit(cache=True, nogil=True, inline="always")
def _key(squared: float, point: int, limit: float, by_index: bool) -> int:
    # A float that is not negative orders like the integer of the same bits.
    bits = np.int64(np.float32(squared).view(np.int32))
    key = (np.int64(point) << 32 | bits) if by_index else (bits << 32 | np.int64(point))
    return key if squared < limit else np.int64(EMPTY)


@njit(cache=True, nogil=True)
def _offer_box(  # type: ignore[no-untyped-def]
    box: np.ndarray, lowest: int, at: np.ndarray, limit: float, by_index: bool, offered, worst
) -> bool:
    """Return whether any list might take a point of the box: the best it could hold beats the list's last."""
    zero = np.float32(0)
    qx, qy, qz = at[0], at[1], at[2]
    x_low, y_low, z_low, x_high, y_high, z_high = box[0], box[1], box[2], box[3], box[4], box[5]
    better = 0
    for lane in range(LANES):
        dx = max(max(x_low - qx[lane], qx[lane] - x_high), zero)
        dy = max(max(y_low - qy[lane], qy[lane] - y_high), zero)
        dz = max(max(z_low - qz[lane], qz[lane] - z_high), zero)
        offered[lane] = _key(dx * dx + dy * dy + dz * dz, lowest, limit, by_index)
    for lane in range(LANES):
        better += offered[lane] < worst[lane]
    return better > 0


@njit(cache=True, nogil=True)
def _offer_point(  # type: ignore[no-untyped-def]
    x: float, y: float, z: float, point: int, at: np.ndarray, limit: float, by_index: bool, offered, worst
) -> bool:
    """Write each lane's key of the point; return whether any list takes it."""
    qx, qy, qz = at[0], at[1], at[2]
    better = 0
    for lane in range(LANES):
        dx, dy, dz = qx[lane] - x, qy[lane] - y, qz[lane] - z
        offered[lane] = _key(dx * dx + dy * dy + dz * dz, point, limit, by_index)
    for lane in range(LANES):
        better += offered[lane] < worst[lane]
    return better > 0


@njit(cache=True, nogil=True)
def _insert(offered: np.ndarray, lists: np.ndarray) -> None:
    """Pass each lane's key down its ascending list: every place keeps the smaller, hands on the larger."""
    for place in range(len(lists)):
        row = lists[place]
        for lane in range(LANES):
            a, b = row[lane], offered[lane]
            row[lane] = a if a < b else b
            offered[lane] = b if a < b else a


@njit(cache=True, nogil=True)
def _write(  # type: ignore[no-untyped-def]
    lists: np.ndarray, lane: int, by_index: bool, base: int, index: np.ndarray, distance: np.ndarray
) -> None:
    for place in range(len(lists)):
        key = lists[place, lane]
        high, low = key >> 32, key & np.int64(0xFFFFFFFF)
        point, bits = (high, low) if by_index else (low, high)
        found = key != np.int64(EMPTY)
        index[place] = point + base if found else -1
        distance[place] = np.sqrt(np.int32(bits).view(np.float32)) if found else np.float32(np.inf)
