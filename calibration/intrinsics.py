# SPDX-License-Identifier: Apache-2.0
"""Camera intrinsics from pictures of a board, with the error on pictures that the fit did not see.

Zhang, "A flexible new technique for camera calibration", 2000, as OpenCV implements it; for fisheyes OpenCV's
model after Kannala and Brandt, "A generic camera model and calibration method", 2006.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board, Corners, find_corners, opencv
from calibration.board_pose import image_board
from calibration.camera import EQUIDISTANT, PLUMB_BOB, RATIONAL, CameraModel
from calibration.result import Quality

LEAST_IMAGES = 5
_FOLDS = 5
_OUTLIER = 4.0
_GRID = (8, 6)
_LEAST_COVERAGE = 0.5


@dataclass(frozen=True)
class IntrinsicResult:
    """A camera and how it was found.

    Attributes:
        camera: fitted to all images used.
        quality: with held-out reprojection error over five folds.
        errors_px: image name -> rms reprojection error under ``camera``.
        held_out_px: image name -> the same under a fit without the image's fold.
        coverage: (6, 8) int64, how many corners fell into each cell of the picture.
        views: name -> corners used.
        skipped: name -> why an image was not used.
    """

    camera: CameraModel
    quality: Quality
    errors_px: dict[str, float]
    held_out_px: dict[str, float]
    coverage: NDArray[np.int64]
    views: dict[str, Corners]
    skipped: dict[str, str]


def calibrate_intrinsics(
    images: Iterable[tuple[str, NDArray]], board: Board, model: str = PLUMB_BOB
) -> IntrinsicResult:
    """Calibrate a camera from (name, image) pairs that show the board at different tilts and places.

    Args:
        model: ``plumb_bob``, ``rational_polynomial`` or ``equidistant``.

    Raises:
        ValueError: images of several sizes, or the board in fewer than five.
    """
    views: dict[str, Corners] = {}
    skipped: dict[str, str] = {}
    size: tuple[int, int] | None = None
    for name, image in images:
        here = (image.shape[1], image.shape[0])
        size = size or here
        if here != size:
            raise ValueError(f"'{name}' has {here[0]} x {here[1]} pixels, the others {size[0]} x {size[1]}")
        corners = find_corners(image, board)
        if corners is None:
            skipped[name] = "the board is not seen"
        else:
            views[name] = corners
    if size is None or len(views) < LEAST_IMAGES:
        raise ValueError(
            f"the board ({board.columns} x {board.rows} inner corners) is seen in {len(views)} of "
            f"{len(views) + len(skipped)} images; at least {LEAST_IMAGES} are needed"
        )
    camera = _fit(list(views.values()), board, size, model)
    errors = _errors(camera, board, views)
    usual = float(np.median(list(errors.values())))
    for name, error in errors.items():
        if error > max(_OUTLIER * usual, 1.0) and len(views) > LEAST_IMAGES:
            skipped[name] = f"its corners fit {error:.1f} px, the others {usual:.1f}"
            del views[name]
    camera = _fit(list(views.values()), board, size, model)
    errors, held_out = _errors(camera, board, views), _held_out(views, board, size, model)
    coverage = _coverage(views.values(), size)
    quality = Quality(
        f"{model} from a board",
        len(views),
        len(views) + len(skipped),
        reprojection_px=_rms(errors.values()),
        held_out_reprojection_px=_rms(held_out.values()),
        warnings=tuple(_warnings(coverage, views, camera, board)),
    )
    return IntrinsicResult(camera, quality, errors, held_out, coverage, views, skipped)


def _fit(views: Sequence[Corners], board: Board, size: tuple[int, int], model: str) -> CameraModel:
    cv2 = opencv()
    points = [board.corners[v.index] for v in views]
    uv = [v.uv for v in views]
    try:
        if model == EQUIDISTANT:
            # The solver knows a fisheye only near its answer: start with f from the usual 180 degrees' picture.
            f = max(size) / np.pi
            K = np.array([[f, 0, size[0] / 2 - 0.5], [0, f, size[1] / 2 - 0.5], [0, 0, 1]])
            flags = cv2.fisheye.CALIB_RECOMPUTE_EXTRINSIC | cv2.fisheye.CALIB_FIX_SKEW
            flags |= cv2.fisheye.CALIB_USE_INTRINSIC_GUESS
            _, K, D, _, _ = cv2.fisheye.calibrate(
                [p[:, None] for p in points], [v[:, None] for v in uv], size, K, np.zeros((4, 1)), flags=flags
            )
            return CameraModel(*size, K, D.ravel(), model)
        flags = cv2.CALIB_RATIONAL_MODEL if model == RATIONAL else 0
        _, K, D, _, _ = cv2.calibrateCamera(
            [p.astype(np.float32) for p in points], [v.astype(np.float32) for v in uv], size, None, None, flags=flags
        )
    except cv2.error as error:
        raise ValueError(
            f"OpenCV cannot fit a {model} camera to these {len(views)} views; give it more tilted ones "
            f"({str(error).strip().splitlines()[-1]})"
        ) from error
    return CameraModel(*size, K, D.ravel()[: 8 if model == RATIONAL else 5], model)


def _errors(camera: CameraModel, board: Board, views: dict[str, Corners]) -> dict[str, float]:
    return {name: image_board(camera, board, corners).rms_px for name, corners in views.items()}


def _held_out(views: dict[str, Corners], board: Board, size: tuple[int, int], model: str) -> dict[str, float]:
    """Errors of each image under a camera fitted without its fold; only the board's pose is fitted to it."""
    names = list(views)
    n_folds = min(_FOLDS, len(names))
    errors = {}
    for fold in range(n_folds):
        out = names[fold::n_folds]
        rest = [views[n] for n in names if n not in out]
        if len(rest) >= LEAST_IMAGES - 2:
            errors.update(_errors(_fit(rest, board, size, model), board, {n: views[n] for n in out}))
    return errors


def _coverage(views: Iterable[Corners], size: tuple[int, int]) -> NDArray[np.int64]:
    uv = np.concatenate([v.uv for v in views])
    counts, _, _ = np.histogram2d(uv[:, 1], uv[:, 0], bins=_GRID[::-1], range=[[0, size[1]], [0, size[0]]])
    return counts.astype(np.int64)


def _warnings(
    coverage: NDArray, views: dict[str, Corners], camera: CameraModel, board: Board
) -> list[str]:
    warnings = []
    share = float((coverage > 0).mean())
    if share < _LEAST_COVERAGE:
        warnings.append(
            f"the board was seen in {100 * share:.0f} % of the picture; show it in the corners too, or the distortion "
            "there is a guess"
        )
    normals = np.array([image_board(camera, board, v).T_camera_board[:3, 2] for v in views.values()])
    tilt = np.degrees(np.arccos(np.clip(np.abs(normals @ normals.mean(0)) / np.linalg.norm(normals.mean(0)), 0, 1)))
    if tilt.max() < 15:
        warnings.append(f"the board is never tilted by more than {tilt.max():.0f} deg; the focal length needs 30 deg")
    return warnings


def _rms(values: Iterable[float]) -> float | None:
    array = np.array(list(values))
    return float(np.sqrt(np.mean(array**2))) if len(array) else None
