# SPDX-License-Identifier: Apache-2.0
"""Is a calibration good enough to use? A result file's age and figures, and a live camera_info, against limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from calibration.camera import CameraModel
from calibration.result import Calibration, Quality

_MOST_STRETCH = 1.2
_SMALLEST_VIEW_DEG = 5.0


@dataclass(frozen=True)
class Limits:
    """What is still good; the defaults are those of ``pc-calibrate``.

    Attributes:
        max_age_days: 0 allows any age.
        intrinsics_px, extrinsics_px: held-out reprojection error of camera and mount.
        spread_deg, spread_mm: standard deviation of the mount.
        info_px: how far a live camera_info may move a pixel against the result file.
    """

    max_age_days: float = 0.0
    intrinsics_px: float = 0.5
    extrinsics_px: float = 8.0
    spread_deg: float = 0.3
    spread_mm: float = 30.0
    info_px: float = 2.0


def complaints(calibration: Calibration, limits: Limits, now: datetime | None = None) -> list[str]:
    """Return a sentence for each reason to doubt a calibration; none where all is well.

    A figure that the file does not give is no complaint, but for a mount without any quality.

    Args:
        now: for the age; None is the present.
    """
    found = _too_old(calibration.created, limits.max_age_days, now or datetime.now(timezone.utc))
    inner, outer = calibration.intrinsic_quality, calibration.extrinsic_quality
    if inner is not None:
        found += _past("intrinsics", inner, limits.intrinsics_px, limits)
    if outer is not None:
        found += _past("mount", outer, limits.extrinsics_px, limits)
    elif calibration.extrinsics is not None:
        found.append("nothing is known about the quality of the mount")
    return found


def info_complaints(
    live: CameraModel, calibration: Calibration | None = None, max_px: float = Limits.info_px
) -> list[str]:
    """Return a sentence for each reason to doubt the intrinsics that a camera publishes.

    Without a result file only what no camera has is one: the optical axis outside the picture, pixels far from
    square, a field of view below 5 degrees.

    Args:
        live: of the newest camera_info.
        calibration: of the same camera, where there is a result file.
        max_px: how far the same ray may be from where the file projects it, anywhere in the picture.
    """
    fx, fy, cx, cy = live.K[0, 0], live.K[1, 1], live.K[0, 2], live.K[1, 2]
    found = []
    if not live.sees(np.array([[cx, cy]]))[0]:
        found.append(
            f"camera_info: the optical axis, pixel ({cx:.0f}, {cy:.0f}), lies outside {live.width} x {live.height}"
        )
    if max(fx, fy) > _MOST_STRETCH * min(fx, fy):
        found.append(f"camera_info: focal lengths of {fx:.0f} and {fy:.0f} px are no camera's")
    if (angle := 2 * np.degrees(np.arctan(live.width / (2 * fx)))) < _SMALLEST_VIEW_DEG:
        found.append(f"camera_info: a focal length of {fx:.0f} px leaves {angle:.1f} deg of view")
    return found if calibration is None else found + _differs(live, calibration.camera, max_px)


def _differs(live: CameraModel, known: CameraModel, max_px: float) -> list[str]:
    size, made_for = (live.width, live.height), (known.width, known.height)
    if size != made_for:
        return [
            f"camera_info is for {size[0]} x {size[1]} pixels, the result file for {made_for[0]} x {made_for[1]}"
        ]
    if known.D.any() and not live.D.any():  # the picture was rectified on its way
        assert known.P is not None  # filled in by the class
        known = CameraModel(*made_for, known.P[:, :3])
    grid = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 9) for n in size)), -1).reshape(-1, 2)
    off = np.linalg.norm(known.project(live.rays(grid)) - grid, axis=1)
    worst = float(np.nanmax(off)) if np.isfinite(off).any() else np.inf
    return [f"camera_info is up to {worst:.1f} px off the result file"] if worst > max_px else []


def _too_old(created: str, max_days: float, now: datetime) -> list[str]:
    if max_days <= 0:
        return []
    try:
        made = datetime.fromisoformat(created)
    except ValueError:
        return [f"the file does not say when it was made ('{created}')"]
    made = made if made.tzinfo else made.replace(tzinfo=timezone.utc)
    days = (now - made).total_seconds() / 86400
    return [f"it is {days:.0f} days old, allowed are {max_days:g}"] if days > max_days else []


def _past(part: str, quality: Quality, max_px: float, limits: Limits) -> list[str]:
    checks = (
        ("held-out error", quality.held_out_reprojection_px, max_px, "px"),
        ("spread", quality.spread_deg, limits.spread_deg, "deg"),
        ("spread", quality.spread_mm, limits.spread_mm, "mm"),
    )
    past = [
        f"{part}: {what} {value:.3g} {unit}, allowed {limit:g}"
        for what, value, limit, unit in checks
        if value is not None and not value <= limit
    ]
    return past + [f"{part}: {warning}" for warning in quality.warnings]
