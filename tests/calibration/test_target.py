# SPDX-License-Identifier: Apache-2.0
"""Calibration with a board on simulated rigs whose truth is known, and boards that cannot be used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.board import Board, find_corners
from calibration.board_search import find_boards
from calibration.camera import CameraModel
from calibration.consensus import Sighting, first_guess
from calibration.frames import Frame
from calibration.joint_fit import fit_jointly
from calibration.quality import weak_directions
from calibration.scan_lines import scan_lines
from calibration.simulated import PINHOLE, Rig, Shot, shoot, simulate_shots, simulate_sightings
from calibration.target import TargetSettings, calibrate_with_target, sight
from calibration.twist import difference, rotation
from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse, pose, rotation_z, transform

pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("open3d", reason="the simulated LiDAR needs Open3D")

N_POSES = 10
# Half the pixels of the simulation's usual camera: a quarter of the time.
SMALL = CameraModel(640, 480, np.array([[400.0, 0, 322], [0, 401.5, 235], [0, 0, 1]]), PINHOLE.D)
QUICK = TargetSettings(n_resamples=10)


@pytest.mark.slow
def test_errors_over_seeds() -> None:
    """Ten poses, 15 mm range noise: the wanted bounds in the mean; the worst of few seeds hardly more."""
    errors = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        rig = Rig.draw(rng)
        T, pairs = first_guess(simulate_sightings(rig, rng, N_POSES))
        assert len(pairs) >= N_POSES - 1
        fit = fit_jointly(pairs, rig.board, T)
        errors.append(difference(fit.T_camera_lidar, rig.T_camera_lidar))
    mean, worst = np.mean(errors, axis=0), np.max(errors, axis=0)
    assert mean[0] <= 0.05
    assert mean[1] <= 5
    assert worst[0] <= 0.06
    assert worst[1] <= 6


@pytest.fixture(scope="module")
def rig() -> Rig:
    return replace(Rig.draw(np.random.default_rng(3), SMALL), n_sweeps=1)


@pytest.fixture(scope="module")
def shots(rig: Rig) -> list[Shot]:
    return simulate_shots(rig, np.random.default_rng(5), 5)


@pytest.fixture(scope="module")
def pairs(rig: Rig) -> list:
    return first_guess(simulate_sightings(rig, np.random.default_rng(7), 6))[1]


def test_from_pictures_and_clouds_to_a_result(rig: Rig, shots: list[Shot]) -> None:
    frames = [s.frame for s in shots]
    blind = replace(frames[0], name="blind", image=np.full_like(frames[0].image, 90))
    found = calibrate_with_target([*frames, blind], rig.camera, rig.board, settings=QUICK)
    angle_deg, distance_mm = difference(found.extrinsics.T_camera_lidar, rig.T_camera_lidar)
    assert angle_deg < 0.2  # five poses of one turn each
    assert distance_mm < 12
    assert found.quality.n_used == len(shots)
    assert found.skipped == {"blind": "the board is not seen whole in the image"}
    assert len(found.held_out) == len(shots)
    assert found.quality.held_out_reprojection_px is not None
    assert found.quality.held_out_reprojection_px < 4
    assert found.quality.held_out_plane_mm is not None
    assert found.quality.held_out_plane_mm < 20
    assert found.quality.spread_deg is not None
    assert 0 < found.quality.spread_deg < 0.5
    assert found.extrinsics.lidar_frame == "lidar"


def test_first_guess_survives_wrong_plates(rig: Rig, pairs: list) -> None:
    """The best-looking plate of every second sweep is something else."""
    wrong = [
        replace(p.cloud, T_lidar_board=pose((k, 2 - k, 0.3), rotation(np.array([0.4 * k, 1.0, 0.2]))))
        for k, p in enumerate(pairs)
    ]
    mixed = [
        Sighting(p.name, p.image, [w, p.cloud] if k % 2 else [p.cloud, w])
        for k, (p, w) in enumerate(zip(pairs, wrong, strict=True))
    ]
    T, agreed = first_guess(mixed)
    assert [p.cloud for p in agreed] == [p.cloud for p in pairs]
    assert difference(T, rig.T_camera_lidar)[0] < 1


def test_half_turns_of_a_plate_do_not_matter(rig: Rig, pairs: list) -> None:
    turned = pose(R=rotation_z(np.pi))
    other = [replace(p, cloud=replace(p.cloud, T_lidar_board=p.cloud.T_lidar_board @ turned)) for p in pairs]
    a = fit_jointly(pairs, rig.board, rig.T_camera_lidar)
    b = fit_jointly(other, rig.board, rig.T_camera_lidar)
    assert difference(a.T_camera_lidar, b.T_camera_lidar) == (0.0, 0.0)


def test_weight_two_is_twice_the_pair(rig: Rig, pairs: list) -> None:
    a = fit_jointly([*pairs, pairs[0]], rig.board, rig.T_camera_lidar)
    b = fit_jointly(pairs, rig.board, rig.T_camera_lidar, np.array([2.0, 1, 1, 1, 1, 1]))
    assert difference(a.T_camera_lidar, b.T_camera_lidar) == pytest.approx((0, 0), abs=1e-3)
    c = fit_jointly(pairs, rig.board, rig.T_camera_lidar, np.array([0.0, 1, 1, 1, 1, 1]))
    d = fit_jointly(pairs[1:], rig.board, rig.T_camera_lidar)
    assert difference(c.T_camera_lidar, d.T_camera_lidar) == pytest.approx((0, 0), abs=1e-3)


def test_one_pose_is_refused(rig: Rig, shots: list[Shot]) -> None:
    with pytest.raises(ValueError, match="1 of 1 poses show the board"):
        calibrate_with_target([shots[0].frame], rig.camera, rig.board, settings=QUICK)


def test_a_board_partly_seen_in_the_image_is_left_out(rig: Rig, shots: list[Shot]) -> None:
    image = shots[0].frame.image.copy()
    middle = rig.camera.project(shots[0].T_camera_board[None, :3, 3])[0]
    image[:, int(middle[0]) :] = 120
    found = sight(replace(shots[0].frame, image=image), rig.camera, rig.board, None, QUICK)
    assert found == "the board is not seen whole in the image"


def test_a_board_partly_seen_in_the_cloud_is_left_out(rig: Rig, shots: list[Shot]) -> None:
    cloud = shots[0].frame.cloud
    T_lidar_board = inverse(rig.T_camera_lidar) @ shots[0].T_camera_board
    local = transform(inverse(T_lidar_board), cloud.xyz.astype(np.float64))
    hidden = (np.abs(local[:, 2]) < 0.1) & (local[:, 0] > 0.1) & (np.abs(local[:, :2]) < 0.6).all(1)
    found = find_boards(scan_lines(cloud.select(~hidden)), rig.board, near=T_lidar_board[:3, 3], near_m=0.3)
    assert found == []
    assert find_boards(scan_lines(cloud), rig.board, near=T_lidar_board[:3, 3], near_m=0.3)


def test_a_mirrored_cloud_is_named(rig: Rig, pairs: list) -> None:
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    mirrored = []
    for p in pairs:
        # A frame on the mirrored plate, right-handed again by flipping its y axis too.
        T = flip @ p.cloud.T_lidar_board @ flip
        mirrored.append(Sighting(p.name, p.image, [replace(p.cloud, T_lidar_board=T)]))
    with pytest.raises(ValueError, match="mirror"):
        first_guess(mirrored)


def test_poses_that_do_not_constrain_an_axis_are_named(rig: Rig, pairs: list) -> None:
    """Boards side by side, all facing the same way and with few edges: shifts along the plane stay free."""
    flat = []
    for k, p in enumerate(pairs[:4]):
        cells = np.stack(np.meshgrid(np.linspace(-0.4, 0.4, 9), np.linspace(-0.3, 0.3, 7)), -1).reshape(-1, 2)
        T_camera_board = pose((0.5 * k - 0.7, 0.0, 3.0))
        cells = np.column_stack([cells, np.zeros(len(cells))])
        plate = replace(
            p.cloud,
            T_lidar_board=T_camera_board,
            cells=transform(T_camera_board, cells),
            cell_sigma_m=np.full(len(cells), 0.005),
            edges=np.zeros((0, 3)),
            edge_sigma_m=np.zeros(0),
        )
        flat.append(replace(p, image=replace(p.image, T_camera_board=T_camera_board), cloud=plate))
    warnings = weak_directions(fit_jointly(flat, rig.board, np.eye(4)).covariance)
    free = [w for w in warnings if "translation" in w]
    assert len(free) == 2
    assert not any("(0.00, 0.00, 1.00)" in w for w in free)
    assert weak_directions(fit_jointly(pairs, rig.board, rig.T_camera_lidar).covariance) == []


def test_a_shifted_symmetric_pattern_is_warned_of() -> None:
    assert Board(7, 5, 0.1).is_symmetric
    assert not Board(8, 5, 0.1).is_symmetric


def test_an_image_of_another_size_is_refused(rig: Rig, shots: list[Shot]) -> None:
    frame = replace(shots[0].frame, image=shots[0].frame.image[::2, ::2])
    with pytest.raises(ValueError, match="320 x 240 pixels, the camera 640 x 480"):
        calibrate_with_target([frame], rig.camera, rig.board)


def test_corners_of_a_slanted_board_are_exact(rig: Rig) -> None:
    rng = np.random.default_rng(11)
    T = pose((0.2, -0.1, 2.5), rotation(np.array([0.5, 0.3, 0.0])) @ rotation_z(0.5))
    corners = find_corners(shoot(rig, T, rng).frame.image, rig.board)
    assert corners is not None
    truth = rig.camera.project(transform(T, rig.board.corners))
    error = min(np.abs(corners.uv - t).max() for t in (truth, truth[::-1]))
    assert error < 0.25


def test_the_frame_is_named_in_refusals(rig: Rig, shots: list[Shot]) -> None:
    empty = Frame("nothing", shots[0].frame.image, shots[0].frame.cloud.select(np.arange(10)))
    found = sight(empty, rig.camera, rig.board, None, QUICK)
    assert found == "the cloud has 10 points with a range; at least 100 are needed"


def test_beams_of_organised_clouds_are_found_in_rows_and_in_columns() -> None:
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-45, 45, 0.5)), np.radians(np.arange(-12, 12, 1.5)))
    rays = np.stack([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)], -1).astype(np.float32) * 5
    in_rows = scan_lines(PointCloud(rays.reshape(-1, 3), grid_shape=rays.shape[:2]))
    # RoboSense's driver: a firing in each row.
    turned = rays.transpose(1, 0, 2)
    in_columns = scan_lines(PointCloud(turned.reshape(-1, 3), grid_shape=turned.shape[:2]))
    assert len(np.unique(in_columns.ring)) == rays.shape[0]
    np.testing.assert_array_equal(in_columns.xyz, in_rows.xyz)
    np.testing.assert_array_equal(in_columns.ring, in_rows.ring)
