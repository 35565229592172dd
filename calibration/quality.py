# SPDX-License-Identifier: Apache-2.0
"""How good a target calibration is: errors on poses left out, spread over resamples, what is not constrained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board
from calibration.camera import CameraModel
from calibration.consensus import LEAST_POSES, Pair
from calibration.joint_fit import JointFit, fit_jointly
from calibration.twist import move_between
from pc_perception.geometry import inverse, transform

WEAK_DEG, WEAK_MM = 0.3, 30.0


@dataclass(frozen=True)
class PoseError:
    """What one pose shows under an extrinsic.

    Attributes:
        corners_px: rms over the outline's corners: the LiDAR's rectangle in the picture against the image's board.
        plane_mm: rms distance of the LiDAR's points on the plate from the image's plane.
    """

    name: str
    corners_px: float
    plane_mm: float


def pose_error(pair: Pair, T_camera_lidar: NDArray, camera: CameraModel, board: Board) -> PoseError:
    """Compare the board of the cloud with that of the image under an extrinsic."""
    T_camera_plate = T_camera_lidar @ pair.cloud.T_lidar_board
    seen = camera.project(transform(pair.image.T_camera_board, board.outline))
    plate = camera.project(transform(T_camera_plate, board.outline))
    # A rectangle looks the same after a half turn, a square after a quarter: the nearest order counts.
    errors = [np.linalg.norm(np.roll(plate, k, 0) - seen, axis=1) for k in range(4)]
    corners = min(float(np.sqrt(np.mean(e**2))) for e in errors)
    heights = transform(inverse(pair.image.T_camera_board) @ T_camera_lidar, pair.cloud.cells)[:, 2]
    return PoseError(pair.name, corners, 1e3 * float(np.sqrt(np.mean(heights**2))))


def held_out_errors(
    pairs: Sequence[Pair], camera: CameraModel, board: Board, fit: JointFit
) -> list[PoseError]:
    """Leave each pose out in turn, fit the others, and measure the one left out; empty below four poses."""
    if len(pairs) <= LEAST_POSES:
        return []
    errors = []
    for k, pair in enumerate(pairs):
        T = fit_jointly(pairs, board, fit.T_camera_lidar, 1.0 - np.eye(len(pairs))[k]).T_camera_lidar
        errors.append(pose_error(pair, T, camera, board))
    return errors


def bootstrap_spread(
    pairs: Sequence[Pair], board: Board, fit: JointFit, n_resamples: int = 50, seed: int = 0
) -> tuple[float, float]:
    """Standard deviation (degrees, mm) of the extrinsic over resamples of the poses with replacement (Efron 1979)."""
    rng = np.random.default_rng(seed)
    n = len(pairs)
    twists: list[NDArray] = []
    while len(twists) < n_resamples:
        counts = rng.multinomial(n, np.full(n, 1 / n))
        if (counts > 0).sum() >= LEAST_POSES:
            T = fit_jointly(pairs, board, fit.T_camera_lidar, counts).T_camera_lidar
            twists.append(move_between(T, fit.T_camera_lidar))
    variance = np.var(twists, axis=0, ddof=1)
    return float(np.degrees(np.sqrt(variance[:3].sum()))), 1e3 * float(np.sqrt(variance[3:].sum()))


def weak_directions(
    covariance: NDArray, seen: str = "poses", wanted: str = "poses with other tilts and places"
) -> list[str]:
    """Return a sentence for each axis that what was ``seen`` leaves uncertain, from the covariance's eigenvectors.

    The eigenvalues of the covariance's blocks are the inverse ones of the information on that direction with all
    other unknowns free.
    """
    warnings = []
    blocks = ((slice(0, 3), 180 / np.pi, WEAK_DEG, "deg", "rotation about"),
              (slice(3, 6), 1e3, WEAK_MM, "mm", "translation along"))  # fmt: skip
    for at, scale, limit, unit, what in blocks:
        values, vectors = np.linalg.eigh(covariance[at, at])
        for value, axis in zip(np.sqrt(np.maximum(values, 0)) * scale, vectors.T, strict=True):
            if value > limit:
                axis = axis * np.sign(axis[np.abs(axis).argmax()])
                warnings.append(
                    f"the {seen} do not constrain {what} ({axis[0]:.2f}, {axis[1]:.2f}, {axis[2]:.2f}) of the "
                    f"camera: +-{value:.1f} {unit}; add {wanted}"
                )
    return warnings
