# SPDX-License-Identifier: Apache-2.0
"""Neighbours of voxels on the CPU: sort them by rows along x and let nine pointers walk along with each voxel."""

from __future__ import annotations

import numpy as np
from numba import njit

from .parallel import run_blocks
from .radix_sort import sort_codes

OFFSET_BITS = 5
"""What an entry's lowest bits hold: which of the 27 places around the voxel."""
MOST_ROWS = 1 << (32 - OFFSET_BITS)


def list_neighbors(coords: np.ndarray, lists: np.ndarray, count: np.ndarray, first: int = 0) -> None:
    """Write the occupied voxels among each one and the 26 around it; O(M).

    Args:
        coords: (M, 3) int64, distinct, each in 0 .. 2^20 - 1.
        lists: (M, 27) uint32, takes ``first`` + row << 5 | k in the order of k = 9 (dz + 1) + 3 (dy + 1) + (dx + 1).
        count: (M,) int32, takes how many of them there are.
        first: number of the first of these voxels where they are one scene of several.

    Raises:
        ValueError: more voxels than an entry can name.
    """
    if first + len(coords) > MOST_ROWS:
        raise ValueError(f"at most {MOST_ROWS} voxels can be related, got {first + len(coords)}")
    keys, steps, bits = _row_major(coords)
    keys, order = sort_codes(keys, bits)
    run_blocks(lambda a, b: _walk(keys, order, steps, a, b, first, lists, count), len(coords))


@njit(cache=True, nogil=True)
def _row_major(coords: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """One integer per voxel, x fastest, with a free place before and after each row; its steps in x, y and z."""
    low, high = np.full(3, 1 << 40, np.int64), np.full(3, -1, np.int64)
    for i in range(len(coords)):
        for axis in range(3):
            low[axis] = min(low[axis], coords[i, axis])
            high[axis] = max(high[axis], coords[i, axis])
    steps = np.ones(3, np.int64)
    steps[1] = high[0] - low[0] + 3
    steps[2] = steps[1] * (high[1] - low[1] + 3)
    keys = np.empty(len(coords), np.int64)
    largest = np.int64(1)
    for i in range(len(coords)):
        keys[i] = 1 + coords[i, 0] - low[0]
        keys[i] += (1 + coords[i, 1] - low[1]) * steps[1] + (1 + coords[i, 2] - low[2]) * steps[2]
        largest = max(largest, keys[i])
    bits = 1
    while largest >> bits:
        bits += 1
    return keys, steps, bits


@njit(cache=True, nogil=True)
def _walk(keys, order, steps, begin, end, base, lists, count):  # type: ignore[no-untyped-def]
    """List the neighbours of the voxels begin .. end - 1 of ascending ``keys``.

    While a voxel moves on, so do the nine rows of three around it: nine pointers that only go forward find all
    neighbours without a search, from memory that is read in order.
    """
    n = len(keys)
    at, shift = np.empty(9, np.int64), np.empty(9, np.int64)
    for r in range(9):
        shift[r] = (r // 3 - 1) * steps[2] + (r % 3 - 1) * steps[1] - 1
        at[r] = np.searchsorted(keys, keys[begin] + shift[r])
    for i in range(begin, end):
        entries = lists[order[i]]
        found = 0
        for r in range(9):
            first = keys[i] + shift[r]
            j = at[r]
            while j < n and keys[j] < first:
                j += 1
            at[r] = j
            while j < n and keys[j] <= first + 2:
                place = 3 * r + keys[j] - first
                entries[found] = (base + np.int64(order[j])) << OFFSET_BITS | place
                found += 1
                j += 1
        count[order[i]] = found
