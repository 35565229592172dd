# SPDX-License-Identifier: Apache-2.0
"""Points measured by a sensor that drives and turns, brought to one moment, against where they truly are."""

from __future__ import annotations

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse, pose, rotation_z, transform
from pc_perception.undistort import carried, sweep_time

START_NS = 10**9
WANTED_NS = START_NS + 40_000_000


def T_world_sensor(stamp_ns: int) -> np.ndarray:
    """12 m/s ahead through a bend of 30 degrees a second."""
    t = (stamp_ns - START_NS) * 1e-9
    return pose((12.0 * t, 0.5 * t, 0.0), rotation_z(np.radians(30) * t))


def T_wanted_sensor(stamp_ns: int) -> np.ndarray:
    return inverse(T_world_sensor(WANTED_NS)) @ T_world_sensor(stamp_ns)


@pytest.mark.parametrize("first_s", [0.0, -0.1])  # stamped at the start or at the end of the turn
def test_points_come_to_where_the_sensor_sees_them_at_the_time_wanted(first_s: float) -> None:
    rng = np.random.default_rng(0)
    world = rng.uniform([-40, -40, -2], [40, 40, 5], (500, 3))
    time_s = np.linspace(first_s, first_s + 0.1, 500)
    stamps = START_NS + np.rint(time_s * 1e9).astype(np.int64)
    rows = [
        transform(inverse(T_world_sensor(int(t))), point[None])[0]
        for t, point in zip(stamps, world, strict=True)
    ]
    cloud = PointCloud(np.float32(rows), {"time": time_s.astype(np.float32)}, "lidar", START_NS)
    expected = transform(inverse(T_world_sensor(WANTED_NS)), world)
    found = carried(cloud, T_wanted_sensor, WANTED_NS, undistort=True)
    assert found.stamp_ns == WANTED_NS
    np.testing.assert_allclose(found.xyz, expected, atol=0.005)
    at_once = carried(cloud, T_wanted_sensor, WANTED_NS, undistort=False)
    assert np.linalg.norm(at_once.xyz - expected, axis=1).max() > 1.0
    np.testing.assert_array_equal(at_once.xyz, transform(T_wanted_sensor(START_NS), cloud.xyz))


def test_what_is_not_finite_stays_so() -> None:
    xyz = np.float32([[1, 2, 3], [np.nan] * 3, [np.inf, 0, 0]])
    cloud = PointCloud(xyz, {"time": np.float32([0, 0.05, 0.1])}, "lidar", START_NS)
    found = carried(cloud, T_wanted_sensor, WANTED_NS, undistort=True)
    np.testing.assert_array_equal(found.finite(), [True, False, False])


@pytest.mark.parametrize("time", [None, [0.0, 2.0], [0.0, np.nan], []])
def test_times_that_make_no_sense_are_none(time: list | None) -> None:
    n = 2 if time is None else len(time)
    fields = {} if time is None else {"time": np.float64(time)}
    assert sweep_time(PointCloud(np.zeros((n, 3), np.float32), fields, "lidar", 0)) is None
