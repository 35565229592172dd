# SPDX-License-Identifier: Apache-2.0
"""Project points into an image and read it there, point by point: the inner loop of ``alignment``."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calibration.camera import CameraModel


def camera_values(camera: CameraModel, shrink: int = 1) -> NDArray[np.float64]:
    """(22,) what ``_project`` needs: K, whether it is a fisheye, its largest angle, size, and 12 coefficients.

    Of pictures in which ``shrink`` x ``shrink`` pixels have become one.
    """
    K = camera.K.copy()
    K[:2, 2] -= (shrink - 1) / 2  # the middle of the first block
    K[:2] /= shrink
    head = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], K[0, 1], camera.is_fisheye, camera.max_angle_rad]
    size = [camera.width // shrink, camera.height // shrink]
    return np.r_[head, size, np.pad(camera.D, (0, 13 - len(camera.D)))].astype(np.float64)


@njit(cache=True, nogil=True)
def _project(c, x, y, z):  # type: ignore[no-untyped-def]
    """Pixel of a point in the optical frame, (-1, -1) where it is not in the picture; as ``CameraModel.project``."""
    across = np.sqrt(x * x + y * y)
    angle = np.arctan2(across, z)
    if not angle < c[6]:
        return -1.0, -1.0
    d = c[9:]
    if c[5] > 0:
        s = angle * angle
        bent = angle * (1 + s * (d[0] + s * (d[1] + s * (d[2] + s * d[3]))))
        scale = bent / max(across, 1e-12)
        a, b = x * scale, y * scale
    else:
        p, q = x / z, y / z
        r = p * p + q * q
        radial = (1 + r * (d[0] + r * (d[1] + r * d[4]))) / (1 + r * (d[5] + r * (d[6] + r * d[7])))
        a = p * radial + 2 * d[2] * p * q + d[3] * (r + 2 * p * p) + r * (d[8] + r * d[9])
        b = q * radial + d[2] * (r + 2 * q * q) + 2 * d[3] * p * q + r * (d[10] + r * d[11])
    u, v = c[0] * a + c[4] * b + c[2], c[1] * b + c[3]
    if u > -0.5 and v > -0.5 and u < c[7] - 0.5 and v < c[8] - 0.5:
        return min(max(u, 0.0), c[7] - 1.001), min(max(v, 0.0), c[8] - 1.001)
    return -1.0, -1.0


@njit(cache=True, nogil=True)
def _read(image, u, v):  # type: ignore[no-untyped-def]
    j, i = int(u), int(v)
    a, b = v - i, u - j
    top = image[i, j] * (1 - b) + image[i, j + 1] * b
    low = image[i + 1, j] * (1 - b) + image[i + 1, j + 1] * b
    return top * (1 - a) + low * a


@njit(cache=True, nogil=True)
def sum_edges(xyz, upright, T, c, across, down):  # type: ignore[no-untyped-def]
    """Sum of ``across`` under upright edges and of ``down`` under the others; 0 for those outside."""
    total = 0.0
    for k in range(len(xyz)):
        x, y, z = xyz[k, 0], xyz[k, 1], xyz[k, 2]
        u, v = _project(
            c,
            T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3],
            T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3],
            T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3],
        )
        if u >= 0:
            total += _read(across, u, v) if upright[k] else _read(down, u, v)
    return total


@njit(cache=True, nogil=True)
def count_pairs(xyz, rows, T, c, grey, counts):  # type: ignore[no-untyped-def]
    """Add each visible point to ``counts[its row, its grey value's bin]``, shared between the two nearest bins."""
    last = counts.shape[1] - 1
    for k in range(len(xyz)):
        x, y, z = xyz[k, 0], xyz[k, 1], xyz[k, 2]
        u, v = _project(
            c,
            T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3],
            T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3],
            T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3],
        )
        if u >= 0:
            value = _read(grey, u, v) * last
            low = min(int(value), last - 1)
            counts[rows[k], low] += 1 - (value - low)
            counts[rows[k], low + 1] += value - low
