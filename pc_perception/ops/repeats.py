# SPDX-License-Identifier: Apache-2.0
"""Points that a cloud holds twice: a sensor in dual return mode sends most of its points so."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def first_equal(xyz: NDArray[np.float32]) -> NDArray[np.int64] | None:
    """Return for every point the index of the first one with the same coordinates, bit by bit; None: all differ.

    Args:
        xyz: (N, 3) float32; NaN are equal to NaN of the same bits.

    Returns:
        (N,) int64, its own index where a point is the first. O(N).
    """
    bits = np.ascontiguousarray(xyz).view(np.uint32)
    table = np.full(1 << max(2 * len(xyz) - 1, 1).bit_length(), -1, np.int32)
    first = np.empty(len(xyz), np.int64)
    return first if _first_equal(bits, table, first) else None


@njit(cache=True, nogil=True)
def _first_equal(bits: np.ndarray, table: np.ndarray, first: np.ndarray) -> int:
    mask, n_repeats = np.uint64(len(table) - 1), 0
    for i in range(len(first)):
        x, y, z = bits[i, 0], bits[i, 1], bits[i, 2]
        mixed = (np.uint64(x) << np.uint64(32) | np.uint64(y)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ mixed >> np.uint64(32) ^ np.uint64(z)) * np.uint64(0xBF58476D1CE4E5B9)
        slot = mixed >> np.uint64(32) & mask
        j = table[slot]
        while j >= 0 and not (bits[j, 0] == x and bits[j, 1] == y and bits[j, 2] == z):
            slot = slot + np.uint64(1) & mask
            j = table[slot]
        if j < 0:
            table[slot] = first[i] = i
        else:
            first[i] = j
            n_repeats += 1
    return n_repeats
