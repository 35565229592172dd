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
_FOCAL_STARTS = (0.3, 0.5, 0.8, 1.3)
_FOCAL_SPREAD = 0.01


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
    errors = _errors(camera, board, views)
    held_out, focal_spread = _held_out(views, board, camera)
    coverage = _coverage(views.values(), size)
    quality = Quality(
        f"{model} from a board",
        len(views),
        len(views) + len(skipped),
        reprojection_px=_rms(errors.values()),
        held_out_reprojection_px=_rms(held_out.values()),
        warnings=tuple(_warnings(coverage, held_out, camera, focal_spread)),
    )
    return IntrinsicResult(camera, quality, errors, held_out, coverage, views, skipped)


def _fit(
    views: Sequence[Corners],
    board: Board,
    size: tuple[int, int],
    model: str,
    focal_starts: Sequence[float] = _FOCAL_STARTS,
) -> CameraModel:
    """Fit from several focal lengths (shares of the width) and keep the best.

    From views that are hardly tilted OpenCV's own start can end in a minimum 40 % off in focal length.
    """
    cv2 = opencv()
    fits, reason = [], ""
    for share in focal_starts:
        K = np.array(
            [[share * size[0], 0, size[0] / 2 - 0.5], [0, share * size[0], size[1] / 2 - 0.5], [0, 0, 1]]
        )
        try:
            rms, K, D = _solve(
                cv2, [board.corners[v.index] for v in views], [v.uv for v in views], size, K, model
            )
            if np.isfinite(rms):
                fits.append((rms, CameraModel(*size, K, D, model)))
        except (cv2.error, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
    if not fits:
        raise ValueError(
            f"OpenCV cannot fit a {model} camera to these {len(views)} views; give it more tilted ones ({reason})"
        )
    return min(fits, key=lambda fit: fit[0])[1]


def _solve(  # type: ignore[no-untyped-def]
    cv2, points, uv, size, K, model
) -> tuple[float, NDArray, NDArray]:
    if model == EQUIDISTANT:
        flags = cv2.fisheye.CALIB_RECOMPUTE_EXTRINSIC | cv2.fisheye.CALIB_FIX_SKEW
        flags |= cv2.fisheye.CALIB_USE_INTRINSIC_GUESS
        rms, K, D, _, _ = cv2.fisheye.calibrate(
            [p[:, None] for p in points], [v[:, None] for v in uv], size, K, np.zeros((4, 1)), flags=flags
        )
        return rms, K, D.ravel()
    flags = cv2.CALIB_USE_INTRINSIC_GUESS | (cv2.CALIB_RATIONAL_MODEL if model == RATIONAL else 0)
    rms, K, D, _, _ = cv2.calibrateCamera(
        [p.astype(np.float32) for p in points],
        [v.astype(np.float32) for v in uv],
        size,
        K,
        np.zeros(8),
        flags=flags,
    )
    return rms, K, D.ravel()[: 8 if model == RATIONAL else 5]


def _errors(camera: CameraModel, board: Board, views: dict[str, Corners]) -> dict[str, float]:
    errors = {}
    for name, corners in views.items():
        try:
            errors[name] = image_board(camera, board, corners).rms_px
        except ValueError:  # a model so bent that no pose fits
            errors[name] = float("inf")
    return errors


def _held_out(views: dict[str, Corners], board: Board, camera: CameraModel) -> tuple[dict[str, float], float]:
    """Errors of each image under a camera fitted without its fold; only the board's pose is fitted to it.

    Also the relative standard deviation of the folds' focal lengths, scaled to that of a fit to all images (the
    jackknife of Efron 1982 over groups).
    """
    names = list(views)
    n_folds = min(_FOLDS, len(names))
    errors, focal = {}, []
    size = (camera.width, camera.height)
    for fold in range(n_folds):
        out = names[fold::n_folds]
        rest = [views[n] for n in names if n not in out]
        fit = _fit(rest, board, size, camera.distortion_model, [camera.K[0, 0] / size[0]])
        focal.append(fit.K[0, 0])
        errors.update(_errors(fit, board, {n: views[n] for n in out}))
    return errors, float(np.std(focal) * np.sqrt(n_folds - 1) / camera.K[0, 0])


def _coverage(views: Iterable[Corners], size: tuple[int, int]) -> NDArray[np.int64]:
    uv = np.concatenate([v.uv for v in views])
    counts, _, _ = np.histogram2d(uv[:, 1], uv[:, 0], bins=_GRID[::-1], range=[[0, size[1]], [0, size[0]]])
    return counts.astype(np.int64)


def _warnings(
    coverage: NDArray, held_out: dict[str, float], camera: CameraModel, focal_spread: float
) -> list[str]:
    warnings = []
    if not np.isfinite(list(held_out.values())).all():
        warnings.append(
            f"{camera.distortion_model} bends so far on some folds that left-out images cannot be explained; take a "
            "simpler model or more images"
        )
    share = float((coverage > 0).mean())
    if share < _LEAST_COVERAGE:
        warnings.append(
            f"the board was seen in {100 * share:.0f} % of the picture; show it in the corners too, or the distortion "
            "there is a guess"
        )
    if focal_spread > _FOCAL_SPREAD:
        warnings.append(
            f"the focal length is uncertain by {100 * focal_spread:.1f} %; show the board tilted by 30 degrees "
            "and more, about both axes, near and far"
        )
    return warnings


def _rms(values: Iterable[float]) -> float | None:
    array = np.array(list(values))
    return float(np.sqrt(np.mean(array**2))) if len(array) else None
