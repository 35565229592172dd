# SPDX-License-Identifier: Apache-2.0
"""LiDAR-camera extrinsics without a target, from a guess some degrees and decimetres off, and their drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.alignment import Alignment, PreparedFrame, prepare
from calibration.camera import CameraModel
from calibration.frames import Frame
from calibration.quality import weak_directions
from calibration.result import Extrinsics, Quality
from calibration.surroundings import N_PARTS, without_outlines, without_part
from calibration.twist import difference, move_between, moved

_STAGES = ((6.0, 0.8, 0.08, 3), (3.0, 0.3, 0.05, 2), (1.5, 0.12, 0.03, 1))
"""Blur in pixels of a 1000 pixel wide image, first steps in degrees and metres, thinning."""
N_STAGES = len(_STAGES)
_GROUPS = 4
"""Frames are left out in so many groups."""
_TURNING = 1
"""So many of the stages change the rotation alone."""
_REACH_DEG, _MESH_DEG = 4.0, 0.8
"""Turns about the guess that are tried, and from one to the next: about the first stage's blur."""
_VALLEYS = 6
_FAR_DEG, _FAR_MM = 5.0, 300.0
"""A result further from its guess is doubted."""


@dataclass(frozen=True)
class TargetlessResult:
    """The extrinsic, its quality, and what it makes small.

    Attributes:
        score: of the last stage, for any extrinsic near the result.
    """

    extrinsics: Extrinsics
    quality: Quality
    score: Alignment


def calibrate_without_target(
    frames: Sequence[Frame], camera: CameraModel, T_guess: NDArray, seed: int = 0
) -> TargetlessResult:
    """Refine a guess by sliding clouds over images, coarse to fine (Nelder and Mead, 1965).

    The spread is a jackknife's over parts of the surroundings, frames and kinds of outlines; the covariance is made
    of it.

    Raises:
        ValueError: there is no frame, sizes differ from the camera's, or the clouds are not in the pictures.
    """
    rng = np.random.default_rng(seed)
    prepared = prepare_frames(frames, camera, T_guess, rng)
    T = turned(prepared, camera, T_guess)
    for stage in range(_TURNING, N_STAGES):
        T = descend(score_of(prepared, camera, T, stage), T, stage)
    finest = score_of(prepared, camera, T, N_STAGES - 1)
    covariance = jackknife(finest, T)
    spread_deg, spread_mm = spread_of(covariance)
    quality = Quality(
        "no target: depth edges and information distance",
        len(prepared),
        len(frames),
        spread_deg=spread_deg,
        spread_mm=spread_mm,
        warnings=(
            *doubts(T, T_guess),
            *weak_directions(covariance, "surroundings", "frames of other places"),
        ),
    )
    frame = frames[0]
    extrinsics = Extrinsics(T, covariance, frame.camera_frame or "camera", frame.cloud.frame or "lidar")
    return TargetlessResult(extrinsics, quality, finest)


def doubts(T: NDArray, T_guess: NDArray) -> tuple[str, ...]:
    """Return what speaks against a result, in sentences."""
    moved_deg, moved_mm = difference(T, T_guess)
    if moved_deg <= _FAR_DEG and moved_mm <= _FAR_MM:
        return ()
    return (
        f"the result is {moved_deg:.1f} deg and {moved_mm:.0f} mm from the guess, further than the search can be "
        "trusted: look at the pictures, give a better guess or frames of other places",
    )


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
    """Return the guess, turned to where images and clouds agree best.

    The score has many valleys, and a search that slides down from a few places misses the right one. So all turns
    within reach are tried, the deepest valleys are gone down, and the next stage's images choose among them: in
    blurred ones a wrong valley may be the deepest.
    """
    score = score_of(frames, camera, T_guess, 0)
    found = [descend(score, moved(T_guess, np.pad(turn, (0, 3))), 0) for turn in valleys(score, T_guess)]
    return min(found, key=score_of(frames, camera, T_guess, 1))


def valleys(score: Callable[[NDArray], float], T_guess: NDArray) -> NDArray[np.float64]:
    """(N, 3) rotation vectors of the deepest local minima on a mesh of turns of the guess, rad, deepest first."""
    from scipy.ndimage import minimum_filter

    n = int(_REACH_DEG / _MESH_DEG)
    axis = np.radians(_MESH_DEG) * np.arange(-n, n + 1)
    turns = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    within = np.linalg.norm(turns, axis=-1) < np.radians(_REACH_DEG) + 1e-9
    depth = np.full(within.shape, np.inf)
    depth[within] = [score(moved(T_guess, np.pad(turn, (0, 3)))) for turn in turns[within]]
    lowest = within & (depth == minimum_filter(depth, 3, mode="nearest"))
    return turns[lowest][np.argsort(depth[lowest])][:_VALLEYS]


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


def jackknife(score: Alignment, T: NDArray) -> NDArray[np.float64]:
    """(6, 6) covariance of ``moved``'s twist: some of the data left out in turn, the last stage run again.

    The sum of three: parts of the surroundings left out, as frames of one place err alike; groups of frames, as
    places differ; and either kind of outline, as a false one of a long thing, a kerb for one, is in every part. Where
    several see the same error it counts more than once, which errs on the safe side.
    """
    frames, n_groups = score.frames, min(_GROUPS, len(score.frames))
    by_part = [[without_part(f, part) for f in frames] for part in range(N_PARTS)]
    by_group = [[f for i, f in enumerate(frames) if i % n_groups != k] for k in range(n_groups)]
    by_kind = [[without_outlines(f, upright) for f in frames] for upright in (False, True)]
    return sum(
        (_left_out(score, T, kept) for kept in (by_part, by_group, by_kind) if all(kept)),
        start=np.zeros((6, 6)),
    )


def _left_out(score: Alignment, T: NDArray, kept: Sequence[Sequence[PreparedFrame]]) -> NDArray[np.float64]:
    rests = [replace(score, frames=frames) for frames in kept]
    twists = [move_between(descend(rest, T, N_STAGES - 1, 200), T) for rest in rests]
    away = np.array(twists) - np.mean(twists, 0)
    return (len(kept) - 1) / len(kept) * away.T @ away


def spread_of(covariance: NDArray) -> tuple[float, float]:
    """Standard deviation in degrees and mm."""
    variance = np.diag(covariance)
    return float(np.degrees(np.sqrt(variance[:3].sum()))), 1e3 * float(np.sqrt(variance[3:].sum()))
