# SPDX-License-Identifier: Apache-2.0
"""What speaks against a result file: age, figures past the limits, warnings."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from calibration.camera import CameraModel
from calibration.judge import Limits, complaints, info_complaints
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


def camera(
    fx: float = 500.0, fy: float = 500.0, cx: float = 320.0, width: int = 640, D: tuple = ()
) -> CameraModel:
    return CameraModel(width, 480, np.array([[fx, 0, cx], [0, fy, 240], [0, 0, 1]]), np.array(D))


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (camera(cx=900), "the optical axis, pixel (900, 240), lies outside 640 x 480"),
        (camera(fy=900), "focal lengths of 500 and 900 px"),
        (camera(fx=9000, fy=9000), "leaves 4.1 deg of view"),
    ],
)
def test_intrinsics_that_no_camera_has_are_told(live: CameraModel, said: str) -> None:
    found = info_complaints(live)
    assert len(found) == 1
    assert said in found[0]


def test_a_camera_info_is_held_against_the_result_file() -> None:
    assert info_complaints(CAMERA) == info_complaints(camera(fx=501, fy=501), CALIBRATION) == []
    moved = info_complaints(camera(cx=325), CALIBRATION)
    assert moved == ["camera_info is up to 5.0 px off the result file"]
    assert (
        "for 1280 x 480 pixels, the result file for 640 x 480"
        in info_complaints(camera(width=1280, cx=640), CALIBRATION)[0]
    )


def test_a_rectified_picture_is_held_against_the_rectified_projection() -> None:
    bent = (-0.3, 0.1, 0.0, 0.0)
    P = np.array([[450.0, 0, 310, 0], [0, 450, 236, 0], [0, 0, 1, 0]])
    file = replace(CALIBRATION, camera=CameraModel(640, 480, CAMERA.K, np.array(bent), P=P))
    assert info_complaints(camera(D=bent), file) == []
    assert info_complaints(CameraModel(640, 480, P[:, :3]), file) == []
    assert "px off the result file" in info_complaints(CAMERA, file)[0]
