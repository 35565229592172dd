# SPDX-License-Identifier: Apache-2.0
"""Turn all points of a cloud: three numbers a row are too few for a matrix product to be quick."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .parallel import run_blocks


def rotate(points: NDArray[np.float32], R: NDArray) -> NDArray[np.float32]:
    """Return ``points @ R.T`` for (N, 3) float32 points and a (3, 3) rotation, O(N); NaN and Inf give such rows."""
    points, R = np.ascontiguousarray(points), R.astype(np.float32)
    out = np.empty_like(points)
    run_blocks(lambda a, b: _rotate(points[a:b], R, out[a:b]), len(points))
    return out


@njit(cache=True, nogil=True)
def _rotate(points: NDArray[np.float32], R: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for axis in range(3):
            out[i, axis] = R[axis, 0] * x + R[axis, 1] * y + R[axis, 2] * z
