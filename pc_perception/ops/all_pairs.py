# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbour among few points: look at every pair and keep none."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def nearest_of_all(a: np.ndarray, b: np.ndarray, square: np.ndarray, index: np.ndarray) -> None:
    """Nearest of ``b`` for every point of ``a``, scene by scene: four b at a time are held against all a."""
    n, last = a.shape[1], b.shape[1] - 1
    # All scenes first: a vector read right after its numbers were written one by one would have to wait for them.
    columns = np.empty((len(a), 3, n), a.dtype)
    for s in range(len(a)):
        x, y, z = columns[s, 0], columns[s, 1], columns[s, 2]
        best, found = square[s], index[s]
        for i in range(n):
            x[i], y[i], z[i] = a[s, i, 0], a[s, i, 1], a[s, i, 2]
            best[i], found[i] = np.inf, 0
    for s in range(len(a)):
        x, y, z = columns[s, 0], columns[s, 1], columns[s, 2]
        best, found, others = square[s], index[s], b[s]
        for j in range(0, last + 1, 4):
            # At the end the last one comes again, which changes nothing.
            j1, j2, j3 = min(j + 1, last), min(j + 2, last), min(j + 3, last)
            p0, p1, p2, p3 = _point(others, j), _point(others, j1), _point(others, j2), _point(others, j3)
            for i in range(n):
                d, k = _nearer(x[i], y[i], z[i], p0, best[i], found[i])
                d, k = _nearer(x[i], y[i], z[i], p1, d, k)
                d, k = _nearer(x[i], y[i], z[i], p2, d, k)
                best[i], found[i] = _nearer(x[i], y[i], z[i], p3, d, k)


@njit(inline="always")
def _point(cloud, row):  # type: ignore[no-untyped-def]
    return cloud[row, 0], cloud[row, 1], cloud[row, 2], np.int32(row)


@njit(inline="always")
def _nearer(x, y, z, point, best, found):  # type: ignore[no-untyped-def]
    dx, dy, dz = x - point[0], y - point[1], z - point[2]
    d = dx * dx + dy * dy + dz * dz
    closer = d < best
    return d if closer else best, point[3] if closer else found
