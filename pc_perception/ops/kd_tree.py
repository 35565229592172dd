# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbour among many points of uneven density: a balanced k-d tree (Bentley, 1975; Friedman et al., 1977).

Every level halves each run of points at the median of its widest axis, so node k of a level is known by its
number alone and there are no pointers.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LEAF = 16
"""At most this many points stay together."""

Tree = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Points (M, 3) in tree order, their original rows (M,) int64, axis and coordinate of each split (2^levels,)."""


@njit(cache=True, nogil=True)
def build_tree(points: np.ndarray) -> Tree:
    """Sort (M, 3) finite points, M >= 1, into a tree. O(M log M)."""
    n = len(points)
    levels = 0
    while (n + (1 << levels) - 1) >> levels > LEAF:
        levels += 1
    ordered, rows = points.copy(), np.arange(n)
    axis, split = np.zeros(1 << levels, np.int8), np.zeros(1 << levels, points.dtype)
    for level in range(levels):
        for k in range(1 << level):
            start, stop = n * k >> level, n * (k + 1) >> level
            middle = n * (2 * k + 1) >> (level + 1)
            widest = _widest_axis(ordered, start, stop)
            _select(ordered, rows, start, stop - 1, middle, widest)
            axis[(1 << level) - 1 + k], split[(1 << level) - 1 + k] = widest, ordered[middle, widest]
    return ordered, rows, axis, split


@njit(cache=True, nogil=True)
def _widest_axis(points: np.ndarray, start: int, stop: int) -> int:
    widest, extent = 0, points[start, 0] * 0 - 1
    for a in range(3):
        low = high = points[start, a]
        for i in range(start + 1, stop):
            low, high = min(low, points[i, a]), max(high, points[i, a])
        if high - low > extent:
            widest, extent = a, high - low
    return widest


@njit(cache=True, nogil=True)
def _select(points: np.ndarray, rows: np.ndarray, first: int, last: int, middle: int, axis: int) -> None:
    """Move points until none before ``middle`` exceeds it and none after is less (Hoare, 1961)."""
    while first < last:
        pivot = points[(first + last) // 2, axis]
        i, j = first, last
        while i <= j:
            while points[i, axis] < pivot:
                i += 1
            while points[j, axis] > pivot:
                j -= 1
            if i <= j:
                for a in range(3):
                    points[i, a], points[j, a] = points[j, a], points[i, a]
                rows[i], rows[j] = rows[j], rows[i]
                i += 1
                j -= 1
        if middle <= j:
            last = j
        elif middle >= i:
            first = i
        else:
            return


@njit(cache=True, nogil=True)
def nearest_in_tree(
    tree: Tree, queries: np.ndarray, order: np.ndarray, square: np.ndarray, found: np.ndarray
):  # type: ignore[no-untyped-def]
    """Write squared distance and row of the point nearest to each query, the lowest row of equally near ones.

    Args:
        queries: (N, 3) of the dtype of the tree.
        order: rows of the queries to serve, near ones one after the other: each starts from the last answer.
        square, found: (N,) results in the order of ``queries``. About O(log M) a query.
    """
    points, rows, axis, split = tree
    n, n_inner = len(points), len(split) - 1
    todo = np.empty(64, np.int64)
    gaps = np.empty((64, 3), points.dtype)
    guess = 0
    for q in order:
        x, y, z = queries[q, 0], queries[q, 1], queries[q, 2]
        best = (points[guess, 0] - x) ** 2 + (points[guess, 1] - y) ** 2 + (points[guess, 2] - z) ** 2
        todo[0] = 0
        gaps[0] = 0
        depth = 1
        while depth:
            depth -= 1
            node, gx, gy, gz = todo[depth], gaps[depth, 0], gaps[depth, 1], gaps[depth, 2]
            # Same order of sums as for a distance: rounding cannot hide a point that is equally near.
            if gx * gx + gy * gy + gz * gz > best:
                continue
            while node < n_inner:
                a = axis[node]
                beyond = queries[q, a] - split[node]
                right = beyond >= 0
                todo[depth] = 2 * node + (1 if right else 2)
                gaps[depth, 0], gaps[depth, 1], gaps[depth, 2] = gx, gy, gz
                gaps[depth, a] = beyond
                depth += 1
                node = 2 * node + (2 if right else 1)
            k, leaves = node - n_inner, n_inner + 1
            for i in range(n * k // leaves, n * (k + 1) // leaves):
                dx, dy, dz = points[i, 0] - x, points[i, 1] - y, points[i, 2] - z
                d = dx * dx + dy * dy + dz * dz
                if d < best or (d == best and rows[i] < rows[guess]):
                    best, guess = d, i
        square[q], found[q] = best, rows[guess]
