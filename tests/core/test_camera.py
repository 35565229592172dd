# SPDX-License-Identifier: Apache-2.0
"""The simulated cameras: geometry of pictures, depth and masks, and the depth sensor's faults."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("open3d", reason="ray casting needs open3d")

from pc_perception import geometry
from pc_perception.simulation import shapes
from pc_perception.simulation.camera import PinholeCamera, camera_ring, look
from pc_perception.simulation.materials import Material
from pc_perception.simulation.raycast import Raycaster
from pc_perception.simulation.rgbd import RgbdCamera
from pc_perception.simulation.scene import Part, Scene, make_object
from pc_perception.simulation.shading import Exposure

WALL, BOX = 2, 13


@pytest.fixture(scope="module")
def raycaster():
    """A red wall 3 m ahead (x) and a green box before it, to the left and below the axis."""
    red, green = Material(rgb=(0.8, 0.1, 0.1)), Material(rgb=(0.1, 0.8, 0.1))
    wall = Part("wall", *shapes.box((0.1, 6.0, 6.0), (3.05, 0.0, 0.0)), red)
    box = Part("body", *shapes.box((0.4, 0.4, 0.4), (2.0, 0.5, -0.4)), green)
    objects = [make_object(WALL, [wall]), make_object(BOX, [box])]
    return Raycaster(Scene.build(objects, "simulation_room", sun=np.array([-1.0, 0.0, 0.0])))


@pytest.fixture(scope="module")
def frame(raycaster):
    camera = PinholeCamera.from_fov(160, 120, 70.0)
    return camera.render(raycaster, look(np.zeros(3), 0.0, 0.0), np.random.default_rng(0), stamp_ns=5)


def test_depth_is_along_the_axis_and_things_are_where_they_should_be(frame):
    assert frame.depth[0, 0] == pytest.approx(3.0, abs=1e-4)  # the wall is flat: the same depth everywhere
    v, u = np.nonzero(frame.classes == BOX)
    assert u.max() < 80  # left (y > 0) is at small u
    assert v.min() > 60  # below is at large v
    assert set(np.unique(frame.classes)) == {WALL, BOX}
    assert (frame.instances[frame.classes == BOX] == 2).all()


def test_colours_follow_the_masks(frame):
    box = frame.classes == BOX
    assert (frame.rgb[box][:, 1] > frame.rgb[box][:, 0]).mean() > 0.99
    assert (frame.rgb[~box][:, 0] > frame.rgb[~box][:, 1]).mean() > 0.99


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0.0, 0.0, 0.0), (0.3, -0.2, 0.1), (-0.25, 0.15, -0.3)])
def test_projecting_the_points_of_the_depth_image_gives_back_their_pixels(raycaster, yaw, pitch, roll):
    camera = PinholeCamera.from_fov(96, 64, 60.0)
    T_world_camera = look(np.array([-0.2, 0.1, 0.3]), yaw, pitch, roll)
    frame = camera.render(raycaster, T_world_camera, np.random.default_rng(0))
    points = geometry.unproject(camera.K, frame.depth)
    valid = np.isfinite(points[:, 2])
    uv, depth = geometry.project(camera.K, points[valid])
    v, u = np.divmod(np.flatnonzero(valid), 96)
    assert np.allclose(uv, np.stack([u, v], axis=1), atol=1e-2)
    assert np.allclose(depth, frame.depth.ravel()[valid], rtol=1e-5)
    # and in the world they lie on the wall or on the box
    world = geometry.transform(T_world_camera, points[valid].astype(np.float64))
    on_wall = frame.classes.ravel()[valid] == WALL
    front = np.abs(world[on_wall, 0] - 3.0) < 1e-3
    assert front.mean() > 0.95  # the rest is the wall's narrow side
    inside = geometry.in_box(world[~on_wall], geometry.pose((2.0, 0.5, -0.4)), np.full(3, 0.402))
    assert inside.all()


def test_the_same_generator_gives_the_same_picture(raycaster):
    camera = PinholeCamera.from_fov(64, 48, 60.0)
    pictures = [
        camera.render(raycaster, np.eye(4), np.random.default_rng(seed), Exposure(noise=0.05)).rgb
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_a_ring_looks_all_around_with_nuscenes_names():
    ring = camera_ring(6, 80, 45)
    assert next(name for name, _, _ in ring) == "CAM_FRONT"
    ahead = {name: T[:3, 2] for name, _, T in ring}
    assert ahead["CAM_FRONT"][0] > 0.99
    assert ahead["CAM_BACK"][0] < -0.99
    assert ahead["CAM_FRONT_LEFT"][1] > 0.5
    assert ahead["CAM_BACK_RIGHT"][1] < -0.5
    assert len(camera_ring(4)) == 4


def test_impossible_cameras_are_refused():
    with pytest.raises(ValueError, match="field of view"):
        PinholeCamera.from_fov(64, 48, 190.0)
    with pytest.raises(ValueError, match="at least one camera"):
        camera_ring(0)


def sensor(**more) -> RgbdCamera:
    quiet = {"edge_px": 0.0, "hole_share": -1.0, "graze_cos": 0.001, "baseline_m": 0.0}
    return RgbdCamera(PinholeCamera.from_fov(160, 120, 60.0), **{**quiet, **more})


def capture(raycaster, camera: RgbdCamera, x: float = 0.0):
    return camera.capture(raycaster, look(np.array([x, 0, 0]), 0.0, 0.0), np.random.default_rng(3))[1]


def test_depth_noise_grows_with_the_square_of_depth(raycaster):
    spread = []
    for x in (2.0, -1.0):  # the wall at 1 m and at 4 m
        frame = capture(raycaster, sensor(noise=0.002, step=1e-6, far_m=9.0), x)
        wall = (frame.classes == WALL) & (frame.depth > 0)
        spread.append(np.std(frame.depth[wall] - (3.0 - x)))
    assert spread[1] / spread[0] == pytest.approx(16.0, rel=0.35)


def test_depth_comes_in_steps_and_only_within_range(raycaster):
    near = capture(raycaster, sensor(noise=1e-5, step=0.02))
    assert len(np.unique(near.depth[near.classes == WALL])) <= 2
    assert (capture(raycaster, sensor(far_m=2.5)).depth[near.classes == WALL] == 0).all()
    assert (capture(raycaster, sensor(near_m=2.5)).depth[near.classes == BOX] == 0).all()


def test_beside_near_things_the_projector_casts_a_shadow(raycaster):
    plain, shadowed = capture(raycaster, sensor()), capture(raycaster, sensor(baseline_m=0.2))
    lost = (plain.depth > 0) & (shadowed.depth == 0)
    assert lost.sum() > 50
    for v in np.flatnonzero(lost.any(axis=1)):  # in the box's rows, right of it only
        assert np.flatnonzero(lost[v]).min() > np.flatnonzero(plain.classes[v] == BOX).max()


def test_blotches_take_about_as_much_as_asked_for(raycaster):
    shares = [(capture(raycaster, sensor(hole_share=s)).depth == 0).mean() for s in (-1.0, 0.02, 0.12)]
    assert shares[0] == 0.0
    assert shares[0] < shares[1] < shares[2] < 0.4
