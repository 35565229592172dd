# SPDX-License-Identifier: Apache-2.0
"""Calibration without a target and the check of a calibration, on simulated streets whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from calibration.alignment import Alignment, shrunk
from calibration.alignment_kernel import camera_values, sum_edges
from calibration.camera import CameraModel
from calibration.check import check_calibration
from calibration.depth_edges import DepthEdges, depth_edges
from calibration.result import Calibration, Extrinsics
from calibration.scan_lines import scan_lines
from calibration.simulated import disturbed, simulate_street_frames
from calibration.targetless import (
    calibrate_without_target,
    descend,
    doubts,
    jackknife,
    prepare_frames,
    score_of,
    spread_of,
    turned,
    valleys,
)
from calibration.twist import difference, moved
from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse, transform

pytest.importorskip("open3d", reason="the simulated street needs Open3D")


@pytest.fixture(scope="module")
def street() -> tuple[list, CameraModel, np.ndarray]:
    return simulate_street_frames(1, 3)


def test_the_score_is_best_at_the_truth(street: tuple) -> None:
    frames, camera, T = street
    score = Alignment.at_blur(prepare_frames(frames, camera, T, np.random.default_rng(0)), camera, 2.0, T)
    steps = np.r_[np.full(3, np.radians(1.0)), np.full(3, 0.15)]
    for axis, step in zip(np.eye(6), steps, strict=True):
        for sign in (-1, 1):
            assert score(moved(T, sign * step * axis)) > score(T)
    # Each half alone tells a turn of one degree.
    turned = moved(T, np.r_[np.radians(1.0), np.zeros(5)])
    assert score.edge_score(turned) < score.edge_score(T)
    assert score.information_distance(turned) > score.information_distance(T)


def test_a_stage_comes_closer(street: tuple) -> None:
    frames, camera, T = street
    rng = np.random.default_rng(3)
    guess = disturbed(T, rng, 0.6, 0.05)
    prepared = prepare_frames(frames, camera, guess, rng)
    angle_deg, distance_mm = difference(
        descend(score_of(prepared, camera, guess, 1), guess, 1, n_evaluations=200), T
    )
    assert angle_deg < 0.25
    assert distance_mm < 50


def test_a_result_far_from_its_guess_is_doubted() -> None:
    T = np.eye(4)
    assert doubts(moved(T, np.r_[np.radians(3.0), np.zeros(5)]), T) == ()
    (far,) = doubts(moved(T, np.r_[np.radians(9.0), np.zeros(5)]), T)
    assert "9.0 deg and 0 mm from the guess" in far
    (shifted,) = doubts(moved(T, np.r_[np.zeros(3), 0.4, 0, 0]), T)
    assert "0.0 deg and 400 mm from the guess" in shifted


def test_valleys_are_found_wherever_they_are_within_reach() -> None:
    """A wide shallow valley about the guess and a narrow deep one 3 degrees away."""
    guess = disturbed(np.eye(4), np.random.default_rng(0))
    deep, shallow = (
        moved(guess, np.r_[np.radians(turn), np.zeros(3)]) for turn in ([1.6, -2.4, 0.8], [0, 0, 0])
    )

    def score(T: np.ndarray) -> float:
        near, wide = difference(T, deep)[0], difference(T, shallow)[0]
        return -2.0 * np.exp(-(near**2)) - np.exp(-((wide / 4) ** 2))

    first, second = np.degrees(valleys(score, guess))
    np.testing.assert_allclose(first, [1.6, -2.4, 0.8], atol=1e-6)
    np.testing.assert_allclose(second, 0, atol=1e-6)


def test_of_two_valleys_the_finer_images_choose(street: tuple) -> None:
    frames, camera, T = street
    guess = disturbed(T, np.random.default_rng(0), 3.0, 0.05)
    prepared = prepare_frames(frames, camera, guess, np.random.default_rng(0))
    score = score_of(prepared, camera, guess, 1)
    best = turned(prepared, camera, guess)
    direct = descend(score_of(prepared, camera, guess, 0), guess, 0)
    assert score(best) <= score(direct) + 0.01  # searches of one valley end at different places of its floor
    assert difference(best, T)[0] < 1.0


def test_frames_of_one_place_do_not_make_a_result_surer(street: tuple) -> None:
    frames, camera, T = street
    prepared = prepare_frames(frames[:1], camera, T, np.random.default_rng(0))
    alone = score_of(prepared, camera, T, 2)
    once = spread_of(jackknife(alone, T))
    np.testing.assert_allclose(
        spread_of(jackknife(replace(alone, frames=2 * alone.frames), T)), once, rtol=0.1
    )
    assert once[0] > 0.01
    assert once[1] > 1


def test_outlines_that_contradict_each_other_make_a_result_unsure(street: tuple) -> None:
    """Level outlines turned by a degree about the camera's axis, in every part of the surroundings."""
    frames, camera, T = street
    score = score_of(prepare_frames(frames, camera, T, np.random.default_rng(0)), camera, T, 0)
    turn = inverse(T) @ moved(T, np.r_[0, 0, np.radians(1.0), np.zeros(3)])
    edges = [f.edges for f in score.frames]
    xyz = [np.where(e.upright[:, None], e.xyz, transform(turn, e.xyz)) for e in edges]
    false = replace(
        score,
        frames=[
            replace(f, edges=replace(e, xyz=x)) for f, e, x in zip(score.frames, edges, xyz, strict=True)
        ],
    )
    assert spread_of(jackknife(score, T))[0] < 0.35
    assert spread_of(jackknife(false, descend(false, T, 2)))[0] > 0.5


def test_small_images_are_read_where_large_ones_are() -> None:
    """The mean of a ramp over a block is its value at the block's middle."""
    rng = np.random.default_rng(0)
    camera = CameraModel(
        96, 64, np.array([[80.0, 0, 47], [0, 80, 31], [0, 0, 1]]), np.array([-0.1, 0.02, 0, 0, 0])
    )
    xyz = np.c_[rng.uniform(-0.3, 0.3, (50, 2)), np.ones(50)]
    u, v = camera.project(xyz).T
    across, down = np.meshgrid(np.arange(96, dtype=np.float32), np.arange(64, dtype=np.float32))
    for factor in (1, 2, 4):
        values, ramps = camera_values(camera, factor), (shrunk(across, factor), shrunk(down, factor))
        found = [sum_edges(xyz, np.full(50, upright), np.eye(4), values, *ramps) for upright in (True, False)]
        np.testing.assert_allclose(found, [u.sum(), v.sum()], rtol=1e-5)


@pytest.mark.slow
def test_recovers_two_degrees_and_a_decimetre(street: tuple) -> None:
    frames, camera, T = street
    guess = disturbed(T, np.random.default_rng(0))
    found = calibrate_without_target(frames, camera, guess)
    angle_deg, distance_mm = difference(found.extrinsics.T_camera_lidar, T)
    assert angle_deg <= 0.3  # three scenes; benchmarks/calibration.py measures eight
    assert distance_mm <= 60
    assert found.score(guess) > found.score(found.extrinsics.T_camera_lidar) + 0.05
    assert found.quality.spread_deg is not None
    assert 0 < found.quality.spread_deg < 1


@pytest.mark.slow
def test_check_tells_good_from_drifted(street: tuple) -> None:
    frames, camera, T = street
    good = check_calibration(Calibration(camera, Extrinsics(T)), frames, 0.5, 150)
    assert good.verdict == "good"
    assert good.drift_deg < 0.3
    assert good.share_worse > 0.9
    off = disturbed(T, np.random.default_rng(1), 1.5, 0.05)
    drifted = check_calibration(Calibration(camera, Extrinsics(off)), frames, 0.5, 150)
    assert drifted.verdict == "drifted"
    assert drifted.drift_deg > 1


def test_a_cloud_in_another_frame_is_refused(street: tuple) -> None:
    frames, camera, T = street
    calibration = Calibration(camera, Extrinsics(T, lidar_frame="velodyne"))
    with pytest.raises(ValueError, match="is in 'lidar', the calibration is for 'velodyne'"):
        check_calibration(calibration, frames, 0.5, 150)
    turned_away = [replace(f, cloud=f.cloud.select(transform(T, f.cloud.xyz)[:, 2] < 0)) for f in frames]
    with pytest.raises(ValueError, match="fall into its picture"):
        prepare_frames(turned_away, camera, T, np.random.default_rng(0))


def test_intrinsics_alone_cannot_be_checked(street: tuple) -> None:
    frames, camera, _ = street
    with pytest.raises(ValueError, match="intrinsics only"):
        check_calibration(Calibration(camera), frames, 0.5, 150)


AZIMUTH = np.arange(-np.pi, np.pi, 0.01)


def outlines(elevation: np.ndarray, range_at: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> DepthEdges:
    """Outlines in a sweep of rings at ``elevation``, whose ranges are a function of azimuth and elevation, rad."""
    a, e = (g.ravel() for g in np.meshgrid(AZIMUTH, elevation))
    r = range_at(a, e)
    xyz = np.stack([r * np.cos(e) * np.cos(a), r * np.cos(e) * np.sin(a), r * np.sin(e)], 1)
    ring = np.repeat(np.arange(len(elevation), dtype=np.uint16), len(AZIMUTH))
    return depth_edges(scan_lines(PointCloud(xyz.astype(np.float32), {"ring": ring})))


def test_outlines_are_where_a_box_ends() -> None:
    """A wall 10 m away and before it, 4 m away, a strip between azimuths -0.2 and 0.3 rad."""
    edges = outlines(np.linspace(-0.1, 0.1, 5), lambda a, e: np.where((a > -0.2) & (a < 0.3), 4.0, 10.0))
    assert edges.upright.all()
    assert len(edges.xyz) == 10
    np.testing.assert_allclose(np.linalg.norm(edges.xyz, axis=1), 4.0, atol=1e-3)
    found = np.sort(np.arctan2(edges.xyz[:, 1], edges.xyz[:, 0]))
    np.testing.assert_allclose(found[:5], -0.2, atol=0.011)
    np.testing.assert_allclose(found[5:], 0.3, atol=0.011)


def test_a_road_that_goes_on_has_no_outline() -> None:
    """From ring to ring a flat road leaps by metres; a wall's top 20 m away is an outline, its foot is none."""

    def road_and_wall(a: np.ndarray, e: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            r = np.minimum(np.where(e < 0, -2.0 / np.sin(e), np.inf), 20.0 / np.cos(e))
        return np.where(20.0 * np.tan(e) > 0.5, 50.0, r)

    edges = outlines(np.radians([-19, -14, *np.arange(-13, -5), *np.arange(-5.8, 4.0, 0.2)]), road_and_wall)
    assert not edges.upright.any()
    np.testing.assert_allclose(edges.xyz[:, 2], 0.5, atol=0.08)
    assert len(edges.xyz) == pytest.approx(len(AZIMUTH), abs=2)


def test_a_kerb_hides_nothing() -> None:
    """A pavement 0.2 m above the road from 15.3 m on, and PandaSet's rings, one of which hits it just past its kerb."""

    def kerb(a: np.ndarray, e: np.ndarray) -> np.ndarray:
        down = np.tan(-e)
        flat = np.where(2.9 / down < 15.3, 2.9 / down, np.maximum(15.3, 2.7 / down))
        return flat / np.cos(e)

    edges = outlines(np.radians([-18.87, -13.92, -12.96, -12, -11.02, -9.88, -9.05, -8.05, -7.06]), kerb)
    assert len(edges.xyz) == 0
