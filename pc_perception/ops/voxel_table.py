# SPDX-License-Identifier: Apache-2.0
"""Hash tables of voxels, for Numba kernels: one to number them as they come, one to look around a voxel."""

from __future__ import annotations

import numpy as np
from numba import njit

MARGIN = 2
"""Voxels up to this far outside of 0 .. 2^20 - 1 can be asked for."""

Table = tuple[np.ndarray, np.ndarray, int]
"""Keys (-1 where free) and rows of the slots, and how far a hash is shifted to give a slot."""


@njit(cache=True, nogil=True)
def pack(x: int, y: int, z: int) -> int:
    """One integer per voxel; keys of differences add up like coordinates (no carry into the next axis)."""
    return (x + MARGIN) + ((y + MARGIN) << 21) + ((z + MARGIN) << 42)


@njit(cache=True, nogil=True)
def _slot(key: int, shift: int) -> np.int64:
    # Fibonacci hashing: the high bits of key * 2^64/phi are well mixed.
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(shift))


@njit(cache=True, nogil=True)
def build_table(coords: np.ndarray) -> Table:
    """Enter (M, 3) int64 distinct coordinates, each in 0 .. 2^20 - 1. O(M)."""
    shift = 60
    while (1 << (64 - shift)) < 3 * len(coords):
        shift -= 1
    keys = np.full(1 << (64 - shift), -1, np.int64)
    rows = np.empty(len(keys), np.int32)
    for i in range(len(coords)):
        key = pack(coords[i, 0], coords[i, 1], coords[i, 2])
        slot = _slot(key, shift)
        while keys[slot] != -1:
            slot = (slot + 1) & (len(keys) - 1)
        keys[slot], rows[slot] = key, i
    return keys, rows, shift


@njit(cache=True, nogil=True)
def find(keys: np.ndarray, rows: np.ndarray, shift: int, wanted: int) -> int:
    """Return the row of a packed voxel, -1 where it is free. The table goes apart: a tuple costs reference counts."""
    slot = _slot(wanted, shift)
    while keys[slot] != -1:
        if keys[slot] == wanted:
            return rows[slot]
        slot = (slot + 1) & (len(keys) - 1)
    return -1


@njit(cache=True, nogil=True)
def number_codes(codes, table, unique, first, inverse):  # type: ignore[no-untyped-def]
    """Number (N,) int64 codes, none negative, in the order in which they are first seen. O(N).

    Args:
        table: (S,) int32 to work in, S of at least 2 N + 1; 4 N cost fewer collisions.
        unique, first, inverse: (N,) int64, receive the M distinct codes, the place of each one's first, and the
            number of every code.

    Returns:
        M. Whether a code is new is as hard to foresee as the scene: what follows from it is written without a
        branch, over values that the next code sets right.
    """
    size, number = np.uint64(len(table)), np.uint32(0)
    table[:] = np.int32(-1)
    for i in range(len(codes)):
        code = codes[i]
        unique[number], first[number] = code, i
        slot = ((np.uint64(code) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) * size >> np.uint64(32)
        is_new = table[slot] < 0
        row = number if is_new else np.uint32(table[slot])
        while unique[row] != code:  # another voxel's slot
            slot = slot + np.uint64(1) if slot + np.uint64(1) < size else np.uint64(0)
            is_new = table[slot] < 0
            row = number if is_new else np.uint32(table[slot])
        table[slot], inverse[i] = np.int32(row), np.int64(row)
        number += np.uint32(is_new)
    return number
