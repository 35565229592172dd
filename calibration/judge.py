# SPDX-License-Identifier: Apache-2.0
"""Is a result file good enough to use? Its age and its own quality figures against limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from calibration.result import Calibration, Quality


@dataclass(frozen=True)
class Limits:
    """What is still good; the defaults are those of ``pc-calibrate``.

    Attributes:
        max_age_days: 0 allows any age.
        intrinsics_px, extrinsics_px: held-out reprojection error of camera and mount.
        spread_deg, spread_mm: standard deviation of the mount.
    """

    max_age_days: float = 0.0
    intrinsics_px: float = 0.5
    extrinsics_px: float = 8.0
    spread_deg: float = 0.3
    spread_mm: float = 30.0


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
