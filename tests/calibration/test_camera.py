# SPDX-License-Identifier: Apache-2.0
"""Camera models against OpenCV, and what a CameraInfo must say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from calibration.alignment_kernel import camera_values, sum_edges
from calibration.camera import CameraModel
from calibration.simulated import FISHEYE, PINHOLE

K = np.array([[700.0, 0.0, 320.5], [0.0, 705.0, 241.0], [0.0, 0.0, 1.0]])
MODELS = {
    "plumb_bob": PINHOLE,
    "four": CameraModel(640, 480, K, np.array([-0.2, 0.05, 0.001, 0.002])),
    "rational": CameraModel(
        640, 480, K, np.array([0.1, -0.05, 0.001, 0.002, 0.01, 0.3, -0.02, 0.01]), "rational_polynomial"
    ),
    "fisheye": FISHEYE,
}


def points(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    xyz = rng.uniform([-1, -0.8, 1.5], [1, 0.8, 6], (n, 3))
    return xyz


@pytest.mark.parametrize("name", MODELS)
def test_projects_as_opencv(name: str) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    camera, xyz = MODELS[name], points()
    zero = np.zeros((1, 3))
    if camera.is_fisheye:
        expected = cv2.fisheye.projectPoints(xyz[:, None], zero, zero, camera.K, camera.D)[0]
    else:
        expected = cv2.projectPoints(xyz, zero, zero, camera.K, camera.D)[0]
    np.testing.assert_allclose(camera.project(xyz), expected[:, 0], atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_rays_undo_project(name: str) -> None:
    camera, xyz = MODELS[name], points()
    expected = xyz / np.linalg.norm(xyz, axis=1, keepdims=True)
    np.testing.assert_allclose(camera.rays(camera.project(xyz)), expected, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_kernel_projects_as_the_camera(name: str) -> None:
    """An image that holds its own column (row) numbers gives the kernel's pixels back."""
    camera = MODELS[name]
    rows, columns = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float32)
    for xyz in points(50):
        at = camera.project(xyz[None])
        if not camera.sees(at)[0]:
            continue
        for upright, picture in ((True, columns), (False, rows)):
            found = sum_edges(
                xyz[None], np.array([upright]), np.eye(4), camera_values(camera), picture, picture
            )
            assert found == pytest.approx(at[0, 0 if upright else 1], abs=2e-3)


def test_what_is_behind_or_folded_back_is_not_seen() -> None:
    xyz = np.array([[0.0, 0, 5], [0, 0, -5], [99.0, 0, 1], [np.nan, 0, 1]])
    seen = np.isfinite(PINHOLE.project(xyz)).all(1)
    assert seen.tolist() == [True, False, False, False]
    # Without the limit, k1 < 0 would bring this far ray back into the picture.
    wide = CameraModel(640, 480, K, np.array([-0.3, 0, 0, 0, 0]))
    assert np.isnan(wide.project(np.array([[3.0, 0.0, 1.0]]))).all()


def info(**change: object) -> SimpleNamespace:
    fields = {
        "width": 640,
        "height": 480,
        "k": K.ravel(),
        "d": [0.0] * 5,
        "r": np.eye(3).ravel(),
        "p": np.zeros(12),
        "distortion_model": "plumb_bob",
    }
    return SimpleNamespace(**{**fields, **change})


def test_reads_a_camera_info() -> None:
    camera = CameraModel.from_info(info())
    assert camera.P is not None
    np.testing.assert_allclose(camera.P[:, :3], K)


def test_eight_coefficients_are_a_rational_polynomial() -> None:
    # Orbbec's driver calls them plumb_bob.
    D = [0.1, -0.05, 1e-3, 2e-3, 0.01, 0.2, 0.03, 0.004]
    called, meant = (
        CameraModel.from_info(info(d=D, distortion_model=m)) for m in ("plumb_bob", "rational_polynomial")
    )
    assert called.distortion_model == "rational_polynomial"
    points = np.array([[0.4, -0.3, 1.0]])
    np.testing.assert_array_equal(called.project(points), meant.project(points))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"k": np.zeros(9)}, "no intrinsics"),
        ({"k": np.full(9, np.nan)}, "no intrinsics"),
        ({"width": 0}, "0 x 480 pixels"),
        ({"distortion_model": "magic"}, "'magic'"),
        ({"d": [0.1, 0.2, 0.3]}, "coefficients"),
    ],
)
def test_a_camera_info_that_is_none_is_refused(change: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CameraModel.from_info(info(**change))
