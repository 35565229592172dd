# SPDX-License-Identifier: Apache-2.0
"""LiDAR-camera extrinsics without a target, from a guess some degrees and decimetres off, and their drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.alignment import Alignment, PreparedFrame, prepare
from calibration.camera import CameraModel
from calibration.frames import Frame
from calibration.result import Extrinsics, Quality
from calibration.twist import difference, move_between, moved

_STAGES = ((12.0, 2.0, 0.12, 3), (6.0, 0.8, 0.08, 3), (3.0, 0.3, 0.05, 2), (1.5, 0.12, 0.03, 1))
"""Blur in pixels of a 1000 pixel wide image, first steps in degrees and metres, thinning."""
N_STAGES = len(_STAGES)
_GROUPS = 4
_TURNING = 2
"""So many of the stages change the rotation alone."""
_ASIDE_DEG = 2.5
"""The first stages begin at the guess, and turned by so much either way about each axis."""
_FAR_DEG, _FAR_MM = 2 * _ASIDE_DEG, 300.0
"""A result further from its guess is doubted."""


@dataclass(frozen=True)
class TargetlessResult:
    """The extrinsic, its quality, and how far it is from the guess.

    Attributes:
        gain: score at the guess minus score at the result on the finest level; positive is better.
    """

    extrinsics: Extrinsics
    quality: Quality
    gain: float


def calibrate_without_target(
    frames: Sequence[Frame], camera: CameraModel, T_guess: NDArray, seed: int = 0
) -> TargetlessResult:
    """Refine a guess by sliding clouds over images, coarse to fine (Nelder and Mead, 1965).

    The spread is a jackknife's over groups of frames; the covariance is made of it.

    Raises:
        ValueError: there is no frame, sizes differ from the camera's, or the clouds are not in the pictures.
    """
    rng = np.random.default_rng(seed)
    prepared = prepare_frames(frames, camera, T_guess, rng)
    T = turned(prepared, camera, T_guess)
    for stage in range(_TURNING, N_STAGES):
        T = descend(score_of(prepared, camera, T, stage), T, stage)
    finest = score_of(prepared, camera, T, N_STAGES - 1)
    covariance = np.zeros((6, 6))
    spread: tuple[float | None, float | None] = (None, None)
    n_groups = min(_GROUPS, len(prepared))
    if n_groups >= 2:
        covariance = jackknife(finest, T, n_groups)
        spread = spread_of(covariance)
    quality = Quality(
        "no target: depth edges and information distance",
        len(prepared),
        len(frames),
        spread_deg=spread[0],
        spread_mm=spread[1],
        warnings=doubts(T, T_guess, n_groups),
    )
    frame = frames[0]
    extrinsics = Extrinsics(T, covariance, frame.camera_frame or "camera", frame.cloud.frame or "lidar")
    return TargetlessResult(extrinsics, quality, finest(T_guess) - finest(T))


def doubts(T: NDArray, T_guess: NDArray, n_groups: int) -> tuple[str, ...]:
    """Return what speaks against a result, in sentences."""
    found = []
    if n_groups < 2:
        found.append("one frame gives no spread; use several with different surroundings")
    moved_deg, moved_mm = difference(T, T_guess)
    if moved_deg > _FAR_DEG or moved_mm > _FAR_MM:
        found.append(
            f"the result is {moved_deg:.1f} deg and {moved_mm:.0f} mm from the guess, further than the search can be "
            "trusted: look at the pictures, give a better guess or frames of other places"
        )
    return tuple(found)


def prepare_frames(
    frames: Sequence[Frame], camera: CameraModel, T_guess: NDArray, rng: np.random.Generator
) -> list[PreparedFrame]:
    """Prepare all frames; the guess must bring at least some points of each into its picture.

    Raises:
        ValueError: as ``calibrate_without_target``.
    """
    if not frames:
        raise ValueError("there are no frames; give images with clouds, or a recording")
    for frame in frames:
        if frame.image.shape[:2] != (camera.height, camera.width):
            raise ValueError(
                f"'{frame.name}' has {frame.image.shape[1]} x {frame.image.shape[0]} pixels, the camera "
                f"{camera.width} x {camera.height}"
            )
        xyz = frame.cloud.xyz[frame.cloud.finite()].astype(np.float64)
        seen = camera.sees(camera.project(xyz @ T_guess[:3, :3].T + T_guess[:3, 3])).sum()
        if seen < 200:
            raise ValueError(
                f"{seen} points of '{frame.name}' fall into its picture under the given extrinsic; is the cloud in "
                f"the frame that it was made for ('{frame.cloud.frame}')?"
            )
    return [prepare(frame, rng) for frame in frames]


def blur_px(camera: CameraModel, at_thousand: float) -> float:
    """Scale a blur given for a focal length of 800 pixels to this camera's."""
    return at_thousand * float(np.clip(camera.K[0, 0] / 800.0, 0.4, 3.0))


def score_of(frames: Sequence[PreparedFrame], camera: CameraModel, T: NDArray, stage: int) -> Alignment:
    """Return what a stage makes small, for extrinsics about ``T``."""
    blur, _, _, thinning = _STAGES[stage]
    return Alignment.at_blur(frames, camera, blur_px(camera, blur), T, thinning)


def turned(frames: Sequence[PreparedFrame], camera: CameraModel, T_guess: NDArray) -> NDArray[np.float64]:
    """Return the guess, turned by the first stages to where images and clouds agree best.

    In images as blurred as the first stage's a wrong valley may be the deepest one. So several are searched, and the
    next stage's images, in which the right one is deeper, choose among them.
    """
    aside = np.radians(_ASIDE_DEG) * np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    found = [moved(T_guess, np.pad(turn, (0, 3))) for turn in aside]
    for stage in range(_TURNING):
        score = score_of(frames, camera, T_guess, stage)
        found = [descend(score, T, stage) for T in found]
    return min(found, key=score_of(frames, camera, T_guess, _TURNING))


def descend(score: Alignment, T: NDArray, stage: int, n_evaluations: int = 300) -> NDArray[np.float64]:
    """Run one stage from ``T`` and return the better extrinsic.

    The first stages only turn: in much blurred images a decimetre is next to nothing beside a degree, and a search
    that may shift as well drifts off by metres.
    """
    from scipy.optimize import minimize

    _, step_deg, step_m, _ = _STAGES[stage]
    free = 3 if stage < _TURNING else 6
    scale = np.r_[np.full(3, np.radians(step_deg)), np.full(3, step_m)][:free]
    simplex = np.vstack([np.zeros(free), np.eye(free)])

    def at(x: NDArray) -> NDArray[np.float64]:
        return moved(T, np.pad(x * scale, (0, 6 - free)))

    fit = minimize(
        lambda x: score(at(x)),
        np.zeros(free),
        method="Nelder-Mead",
        options={
            "initial_simplex": simplex - simplex.mean(0),
            "maxfev": n_evaluations,
            "xatol": 0.02,
            "fatol": 1e-5,
            "adaptive": True,
        },
    )
    return at(fit.x)


def jackknife(score: Alignment, T: NDArray, n_groups: int) -> NDArray[np.float64]:
    """(6, 6) covariance of ``moved``'s twist: each group of frames left out in turn, the last stage run again."""
    twists = []
    for k in range(n_groups):
        rest = replace(score, frames=[f for i, f in enumerate(score.frames) if i % n_groups != k])
        twists.append(move_between(descend(rest, T, N_STAGES - 1, 200), T))
    away = np.array(twists) - np.mean(twists, 0)
    return (n_groups - 1) / n_groups * away.T @ away


def spread_of(covariance: NDArray) -> tuple[float, float]:
    """Standard deviation in degrees and mm."""
    variance = np.diag(covariance)
    return float(np.degrees(np.sqrt(variance[:3].sum()))), 1e3 * float(np.sqrt(variance[3:].sum()))
