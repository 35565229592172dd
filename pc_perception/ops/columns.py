# SPDX-License-Identifier: Apache-2.0
"""Points by column: kernels that walk x, y and z apart become vector instructions, over rows of three they do not."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def columns_of(points: np.ndarray) -> np.ndarray:
    """Return the contiguous (3, N) transpose of (N, 3) points."""
    columns = np.empty((3, len(points)), points.dtype)
    x, y, z = columns[0], columns[1], columns[2]
    for i in range(len(points)):
        x[i], y[i], z[i] = points[i, 0], points[i, 1], points[i, 2]
    return columns
