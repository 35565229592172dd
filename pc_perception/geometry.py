# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms and camera projection. ``T_target_source`` maps source coordinates to target's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# REP-103: axes of a camera's body frame (x forward, y left, z up) in its optical frame's terms.
R_BODY_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def transform(T_target_source: NDArray, points: NDArray) -> NDArray:
    """Map ``points`` (N, 3) from the source frame into the target frame, keeping their dtype."""
    T = np.asarray(T_target_source)
    return (points @ T[:3, :3].T.astype(points.dtype) + T[:3, 3].astype(points.dtype)).astype(
        points.dtype, copy=False
    )


def inverse(T: NDArray) -> NDArray:
    """Invert a rigid (4, 4) transform exactly (transpose, no linear solve)."""
    R, t = T[:3, :3], T[:3, 3]
    out = np.eye(4, dtype=T.dtype)
    out[:3, :3] = R.T
    out[:3, 3] = -R.T @ t
    return out


def pose(translation: NDArray | tuple = (0.0, 0.0, 0.0), R: NDArray | None = None) -> NDArray:
    """Build a (4, 4) float64 transform from a translation in metres and a (3, 3) rotation."""
    T = np.eye(4)
    T[:3, 3] = translation
    if R is not None:
        T[:3, :3] = R
    return T


def rotation_z(yaw_rad: float) -> NDArray:
    """Return the (3, 3) rotation by ``yaw_rad`` about z (counter-clockwise seen from above)."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_y(pitch_rad: float) -> NDArray:
    """Return the (3, 3) rotation by ``pitch_rad`` about y (positive tips x downwards)."""
    c, s = np.cos(pitch_rad), np.sin(pitch_rad)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rotation_x(roll_rad: float) -> NDArray:
    """Return the (3, 3) rotation by ``roll_rad`` about x."""
    c, s = np.cos(roll_rad), np.sin(roll_rad)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation(axis: str, angle_rad: float) -> NDArray:
    """Return the (3, 3) rotation about ``x``, ``y`` or ``z``."""
    return {"x": rotation_x, "y": rotation_y, "z": rotation_z}[axis](angle_rad)


def quaternion_to_rotation(x: float, y: float, z: float, w: float) -> NDArray:
    """Return the (3, 3) rotation of a quaternion in ROS order (x, y, z, w); it need not be unit.

    Raises:
        ValueError: the quaternion is zero or not finite.
    """
    q = np.array([x, y, z, w], dtype=np.float64)
    norm = np.linalg.norm(q)
    if not np.isfinite(norm) or norm < 1e-12:
        raise ValueError(f"quaternion (x, y, z, w) = {tuple(q)} is not a rotation")
    x, y, z, w = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_to_quaternion(R: NDArray) -> NDArray:
    """Return the unit quaternion (x, y, z, w) of a (3, 3) rotation, w >= 0."""
    # Shepperd's method through the symmetric 4x4 form: the eigenvector of the largest eigenvalue is
    # numerically stable for every rotation, also near 180 degrees.
    m = np.asarray(R, dtype=np.float64)
    K = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], 0],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], np.trace(m)],
        ]
    )
    q = np.linalg.eigh(K / 3.0)[1][:, -1]
    return q if q[3] >= 0 else -q


def project(K: NDArray, points_camera: NDArray) -> tuple[NDArray, NDArray]:
    """Project points with a pinhole camera.

    Args:
        K: (3, 3) intrinsics in pixels.
        points_camera: (N, 3), metres, optical frame (z forward, x right, y down).

    Returns:
        (N, 2) pixel coordinates (u, v), NaN behind the camera, and (N,) depth z in metres.
    """
    depth = points_camera[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        uvw = points_camera @ np.asarray(K, dtype=points_camera.dtype).T
        uv = np.where(depth[:, None] > 1e-6, uvw[:, :2] / depth[:, None], np.nan)
    return uv, depth


def unproject(K: NDArray, depth: NDArray) -> NDArray:
    """Turn a depth image (H, W) in metres into (H*W, 3) float32 points, row-major, optical frame.

    Pixels with no depth (zero, NaN, and Inf as REP-117 has it for too near and too far) become NaN.
    """
    height, width = depth.shape
    v, u = np.mgrid[0:height, 0:width]
    z = np.where((depth > 0) & (depth < np.inf), depth, np.nan).astype(np.float32).ravel()
    x = (u.ravel() - K[0, 2]) / K[0, 0] * z
    y = (v.ravel() - K[1, 2]) / K[1, 1] * z
    return np.stack([x, y, z], axis=1).astype(np.float32)


def in_box(points: NDArray, T_world_box: NDArray, size: NDArray) -> NDArray[np.bool_]:
    """(N,) bool, True for points inside a box with ``size`` (length x, width y, height z) metres."""
    local = transform(inverse(np.asarray(T_world_box, dtype=np.float64)), points.astype(np.float64))
    return (np.abs(local) <= np.asarray(size) / 2).all(axis=1)


def in_image(uv: NDArray, depth: NDArray, width: int, height: int) -> NDArray[np.bool_]:
    """(N,) bool, True where ``project``'s result lies in front of the camera and inside the image."""
    with np.errstate(invalid="ignore"):
        inside = (uv >= -0.5).all(axis=1) & (uv[:, 0] < width - 0.5) & (uv[:, 1] < height - 0.5)
    return inside & (depth > 0)
