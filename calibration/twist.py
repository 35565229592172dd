# SPDX-License-Identifier: Apache-2.0
"""Small rigid motions as six numbers (rotation vector in rad, translation in m), and the size of a difference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc_perception.geometry import pose


def skew(v: NDArray) -> NDArray[np.float64]:
    """(..., 3, 3) matrices with ``skew(v) @ w == cross(v, w)``."""
    x, y, z = np.moveaxis(np.asarray(v, np.float64), -1, 0)
    o = np.zeros_like(x)
    return np.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*np.shape(v), 3)


def rotation(vector: NDArray) -> NDArray[np.float64]:
    """(3, 3) rotation of a rotation vector (3,), rad (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    W = skew(vector)
    if angle < 1e-8:
        return np.eye(3) + W + 0.5 * W @ W
    return np.eye(3) + np.sin(angle) / angle * W + (1 - np.cos(angle)) / angle**2 * W @ W


def rotation_vector(R: NDArray) -> NDArray[np.float64]:
    """(3,) rotation vector of a rotation matrix, rad; the inverse of ``rotation`` for angles below pi."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(R).as_rotvec()


def step(twist: NDArray) -> NDArray[np.float64]:
    """(4, 4) transform of a twist (6,): rotation vector, then translation as it stands (no coupling)."""
    return pose(twist[3:], rotation(twist[:3]))


def moved(T: NDArray, twist: NDArray) -> NDArray[np.float64]:
    """Return T turned in place by ``twist[:3]`` (target's axes) and shifted by ``twist[3:]``.

    Of T_camera_lidar: the LiDAR turns about its own origin, and its origin moves in the camera's frame.
    """
    return pose(T[:3, 3] + twist[3:], rotation(twist[:3]) @ T[:3, :3])


def move_between(T_new: NDArray, T_old: NDArray) -> NDArray[np.float64]:
    """(6,) twist with ``moved(T_old, twist) == T_new``."""
    return np.r_[rotation_vector(T_new[:3, :3] @ T_old[:3, :3].T), T_new[:3, 3] - T_old[:3, 3]]


def difference(T_a: NDArray, T_b: NDArray) -> tuple[float, float]:
    """Angle in degrees and distance in mm between two transforms T_camera_lidar.

    The distance is that of the LiDAR's origin in the camera's frame, which is the mounting error.
    """
    twist = move_between(T_a, T_b)
    return float(np.degrees(np.linalg.norm(twist[:3]))), float(1e3 * np.linalg.norm(twist[3:]))
