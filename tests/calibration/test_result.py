# SPDX-License-Identifier: Apache-2.0
"""The result file: what is written comes back, and what is damaged is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from calibration.camera import CameraModel
from calibration.result import Calibration, Extrinsics, Quality, hash_inputs, load_calibration, load_camera
from calibration.simulated import FISHEYE, Rig


def result() -> Calibration:
    T = Rig.draw(np.random.default_rng(1)).T_camera_lidar
    covariance = np.diag([1e-6, 2e-6, 3e-6, 1e-5, 2e-5, 3e-5])
    quality = Quality("board", 9, 10, 0.5, 0.75, 3.25, 0.0325, 1.5, ("a warning",))
    return Calibration(
        FISHEYE, Extrinsics(T, covariance, "cam_optical", "velodyne"), Quality("m", 5, 6), quality, {"a": "b"}
    )


def test_round_trip(tmp_path: Path) -> None:
    written = result()
    read = load_calibration(written.save(tmp_path / "new" / "result.yaml"))
    assert written.extrinsics is not None
    assert read.extrinsics is not None
    np.testing.assert_array_equal(read.extrinsics.T_camera_lidar, written.extrinsics.T_camera_lidar)
    np.testing.assert_array_equal(read.extrinsics.covariance, written.extrinsics.covariance)
    assert (read.extrinsics.camera_frame, read.extrinsics.lidar_frame) == ("cam_optical", "velodyne")
    assert read.extrinsic_quality == written.extrinsic_quality
    assert read.intrinsic_quality == written.intrinsic_quality
    assert (read.inputs, read.created) == (written.inputs, written.created)
    for name in ("K", "D", "R", "P"):
        np.testing.assert_array_equal(getattr(read.camera, name), getattr(FISHEYE, name))
    assert read.camera.distortion_model == "equidistant"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("camera"), "no 'camera'"),
        (lambda t: t.update(format=99), "format 99"),
        (lambda t: t["camera"].update(K=[0] * 9), "no intrinsics"),
        (lambda t: t["camera"].pop("K"), "'K' is missing"),
        (lambda t: t["extrinsics"].pop("T_camera_lidar"), "'T_camera_lidar' is missing"),
        (lambda t: t["extrinsics"]["T_camera_lidar"][0].__setitem__(0, 2.0), "not a rigid transform"),
        (lambda t: t["extrinsics"].update(covariance_rad_m=[[0.0]]), "6 x 6"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change, sentence: str) -> None:  # type: ignore[no-untyped-def]
    path = result().save(tmp_path / "r.yaml")
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match=sentence):
        load_calibration(path)


def test_text_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: [1")
    with pytest.raises(ValueError, match="not YAML"):
        load_calibration(path)


def test_a_mirror_is_no_mount() -> None:
    with pytest.raises(ValueError, match="not a rigid transform"):
        Extrinsics(np.diag([-1.0, 1, 1, 1]))


def test_reads_the_file_of_ros_camera_calibration(tmp_path: Path) -> None:
    path = tmp_path / "ost.yaml"
    path.write_text(
        "image_width: 964\nimage_height: 724\ndistortion_model: plumb_bob\n"
        "camera_matrix: {rows: 3, cols: 3, data: [484.1, 0, 457.2, 0, 484.5, 364.9, 0, 0, 1]}\n"
        "distortion_coefficients: {rows: 1, cols: 5, data: [-0.2, 0.07, 0.003, 0.0003, 0]}\n"
        "projection_matrix: {rows: 3, cols: 4, data: [426, 0, 461, 0, 0, 432, 369, 0, 0, 0, 1, 0]}\n"
    )
    camera = load_camera(path)
    assert (camera.width, camera.height, camera.K[0, 0], camera.D[0]) == (964, 724, 484.1, -0.2)
    assert isinstance(camera, CameraModel)


def test_hashes_are_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    hashes = hash_inputs([tmp_path])
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert list(hashes.values()) == [expected]
