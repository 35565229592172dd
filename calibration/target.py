# SPDX-License-Identifier: Apache-2.0
"""LiDAR-camera extrinsics with a board: find it in both, agree on a first guess, fit, and measure the result.

Plane constraints between a checkerboard's image and LiDAR points: Zhang and Pless, "Extrinsic calibration of a
camera and laser range finder", 2004. Plane and boundary constraints together: Zhou, Li and Kaess, "Automatic
extrinsic calibration of a camera and a 3D LiDAR using line and plane correspondences", 2018. Here the outline's
size is known and board poses are free within what their corners say.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board, find_corners
from calibration.board_pose import image_board
from calibration.board_search import find_boards
from calibration.camera import CameraModel
from calibration.consensus import Pair, Sighting, first_guess
from calibration.frames import Frame
from calibration.joint_fit import JointFit, fit_jointly
from calibration.quality import (
    PoseError,
    bootstrap_spread,
    held_out_errors,
    pose_error,
    weak_directions,
)
from calibration.result import Extrinsics, Quality
from calibration.scan_lines import scan_lines
from pc_perception.geometry import inverse

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TargetSettings:
    """How boards are looked for.

    Attributes:
        baseline_m: the sensors are no further apart than this; it narrows the search in the cloud.
        n_resamples: of the bootstrap.
        seed: of all random choices.
    """

    baseline_m: float = 1.0
    n_resamples: int = 50
    seed: int = 0


@dataclass(frozen=True)
class TargetResult:
    """The extrinsic, its quality, and what it rests on.

    Attributes:
        held_out: errors of each pose under the fit of the others.
        skipped: name -> why a pose was not used.
    """

    extrinsics: Extrinsics
    quality: Quality
    fit: JointFit
    pairs: tuple[Pair, ...]
    held_out: tuple[PoseError, ...]
    skipped: dict[str, str]


def calibrate_with_target(
    frames: Iterable[Frame],
    camera: CameraModel,
    board: Board,
    T_guess: NDArray | None = None,
    settings: TargetSettings | None = None,
) -> TargetResult:
    """Calibrate from frames that each show the board at another place.

    Args:
        T_guess: (4, 4) T_camera_lidar where one is known to some decimetres and degrees: the search is narrower.

    Raises:
        ValueError: the board is found in fewer than three poses, or they do not agree on a rigid motion.
    """
    settings = settings or TargetSettings()
    skipped: dict[str, str] = {}
    sightings, names = [], []
    for frame in frames:
        names.append(frame)
        found = sight(frame, camera, board, T_guess, settings)
        if isinstance(found, str):
            _log.warning("%s: %s", frame.name, found)
            skipped[frame.name] = found
        else:
            sightings.append(found)
    try:
        T, pairs = first_guess(sightings)
    except ValueError as error:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
        raise ValueError(f"{error}{f' (left out: {reasons})' if reasons else ''}") from error
    for sighting in sightings:
        if sighting.name not in {p.name for p in pairs}:
            skipped[sighting.name] = "its plates in the cloud do not fit the other poses' motion"
    fit = fit_jointly(pairs, board, T)
    held_out = held_out_errors(pairs, camera, board, fit)
    spread = bootstrap_spread(pairs, board, fit, settings.n_resamples, settings.seed)
    seen = [pose_error(p, fit.T_camera_lidar, camera, board) for p in pairs]
    quality = Quality(
        "board: planes and edges, joint fit",
        len(pairs),
        len(names),
        _rms([e.corners_px for e in seen]),
        _rms([e.corners_px for e in held_out]),
        _rms([e.plane_mm for e in held_out]),
        *spread,
        warnings=tuple(weak_directions(fit.covariance) + _board_warnings(board)),
    )
    extrinsics = Extrinsics(
        fit.T_camera_lidar,
        fit.covariance,
        names[0].camera_frame or "camera",
        names[0].cloud.frame or "lidar",
    )
    return TargetResult(extrinsics, quality, fit, tuple(pairs), tuple(held_out), skipped)


def sight(
    frame: Frame, camera: CameraModel, board: Board, T_guess: NDArray | None, settings: TargetSettings
) -> Sighting | str:
    """Find the board in one frame; a string says why it is not there."""
    size = (frame.image.shape[1], frame.image.shape[0])
    if size != (camera.width, camera.height):
        raise ValueError(
            f"'{frame.name}' has {size[0]} x {size[1]} pixels, the camera {camera.width} x {camera.height}"
        )
    corners = find_corners(frame.image, board)
    if corners is None:
        return "the board is not seen whole in the image"
    try:
        image = image_board(camera, board, corners)
        lines = scan_lines(frame.cloud)
    except ValueError as error:
        return str(error)
    middle = image.T_camera_board[:3, 3]
    far = float(np.linalg.norm(middle))
    near = None
    if T_guess is not None:
        near = (inverse(T_guess) @ [*middle, 1.0])[:3]
    reach = (max(far - settings.baseline_m, 0.3), far + settings.baseline_m)
    plates = find_boards(lines, board, reach, near, seed=settings.seed)
    if not plates:
        return f"no plate of {board.width_m:.2f} x {board.height_m:.2f} m is in the cloud {far:.1f} m away"
    return Sighting(frame.name, image, plates)


def _rms(values: Sequence[float]) -> float | None:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else None


def _board_warnings(board: Board) -> list[str]:
    if board.is_symmetric and np.hypot(*board.shift_m) > 0.003:
        return [
            "the pattern is the same after a half turn, so which way it is shifted on the plate cannot be told "
            "from an image; centre it or use a board with an odd and an even number of corners"
        ]
    return []
