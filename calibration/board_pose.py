# SPDX-License-Identifier: Apache-2.0
"""Where a board stands in front of a camera, and how well its image says so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board, Corners, opencv
from calibration.camera import CameraModel
from calibration.twist import step
from pc_perception.geometry import pose, transform

LEAST_NOISE_PX = 0.2
_DELTA = 1e-6


@dataclass(frozen=True)
class ImageBoard:
    """A board seen by a camera.

    Attributes:
        T_camera_board: (4, 4).
        information: (6, 6) of the twist that moves the board on the camera's side, from the corners' scatter.
        rms_px: reprojection error of the corners.
        uv: (N, 2) the corners seen.
    """

    T_camera_board: NDArray[np.float64]
    information: NDArray[np.float64]
    rms_px: float
    uv: NDArray[np.float64]


def image_board(camera: CameraModel, board: Board, corners: Corners) -> ImageBoard:
    """Fit the board's pose to its corners: planar PnP, then least squares of the reprojection error.

    Raises:
        ValueError: no pose explains the corners.
    """
    from scipy.optimize import least_squares

    points = board.corners[corners.index]
    start = _planar_pose(camera, points, corners.uv)

    def errors(twist: NDArray) -> NDArray:
        uv = camera.project(transform(step(twist) @ start, points))
        return np.nan_to_num(uv - corners.uv, nan=1e3).ravel()

    fit = least_squares(errors, np.zeros(6), x_scale="jac", method="lm")
    rms = float(np.sqrt((fit.fun**2).reshape(-1, 2).sum(1).mean()))
    T = step(fit.x) @ start
    jacobian = np.stack(
        [
            (camera.project(transform(step(d) @ T, points)) - camera.project(transform(step(-d) @ T, points)))
            for d in _DELTA * np.eye(6)
        ],
        -1,
    ).reshape(-1, 6) / (2 * _DELTA)
    noise = max(rms / np.sqrt(2), LEAST_NOISE_PX)
    return ImageBoard(T, jacobian.T @ jacobian / noise**2, rms, corners.uv)


def _planar_pose(camera: CameraModel, points: NDArray, uv: NDArray) -> NDArray:
    """The better of the two poses that a plane's image allows."""
    cv2 = opencv()
    rays = camera.rays(uv)
    if (rays[:, 2] < 0.05).any():
        raise ValueError("the board lies beside or behind the camera; hold it into the picture")
    count, turns, shifts, _ = cv2.solvePnPGeneric(
        points - points.mean(0),
        (rays[:, :2] / rays[:, 2:]).astype(np.float64),
        np.eye(3),
        None,
        flags=cv2.SOLVEPNP_IPPE,
    )
    found = []
    for turn, shift in zip(turns[:count], shifts[:count], strict=False):
        T = pose(shift.ravel(), cv2.Rodrigues(turn)[0])
        T[:3, 3] -= T[:3, :3] @ points.mean(0)
        error = np.abs(camera.project(transform(T, points)) - uv).max()
        if T[2, 3] > 0 and np.isfinite(error):
            found.append((error, T))
    if not found:
        raise ValueError("no pose explains the board's corners; are the intrinsics this camera's?")
    return min(found, key=lambda pair: pair[0])[1]
