# SPDX-License-Identifier: Apache-2.0
"""Frames of recordings: pairing by time, clouds carried by /tf, poses of a board that stands still."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from calibration.board import Board
from calibration.camera import CameraModel
from calibration.frames import Frame, from_bag
from calibration.simulated import BOARD, PINHOLE, Rig, picture
from calibration.twist import rotation
from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL, pose, rotation_z
from pc_perception.io.bag_writer import BagWriter

SECOND = 10**9
K = np.array([[40.0, 0, 20], [0, 40, 15], [0, 0, 1]])
SPEED = 10.0
WALL = np.float32([[20.0, y, z] for y in range(-5, 6) for z in (-1, 0, 1)])


def write_bag(path: Path, n_turns: int = 20) -> Path:
    """A vehicle drives at 10 m/s towards a wall 20 m ahead; a point of the turn sees it at its own time."""
    time_s = np.linspace(0, 0.09, len(WALL)).astype(np.float32)
    with BagWriter(path) as bag:
        bag.write_transform("base", "lidar", np.eye(4), 0, static=True)
        bag.write_transform("base", "camera", pose((0, 0, 0), R_BODY_OPTICAL), 0, static=True)
        for k in range(n_turns):
            stamp = SECOND + k * SECOND // 10
            way = SPEED * k / 10
            bag.write_transform("odom", "base", pose((way, 0.0, 0.0)), stamp)
            seen = WALL - np.outer(way + SPEED * time_s, [1, 0, 0]).astype(np.float32)
            bag.write_cloud("/points", PointCloud(seen, {"time": time_s}, "lidar", stamp))
            if k % 2 == 0:
                late = stamp + 30_000_000
                bag.write_image("/camera/image_raw", np.full((30, 40, 3), k, np.uint8), "camera", late)
                bag.write_camera_info("/camera/camera_info", K, 40, 30, "camera", late)
    return path


def test_a_moving_vehicles_clouds_are_carried_to_the_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bag = write_bag(tmp_path / "drive.mcap")
    with caplog.at_level(logging.WARNING):
        found = from_bag(bag, fixed_frame="odom", every_s=0.0)
    assert not caplog.records
    assert len(found.frames) == 10
    assert found.camera is not None
    np.testing.assert_allclose(found.T_camera_lidar, pose((0, 0, 0), R_BODY_OPTICAL.T), atol=1e-12)
    for j, frame in enumerate(found.frames):
        ahead = 20 - SPEED * (0.2 * j + 0.03)
        np.testing.assert_allclose(frame.cloud.xyz[:, 0], ahead, atol=1e-3)
        assert frame.image[0, 0, 0] == 2 * j
    still = from_bag(bag, fixed_frame="odom", every_s=0.0, undistort=False)
    assert np.ptp(still.frames[3].cloud.xyz[:, 0]) == pytest.approx(SPEED * 0.09, abs=1e-3)


def test_frames_beyond_the_ends_of_tf_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = write_bag(tmp_path / "drive.mcap", 19)  # the last picture's turn ends after the last transform
    with caplog.at_level(logging.WARNING):
        found = from_bag(bag, fixed_frame="odom", every_s=0.5)
    assert len(found.frames) == 3
    assert "1 of 4 frames are left out: the transform of 'base' in 'odom' is 0.03 s away" in caplog.text
    with pytest.raises(
        ValueError, match="no frame can be carried by 'moon': frames 'lidar' and 'moon' are not"
    ):
        from_bag(bag, fixed_frame="moon")


def test_a_picture_takes_the_nearest_cloud_or_none(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive.mcap")
    assert [f.cloud.stamp_ns for f in from_bag(bag, every_s=1.0).frames] == [SECOND, 2 * SECOND]
    with pytest.raises(ValueError, match=r"has a cloud of '/points' within 0\.01 s; check the clocks"):
        from_bag(bag, slop_s=0.01)


def test_turns_of_a_board_that_stands_still_are_one_pose(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    from calibration.still_poses import still_poses

    camera = CameraModel(640, 480, np.array([[400.0, 0, 322], [0, 401.5, 235], [0, 0, 1]]), PINHOLE.D)
    rng = np.random.default_rng(1)
    places = [(0.0, 0.0), (0.0, 0.0), (0.2, 0.1), (-0.3, 0.2), (-0.3, 0.2), (-0.3, 0.2), None]
    frames = [frame(k, camera, place, rng) for k, place in enumerate(places)]
    with caplog.at_level(logging.WARNING):
        found = still_poses(frames, BOARD)
    assert [f.name for f in found] == ["0-1", "3-5"]
    assert "2 of 7 frames show no board that stands still" in caplog.text
    assert [len(f.cloud) for f in found] == [20, 30]
    np.testing.assert_array_equal(found[1].cloud.fields["ring"], np.repeat([0, 1, 0, 1, 0, 1], 5))
    np.testing.assert_array_equal(found[1].image, frames[4].image)
    shots = frames[1:4]
    assert still_poses(shots, BOARD) == shots


def frame(k: int, camera: CameraModel, place: tuple[float, float] | None, rng: np.random.Generator) -> Frame:
    image = np.full((480, 640), 90, np.uint8)
    if place is not None:
        T = pose((*place, 1.8), rotation(np.array([0.3, 0.2, 0.0])) @ rotation_z(0.2))
        image = picture(Rig(camera), T, rng)
    cloud = PointCloud(np.ones((10, 3), np.float32), {"ring": np.repeat([0, 1], 5)}, "lidar", k)
    return Frame(str(k), image, cloud, "camera")


def test_a_board_whose_corners_are_partly_hidden_is_compared_by_those_seen() -> None:
    from calibration.board import Corners
    from calibration.still_poses import _moved_px

    uv = Board(7, 5, 0.1).corners[:, :2] * 1000
    all_seen = Corners(uv, np.arange(35))
    some = Corners(uv[10:] + np.array([3.0, 4.0]), np.arange(10, 35))
    assert _moved_px(all_seen, some) == pytest.approx(5.0)
    assert _moved_px(Corners(uv[:5], np.arange(5)), some) == np.inf
