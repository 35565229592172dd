# SPDX-License-Identifier: Apache-2.0
"""Planes through points of a sweep: found among others, fitted, and given a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_POINTS = 40
"""Fewer tell nothing."""
ON_PLANE_M = 0.04
"""Points nearer to a plane are taken to lie on it."""
_TRIALS = 50


def plane_through(xyz: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray] | None:
    """Find the plane that most points lie on, among random ones, and refine it.

    Args:
        xyz: (N, 3) metres, sensor frame.

    Returns:
        As ``fit_plane``, or None where fewer than ``LEAST_POINTS`` lie on it.
    """
    if len(xyz) < LEAST_POINTS:
        return None
    triples = xyz[rng.integers(len(xyz), size=(_TRIALS, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    length = np.linalg.norm(normals, axis=1)
    normals = normals[length > 1e-4] / length[length > 1e-4, None]
    if not len(normals):
        return None
    offsets = (normals * triples[length > 1e-4, 0]).sum(1)
    near = np.abs(xyz @ normals.T - offsets) < ON_PLANE_M
    best = near[:, int(near.sum(0).argmax())]
    for limit in (0.05, ON_PLANE_M, ON_PLANE_M):
        if best.sum() < LEAST_POINTS:
            return None
        normal, middle = fit_plane(xyz[best])
        best = np.abs((xyz - middle) @ normal) < limit
    return normal, middle


def fit_plane(xyz: NDArray) -> tuple[NDArray, NDArray]:
    """Fit a plane to (N, 3) points by least squares; return its (3,) unit normal towards the sensor and (3,) middle."""
    middle = xyz.mean(0)
    spread = xyz - middle
    normal = np.linalg.eigh(spread.T @ spread)[1][:, 0]
    return (-normal if normal @ middle > 0 else normal), middle


def plane_frame(normal: NDArray, origin: NDArray) -> NDArray:
    """Return the (4, 4) frame on a plane with z away from the sensor and x as level as it can be."""
    z = -normal
    x = np.cross([0.0, 0.0, -1.0], z)  # seen from the sensor to the right, as in an image
    if np.linalg.norm(x) < 0.1:
        x = np.cross([1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    T[:3, 3] = origin
    return T
