# SPDX-License-Identifier: Apache-2.0
"""Colours and labels of pixels on a LiDAR's points: occlusion, choice of camera, a simulated rig with truth."""

from __future__ import annotations

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL, in_image, inverse, pose, project, rotation_z, transform
from pc_perception.inference.fusion import UNSEEN_COLOR, View, beam_spacing, fuse
from pc_perception.labels import UNLABELED
from pc_perception.ops.visibility import visible

K = np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]])
SHAPE = (120, 160)
BLUE, RED = (0, 0, 255), (255, 0, 0)


def pinhole(points):
    return project(K, points)[0]


def view(image, T_camera_cloud, labels=None):
    return View(pinhole, (100.0, 100.0), T_camera_cloud, image, labels)


def mounted(position, yaw_rad=0.0):
    """T_camera_cloud of a level camera at a place in the LiDAR's frame."""
    return inverse(pose(position, rotation_z(yaw_rad) @ R_BODY_OPTICAL))


def panel_before_wall():
    """A spinning LiDAR's points on a wall at 10 m and on a panel, 1 m wide and high, at 4 m; and which are on it."""
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-25, 25, 0.4)), np.radians(np.arange(-12, 12, 1.0)))
    direction = np.stack(
        [np.ones_like(azimuth), np.tan(azimuth), np.tan(elevation) / np.cos(azimuth)], -1
    ).reshape(-1, 3)
    on_panel = (np.abs(direction[:, 1:] * 4) <= 0.5).all(1)
    xyz = (direction * np.where(on_panel, 4.0, 10.0)[:, None]).astype(np.float32)
    ring = np.repeat(np.arange(24), azimuth.shape[1]).astype(np.uint16)
    return PointCloud(xyz, {"ring": ring}, "lidar"), on_panel


def picture_of_panel(T_camera_cloud):
    """What the camera sees of that scene: the panel red and class 1, all else blue and class 0."""
    v, u = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1).reshape(-1, 3)
    T = inverse(T_camera_cloud)
    origin, rays = T[:3, 3], rays @ T[:3, :3].T
    at = origin + rays * ((4.0 - origin[0]) / rays[:, :1])
    red = ((np.abs(at[:, 1:]) <= 0.5).all(1) & (at[:, 0] > 0)).reshape(SHAPE)
    return np.where(red[..., None], RED, BLUE).astype(np.uint8), red.astype(np.uint16)


@pytest.mark.parametrize("position", [(0.0, 0.0, 0.0), (0.0, 0.8, -0.2), (0.5, -0.8, 0.3)])
def test_what_the_panel_hides_takes_no_colour_of_it(position):
    cloud, on_panel = panel_before_wall()
    T = mounted(position)
    image, labels = picture_of_panel(T)
    fused = fuse(cloud, [view(image, T, labels)])
    np.testing.assert_array_equal(fused.labels == UNLABELED, fused.view < 0)
    seen, red = fused.view == 0, (fused.rgb == RED).all(1)
    assert (fused.rgb[~seen] == UNSEEN_COLOR).all()
    assert red[on_panel & seen].mean() > 0.93  # all but some at its rim, by half a pixel
    assert seen[on_panel].all()
    assert (seen & red)[~on_panel].sum() <= 0.002 * len(cloud)
    np.testing.assert_array_equal(fused.labels[seen] == 1, red[seen])
    uv, depth = project(K, transform(T, cloud.xyz))
    inside = in_image(uv, depth, SHAPE[1], SHAPE[0])
    u, v = np.rint(uv[inside]).astype(int).T
    of_panel = labels[v, u] == 1
    if position != (0.0, 0.0, 0.0):
        hidden = of_panel & ~on_panel[inside]
        assert hidden.sum() > 0.01 * len(
            cloud
        )  # without a depth buffer the panel's colour bleeds onto the wall
    assert seen[inside][~of_panel & ~on_panel[inside]].mean() > 0.93


def test_the_camera_that_has_it_nearest_to_its_middle_counts():
    cloud = PointCloud(np.array([[10, 0, 0], [10, 6, 0], [10, 3.0, 0], [-10, 0, 0]], np.float32), {}, "lidar")
    images = [np.full((*SHAPE, 3), c, np.uint8) for c in (BLUE, RED)]
    views = [view(images[0], mounted((0, 0, 0))), view(images[1], mounted((0, 0, 0), np.arctan2(6, 10)))]
    fused = fuse(cloud, views)
    assert fused.view.tolist() == [0, 1, 1, -1]
    assert (fused.labels == UNLABELED).all()  # no camera's pictures are labelled


def test_points_that_are_not_finite_are_seen_by_none():
    xyz = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [10, 0, 0]], np.float32)
    fused = fuse(PointCloud(xyz), [view(np.full((*SHAPE, 3), RED, np.uint8), mounted((0, 0, 0)))])
    assert fused.view.tolist() == [-1, -1, 0]
    empty = fuse(PointCloud(np.zeros((0, 3), np.float32)), [view(np.zeros((*SHAPE, 3), np.uint8), np.eye(4))])
    assert len(empty.view) == 0


def test_spacing_of_rings_and_of_a_cloud_without():
    cloud, _ = panel_before_wall()
    side, up = np.degrees(np.median(beam_spacing(cloud), axis=0))
    assert side == pytest.approx(0.4, rel=0.05)
    assert up == pytest.approx(1.0, rel=0.05)
    without = np.degrees(beam_spacing(PointCloud(cloud.xyz)))
    assert without[0, 0] == without[0, 1] == pytest.approx(np.sqrt(0.4), rel=0.1)


def by_hand(uv, depth, half, shape, slack_m, slack_share):
    """The same as ``visible``, point against point."""
    pixel = np.rint(uv)
    inside = in_image(uv, depth, shape[1], shape[0])
    out = inside.copy()
    for i in np.flatnonzero(inside):
        covers = inside & (np.rint(uv - half) <= pixel[i]).all(1) & (pixel[i] <= np.rint(uv + half)).all(1)
        out[i] = depth[i] <= depth[covers].min() + slack_m + slack_share * depth[i]
    return out


@pytest.mark.parametrize("seed", range(3))
def test_the_depth_buffer_against_each_point_by_hand(seed):
    rng = np.random.default_rng(seed)
    uv = rng.uniform(-10, 60, (400, 2)).astype(np.float32)
    depth = rng.uniform(-1, 20, 400).astype(np.float32)
    half = rng.uniform(0, 4, (400, 2)).astype(np.float32)
    uv[3], depth[4] = np.nan, np.nan
    got = visible(uv, depth, half, (48, 52), 0.2, 0.03)
    np.testing.assert_array_equal(got, by_hand(uv, depth, half, (48, 52), np.float32(0.2), np.float32(0.03)))
    assert 0 < got.sum() < 300
    with pytest.raises(ValueError, match="need"):
        visible(uv, depth[:5], half, (48, 52))


def test_labels_of_a_simulated_rig_in_a_street():
    pytest.importorskip("open3d", reason="the simulator casts rays with open3d")
    from pc_perception.simulation.camera import camera_ring
    from pc_perception.simulation.drive import simulate_drive
    from pc_perception.simulation.lidar import SpinningLidar

    ring = camera_ring(3, 320, 180)
    frame = next(iter(simulate_drive(7, 1, SpinningLidar(32, 10.0, 720), ring, speed=0.0)))
    views, naive = [], []
    for name, camera, T_base_camera in ring:
        T, shot = inverse(T_base_camera) @ frame.T_base_lidar, frame.images[name]
        focal = (camera.K[0, 0], camera.K[1, 1])
        views.append(View(lambda p, K=camera.K: project(K, p)[0], focal, T, shot.rgb, shot.classes))
        uv, depth = project(camera.K, transform(T, frame.cloud.xyz))
        index = np.flatnonzero(in_image(uv, depth, 320, 180))
        u, v = np.rint(uv[index]).astype(int).T
        naive.append(shot.classes[v, u] == frame.cloud.fields["label"][index])
    fused = fuse(frame.cloud, views)
    seen = fused.view >= 0
    right = (fused.labels == frame.cloud.fields["label"])[seen].mean()
    without = np.concatenate(naive).mean()
    assert seen.sum() > 0.85 * np.concatenate(naive).size
    assert 1 - right < 0.75 * (1 - without)
    assert right > 0.9
