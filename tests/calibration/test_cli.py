# SPDX-License-Identifier: Apache-2.0
"""``pc-calibrate`` end to end on files, its exit codes, and real recordings where they are at hand."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.board import Board
from calibration.camera import CameraModel
from calibration.cli import main, parse_board
from calibration.intrinsics import calibrate_intrinsics
from calibration.result import load_calibration
from calibration.simulated import BOARD, PINHOLE, Rig, picture, simulate_shots
from calibration.twist import rotation
from pc_perception.geometry import pose, rotation_z
from pc_perception.io.files import write_cloud

pytest.importorskip("cv2", reason="OpenCV is not installed")
DATA = os.environ.get("PC_PERCEPTION_DATA")
SMALL = CameraModel(640, 480, np.array([[400.0, 0, 322], [0, 401.5, 235], [0, 0, 1]]), PINHOLE.D)


def tilted_views(n: int = 8) -> list[np.ndarray]:
    """Pictures of the board near and far, tilted both ways."""
    rng = np.random.default_rng(2)
    places = [
        (-0.5, -0.3),
        (0.5, -0.3),
        (0.5, 0.3),
        (-0.5, 0.3),
        (0.0, 0.0),
        (0.3, 0.0),
        (-0.3, 0.1),
        (0.0, 0.2),
    ]
    views = []
    for k, (x, y) in enumerate(places[:n]):
        tilt = rotation(0.6 * np.array([np.cos(2.4 * k), np.sin(2.4 * k), 0.0])) @ rotation_z(0.2 * k)
        views.append(picture(Rig(SMALL), pose((x, y, 1.6 + 0.1 * (k % 3)), tilt), rng))
    return views


@pytest.fixture(scope="module")
def views() -> list[np.ndarray]:
    return tilted_views()


@pytest.fixture(scope="module")
def view_folder(views: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("views")
    for k, view in enumerate(views):
        Image.fromarray(view).save(folder / f"v{k}.png")
    return folder


def test_intrinsics_from_a_folder(view_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "camera.yaml"
    command = ["intrinsics", "--images", str(view_folder), "--board", "8x6:0.1", "--out", str(out)]
    assert main([*command, "--pictures", str(tmp_path)]) == 0
    found = load_calibration(out)
    np.testing.assert_allclose(found.camera.K, SMALL.K, atol=3)
    assert found.intrinsic_quality is not None
    assert found.intrinsic_quality.held_out_reprojection_px is not None
    assert found.intrinsic_quality.held_out_reprojection_px < 0.2
    assert len(found.inputs) == 8
    assert (tmp_path / "coverage.png").stat().st_size > 1000
    assert "v0.png: " in capsys.readouterr().out
    assert main([*command, "--max-px", "0.001"]) == 2
    assert "past the limit: held-out reprojection" in capsys.readouterr().out


def test_too_few_views_are_refused(views: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="seen in 3 of 3 images; at least 5"):
        calibrate_intrinsics([(str(k), v) for k, v in enumerate(views[:3])], BOARD)


def test_with_a_board_from_folders(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("open3d", reason="the simulated LiDAR needs Open3D")
    from PIL import Image

    from calibration.result import Calibration

    rng = np.random.default_rng(4)
    rig = Rig(SMALL, n_sweeps=1)
    for shot in simulate_shots(rig, rng, 4):
        Image.fromarray(shot.frame.image).save(tmp_path / f"{shot.frame.name}.png")
        write_cloud(tmp_path / f"{shot.frame.name}_full.pcd", shot.frame.cloud)
    Calibration(SMALL).save(tmp_path / "camera.yaml")
    out = tmp_path / "calibration.yaml"
    command = ["lidar-camera", "--images", str(tmp_path / "*.png"), "--clouds", str(tmp_path), "--board"]
    command += ["8x6:0.1:1.0x0.8", "--camera", str(tmp_path / "camera.yaml"), "--out", str(out)]
    code = main([*command, "--pictures", str(tmp_path / "overlays"), "--max-deg", "1"])
    assert code == 0, capsys.readouterr()
    found = load_calibration(out)
    assert found.extrinsics is not None
    np.testing.assert_allclose(found.extrinsics.T_camera_lidar, rig.T_camera_lidar, atol=0.02)
    assert np.linalg.eigvalsh(found.extrinsics.covariance).min() > 0
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 4
    assert main([*command, "--max-mm", "0.01"]) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["intrinsics", "--images", "nowhere", "--board", "8x6:0.1"], "there is no picture in 'nowhere'"),
        (["intrinsics", "--board", "8x6:0.1"], "say --images"),
        (["intrinsics", "--images", "x", "--board", "8by6"], "'8by6' is not a board"),
        (["lidar-camera", "--images", "x", "--clouds", "y"], "say --board"),
        (["lidar-camera", "--board", "8x6:0.1"], "say where frames come from"),
        (["check", "missing.yaml", "--bag", "b.mcap"], "missing.yaml"),
    ],
)
def test_refusals_are_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("pc-calibrate: ")
    assert error.count("\n") == 1
    assert sentence in error


def test_boards_are_read_from_text() -> None:
    assert parse_board("7x5:0.095") == Board(7, 5, 0.095)
    assert parse_board("5x7:0.095:0.61x0.85+0.002,0") == Board(5, 7, 0.095, 0.61, 0.85, (0.002, 0.0))
    assert parse_board("charuco:7x5:0.1:0.075") == Board(7, 5, 0.1, marker_m=0.075)
    with pytest.raises(ValueError, match="less than the pattern's"):
        parse_board("7x5:0.095:0.3x0.85")


def test_charuco_corners_are_where_they_are_drawn() -> None:
    cv2 = pytest.importorskip("cv2")
    from calibration.board import find_corners

    board = Board(7, 5, 0.1, marker_m=0.075)
    plate = cv2.aruco.CharucoBoard(
        (8, 6), 0.1, 0.075, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_1000)
    )
    image = cv2.copyMakeBorder(
        plate.generateImage((800, 600)), 50, 50, 50, 50, cv2.BORDER_CONSTANT, value=255
    )
    image[:, :250] = 255  # a part hidden, which markers allow
    corners = find_corners(image, board)
    assert corners is not None
    assert 15 <= len(corners.uv) < 35
    expected = board.corners[corners.index, :2] * 1000 + [449.5, 349.5]
    np.testing.assert_allclose(corners.uv, expected, atol=0.3)


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="PC_PERCEPTION_DATA does not name the folder of real data")
def test_real_fisheye_and_vlp16(tmp_path: Path) -> None:
    root = Path(str(DATA)) / "calibration" / "acfr_vlp"
    out = tmp_path / "r.yaml"
    command = ["lidar-camera", "--images", str(root / "images"), "--clouds", str(root / "pcd" / "*_full.pcd")]
    command += [
        "--camera",
        str(root / "camera_info.yaml"),
        "--board",
        "5x7:0.095:0.61x0.85",
        "--out",
        str(out),
    ]
    assert main([*command, "--max-px", "10", "--max-deg", "0.6"]) == 0
    found = load_calibration(out)
    assert found.extrinsic_quality is not None
    assert found.extrinsic_quality.n_used == 6


@pytest.mark.slow
def test_check_of_a_recorded_stream_tells_drift(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("open3d", reason="the simulated street needs Open3D")
    from calibration.result import Calibration, Extrinsics
    from calibration.simulated import disturbed, simulate_street_frames
    from pc_perception.io.bag_writer import BagWriter

    frames, camera, T = simulate_street_frames(1, 3)
    with BagWriter(tmp_path / "rig.mcap") as bag:
        for k, frame in enumerate(frames):
            stamp = (k + 1) * 10**9
            bag.write_image("/camera/image_raw", frame.image, "camera", stamp)
            bag.write_cloud("/points", replace(frame.cloud, stamp_ns=stamp))
    off = disturbed(T, np.random.default_rng(1), 1.5, 0.05)
    codes = {}
    for name, mount in {"true": T, "off": off}.items():
        file = Calibration(camera, Extrinsics(mount, lidar_frame="lidar")).save(tmp_path / f"{name}.yaml")
        codes[name] = main(["check", str(file), "--bag", str(tmp_path / "rig.mcap"), "--every", "0"])
    said = capsys.readouterr().out
    assert codes == {"true": 0, "off": 2}, said
    assert "verdict: good" in said
    assert "verdict: drifted" in said


def test_limits_are_finite_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "found.yaml", "--bag", "drive.mcap", "--max-deg", "nan"])
    assert "'nan' is no finite number" in capsys.readouterr().err
