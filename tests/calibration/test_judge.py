# SPDX-License-Identifier: Apache-2.0
"""What speaks against a result file: age, figures past the limits, warnings."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from calibration.camera import CameraModel
from calibration.judge import Limits, complaints
from calibration.result import Calibration, Extrinsics, Quality

CAMERA = CameraModel(640, 480, np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]))
GOOD = Quality("board", 10, 10, held_out_reprojection_px=0.3, spread_deg=0.1, spread_mm=5.0)
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
CALIBRATION = Calibration(CAMERA, Extrinsics(np.eye(4)), GOOD, GOOD, created="2026-05-01T00:00:00+00:00")


def test_a_good_one_has_none() -> None:
    assert complaints(CALIBRATION, Limits(max_age_days=365), NOW) == []
    assert complaints(replace(CALIBRATION, extrinsics=None, extrinsic_quality=None), Limits(), NOW) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"created": "2020-01-01T00:00:00+00:00"}, "it is 2343 days old, allowed are 365"),
        ({"created": "2020-01-01T00:00:00"}, "it is 2343 days old, allowed are 365"),
        ({"created": ""}, "does not say when it was made"),
        ({"extrinsic_quality": None}, "nothing is known about the quality of the mount"),
        (
            {"intrinsic_quality": replace(GOOD, held_out_reprojection_px=0.8)},
            "intrinsics: held-out error 0.8 px",
        ),
        ({"extrinsic_quality": replace(GOOD, spread_deg=float("nan"))}, "mount: spread nan deg, allowed 0.3"),
        ({"extrinsic_quality": replace(GOOD, spread_mm=90.0)}, "mount: spread 90 mm, allowed 30"),
        ({"extrinsic_quality": replace(GOOD, warnings=("few poses",))}, "mount: few poses"),
    ],
)
def test_each_reason_is_one_sentence(changed: dict, said: str) -> None:
    found = complaints(replace(CALIBRATION, **changed), Limits(max_age_days=365), NOW)
    assert len(found) == 1
    assert said in found[0]


def test_a_limit_of_zero_days_allows_any_age() -> None:
    assert complaints(replace(CALIBRATION, created="1999-01-01"), Limits(max_age_days=0), NOW) == []
