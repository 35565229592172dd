# SPDX-License-Identifier: Apache-2.0
"""Points by column: kernels that walk x, y and z apart become vector instructions, over rows of three they do not."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def columns_of(points: np.ndarray) -> np.ndarray:
    """Return the contiguous (3, N) transpose of (N, 3) points."""
    columns = np.empty((3, len(points)), points.dtype)
    to_columns(np.ascontiguousarray(points).reshape(-1), columns)
    return columns


@njit(cache=True, nogil=True)
def to_columns(coordinates: np.ndarray, columns: np.ndarray) -> None:
    """Write the transpose of points, given as (3 N,) x, y, z one after the other, to (3, N) ``columns``.

    Read with one index that cannot be negative, three at a time become vector instructions.
    """
    x, y, z = columns[0], columns[1], columns[2]
    for i in range(columns.shape[1]):
        k = np.uint64(3 * i)
        a, b, c = coordinates[k], coordinates[k + np.uint64(1)], coordinates[k + np.uint64(2)]
        x[i], y[i], z[i] = a, b, c


@njit(cache=True, nogil=True)
def ends_of(columns: np.ndarray) -> np.ndarray:
    """Return the (2, C) least and greatest values of (C, N) float32 columns, N >= 1; NaN and Inf show there."""
    ends = np.empty((2, len(columns)), np.int32)
    for axis in range(len(columns)):
        bits = columns[axis].view(np.int32)
        low, high = np.int32(2**31 - 1), np.int32(-(2**31))
        for i in range(len(bits)):
            low, high = min(low, _turned(bits[i])), max(high, _turned(bits[i]))
        ends[0, axis], ends[1, axis] = _turned(low), _turned(high)
    return ends.view(np.float32)


@njit(inline="always")
def _turned(bits):  # type: ignore[no-untyped-def]
    """Turn bits of a float32 into an integer of the same order, NaN outermost, or back: integers make vectors."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(2**31 - 1))
