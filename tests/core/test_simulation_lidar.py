# SPDX-License-Identifier: Apache-2.0
"""The simulated LiDAR in a plain room of four walls whose answers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pc_perception.geometry import pose, rotation_z
from pc_perception.simulation import shapes
from pc_perception.simulation.beams import PATTERNS, elevations_deg
from pc_perception.simulation.echo import Echo
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.materials import Material
from pc_perception.simulation.raycast import Raycaster
from pc_perception.simulation.scene import Part, Scene, SceneObject, make_object

PLAIN = Material(reflectivity=0.4)
T_SENSOR = pose((0.0, 0.0, 2.0))


def _caster(*boxes, material: Material = PLAIN, **more) -> Raycaster:
    objects = [
        make_object(c, [Part("wall", *shapes.box(size, at), material)], **more) for c, size, at in boxes
    ]
    return Raycaster(Scene.build(objects, "simulation_street"))


@pytest.fixture
def hall():
    """A floor (class 1) at z = 0 and a wall (class 8) 10 m ahead."""
    return _caster((1, (200, 200, 1), (0, 0, -0.5)), (8, (1, 200, 30), (10.5, 0, 10)))


def test_a_perfect_sensor_measures_the_room(hall):
    cloud = SpinningLidar(32, 10, 360).scan(hall, T_SENSOR, stamp_ns=7)
    label, instance = cloud.fields["label"], cloud.fields["instance"]
    assert set(np.unique(label)) == {1, 8}
    np.testing.assert_allclose(cloud.xyz[label == 1, 2], -2.0, atol=1e-3)
    np.testing.assert_allclose(cloud.xyz[label == 8, 0], 10.0, atol=1e-3)
    assert (instance == np.where(label == 1, 1, 2)).all()
    assert (cloud.frame, cloud.stamp_ns) == ("lidar", 7)


def test_fields_have_their_types_and_ranges(hall):
    cloud = SpinningLidar(32, 10, 360).scan(hall, T_SENSOR, rng=np.random.default_rng(0))
    types = {k: v.dtype for k, v in cloud.fields.items()}
    assert types == {
        "intensity": np.float32, "ring": np.uint16, "time": np.float32,
        "label": np.uint16, "instance": np.uint16, "part": np.uint8,
    }  # fmt: skip
    assert cloud.xyz.dtype == np.float32
    assert cloud.finite().all()
    assert cloud.fields["ring"].max() < 32
    assert (cloud.fields["time"] >= 0).all()
    assert cloud.fields["time"].max() < 0.1
    assert (cloud.fields["intensity"] >= 0).all()
    assert cloud.fields["intensity"].max() <= 255
    elevation = np.degrees(np.arctan2(cloud.xyz[:, 2], np.hypot(cloud.xyz[:, 0], cloud.xyz[:, 1])))
    rings = [np.median(elevation[cloud.fields["ring"] == r]) for r in np.unique(cloud.fields["ring"])]
    assert (np.diff(rings) > 0).all(), "ring 0 is the lowest"


def test_motion_during_the_sweep_shows_in_the_points(hall):
    sensor = SpinningLidar(32, 10, 3600)
    moving = sensor.scan(hall, T_SENSOR, velocity=(20.0, 0.0, 0.0))
    wall = moving.fields["label"] == 8
    np.testing.assert_allclose(moving.xyz[wall, 0], 10.0 - 20.0 * moving.fields["time"][wall], atol=2e-3)
    turning = sensor.scan(hall, T_SENSOR, yaw_rate=0.5)
    wall = turning.fields["label"] == 8
    angle = 0.5 * turning.fields["time"][wall]
    ahead = np.cos(angle) * turning.xyz[wall, 0] - np.sin(angle) * turning.xyz[wall, 1]
    np.testing.assert_allclose(ahead, 10.0, atol=2e-3)


def test_it_turns_clockwise_and_sees_left_as_positive_y():
    caster = _caster((8, (1, 1, 5), (0, 5, 2)))
    cloud = SpinningLidar(16, 10, 720, "vlp16").scan(caster, T_SENSOR)
    assert (cloud.xyz[:, 1] > 4).all()
    turned = SpinningLidar(16, 10, 720, "vlp16").scan(caster, pose((0, 0, 2), rotation_z(np.pi / 2)))
    assert (turned.xyz[:, 0] > 4).all()
    azimuth = np.arctan2(cloud.xyz[:, 1], cloud.xyz[:, 0])
    assert np.corrcoef(azimuth, cloud.fields["time"])[0, 1] < -0.99


def test_organized_clouds_keep_every_ray(hall):
    sensor = SpinningLidar(32, 10, 360)
    flat = sensor.scan(hall, T_SENSOR)
    grid = sensor.scan(hall, T_SENSOR, organized=True)
    assert grid.grid_shape == (32, 360)
    assert grid.finite().sum() == len(flat)
    assert (grid.fields["ring"].reshape(32, 360) == np.arange(31, -1, -1)[:, None]).all()
    assert (grid.fields["label"][~grid.finite()] == 0).all()


def test_dark_far_and_grazing_surfaces_drop_out():
    sensor = SpinningLidar(32, 10, 720, echo=Echo(lost=0.0, stray=0.0))
    share = {}
    for name, reflectivity, at in (
        ("near", 0.4, 10),
        ("far", 0.4, 95),
        ("dark far", 0.02, 60),
        ("dark", 0.02, 10),
    ):
        wall = (8, (1, 400, 200), (at + 0.5, 0, 0))
        caster = _caster(wall, material=Material(reflectivity=reflectivity))
        seen = len(sensor.scan(caster, T_SENSOR, rng=np.random.default_rng(0)))
        share[name] = seen / len(sensor.scan(caster, T_SENSOR))
    assert share["near"] > 0.98
    assert share["dark"] > 0.75
    assert share["dark far"] < 0.5 < share["far"]


def test_glass_lets_some_beams_through():
    objects = [
        make_object(11, [Part("glass", *shapes.box((0.1, 50, 50), (5, 0, 0)), Material(transmission=0.5))]),
        make_object(8, [Part("wall", *shapes.box((1, 90, 50), (12, 0, 0)), PLAIN)]),
    ]
    cloud = SpinningLidar(32, 10, 720).scan(
        Raycaster(Scene.build(objects, "simulation_street")), T_SENSOR, rng=np.random.default_rng(0)
    )
    labels = cloud.fields["label"]
    assert 0.05 < (labels == 8).mean() < 0.5
    assert (labels == 11).mean() > 0.4


def test_beams_at_edges_melt_two_near_depths():
    boxes = ((8, (1, 200, 30), (10.5, 0, 10)), (18, (0.2, 0.6, 30), (9.2, 0, 10)))
    sharp = Echo(range_noise_m=0, edge=0.0, lost=0, stray=0)
    soft = Echo(range_noise_m=0, edge=0.9, lost=0, stray=0)
    between = {}
    for name, echo in (("sharp", sharp), ("soft", soft)):
        cloud = SpinningLidar(32, 10, 3600, echo=echo).scan(
            _caster(*boxes), T_SENSOR, rng=np.random.default_rng(0)
        )
        between[name] = ((cloud.xyz[:, 0] > 9.4) & (cloud.xyz[:, 0] < 9.9)).sum()
    assert between["sharp"] == 0
    assert between["soft"] > 10


def test_the_own_roof_hides_what_is_below_and_has_no_label(hall):
    sensor = SpinningLidar(32, 10, 720, min_range_m=0.3, roof=(0.4, 1.5, 1.5, 0.8))
    cloud = sensor.scan(hall, T_SENSOR)
    roof = np.linalg.norm(cloud.xyz, axis=1) < 2
    assert roof.sum() > 50
    np.testing.assert_allclose(cloud.xyz[roof, 2], -0.4, atol=1e-3)
    assert (cloud.fields["label"][roof] == 0).all()
    assert (cloud.fields["label"][~roof] > 0).all()


def test_moving_objects_are_seen_where_they_are():
    floor = make_object(1, [Part("surface", *shapes.box((200, 200, 1), (0, 0, -0.5)), PLAIN)])
    car = make_object(
        11,
        [Part("body", *shapes.box((2, 2, 2), (0, 0, 1)), PLAIN)],
        pose((10, 0, 0)),
        velocity=np.array([5.0, 0, 0]),
    )
    assert isinstance(car, SceneObject)
    caster = Raycaster(Scene.build([floor, car], "simulation_street"))
    nearest = []
    for time_s in (0.0, 1.0, 0.0):
        caster.move_to(time_s)
        cloud = SpinningLidar(32, 10, 360).scan(caster, T_SENSOR)
        nearest.append(cloud.xyz[cloud.fields["label"] == 11, 0].min())
    np.testing.assert_allclose(nearest, [9.0, 14.0, 9.0], atol=1e-3)


def test_drawn_sensors_are_sound_and_differ():
    drawn = [SpinningLidar.random(np.random.default_rng(i)) for i in range(40)]
    assert {s.n_beams for s in drawn} == {32, 64}
    assert len({s.pattern for s in drawn}) >= 4
    for s in drawn:
        assert s.elevations is not None
        assert len(s.elevations) == s.n_beams
        assert min(s.elevations) > -40
        assert max(s.elevations) < 30


def test_patterns_and_wrong_arguments():
    for pattern in PATTERNS:
        angles = elevations_deg(pattern, 40)
        assert angles.shape == (40,)
        assert (np.diff(angles) > 0).all()
    with pytest.raises(ValueError, match="no beam pattern 'x'"):
        elevations_deg("x", 4)
    with pytest.raises(ValueError, match="at least one beam"):
        elevations_deg("hdl32", 0)
    with pytest.raises(ValueError, match="elevations for 3 beams"):
        SpinningLidar(3, elevations=(0.0, 1.0))
    with pytest.raises(ValueError, match="must be positive"):
        SpinningLidar(3, rate_hz=0)
