# SPDX-License-Identifier: Apache-2.0
"""Does a calibration still hold? Its score against moved ones, and where the score's optimum has gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.alignment import Alignment
from calibration.frames import Frame
from calibration.result import Calibration
from calibration.targetless import (
    N_STAGES,
    descend,
    jackknife,
    prepare_frames,
    score_of,
    spread_of,
)
from calibration.twist import difference, moved

PROBE_DEG, PROBE_M = 0.7, 0.15
_LEAST_SHARE = 0.75
_SIGMAS = 2.0


@dataclass(frozen=True)
class Drift:
    """What ``check_calibration`` measured.

    Attributes:
        verdict: ``good``; ``drifted``: the optimum is past a limit and further off than its own uncertainty;
            ``unclear``: the scenes have no clear optimum, so that nothing can be said.
        drift_deg, drift_mm: from the calibration to the optimum.
        spread_deg, spread_mm: standard deviation of the optimum over parts of the data, see ``jackknife``.
        share_worse: of the calibration moved by 0.7 degrees or 0.15 m along each axis, both ways, how many score
            worse, 0 .. 1.
        optimum_worse: the same about the optimum.
        n_frames: frames used.
    """

    verdict: str
    drift_deg: float
    drift_mm: float
    spread_deg: float
    spread_mm: float
    share_worse: float
    optimum_worse: float
    n_frames: int


def check_calibration(
    calibration: Calibration, frames: Sequence[Frame], max_deg: float, max_mm: float, seed: int = 0
) -> Drift:
    """Measure a calibration on frames.

    Args:
        max_deg, max_mm: how far the optimum may be from the calibration.

    Raises:
        ValueError: no extrinsic in the file, another LiDAR frame, fewer than two frames, or nothing in view.
    """
    extrinsics = calibration.extrinsics
    if extrinsics is None:
        raise ValueError("the result file holds intrinsics only; there is no T_camera_lidar to check")
    for frame in frames:
        found, made = frame.cloud.frame, extrinsics.lidar_frame
        if found and made not in ("lidar", found):
            raise ValueError(f"the cloud of '{frame.name}' is in '{found}', the calibration is for '{made}'")
    if len(frames) < 2:
        raise ValueError(f"a check needs at least two frames with different surroundings, got {len(frames)}")
    T, camera = extrinsics.T_camera_lidar, calibration.camera
    prepared = prepare_frames(frames, camera, T, np.random.default_rng(seed))
    T_best = T
    for stage in range(N_STAGES):
        T_best = descend(score_of(prepared, camera, T_best, stage), T_best, stage)
    finest = score_of(prepared, camera, T_best, N_STAGES - 1)
    spread = spread_of(jackknife(finest, T_best))
    score = score_of(prepared, camera, T, N_STAGES - 1)
    drift = difference(T_best, T)
    here, there = _share_worse(score, T), _share_worse(score, T_best)
    off = any(
        d > limit and d > _SIGMAS * s for d, s, limit in zip(drift, spread, (max_deg, max_mm), strict=True)
    )
    vague = any(s > limit for s, limit in zip(spread, (max_deg, max_mm), strict=True))
    verdict = "unclear" if there < _LEAST_SHARE or (vague and not off) else "drifted" if off else "good"
    return Drift(verdict, *drift, *spread, here, there, len(prepared))


def _share_worse(score: Alignment, T: np.ndarray) -> float:
    steps = np.r_[np.full(3, np.radians(PROBE_DEG)), np.full(3, PROBE_M)]
    here = score(T)
    probes = [
        score(moved(T, sign * step * axis))
        for step, axis in zip(steps, np.eye(6), strict=True)
        for sign in (-1, 1)
    ]
    return float(np.mean([p > here for p in probes]))
