# SPDX-License-Identifier: Apache-2.0
"""The simulated sensor: clouds and TF that fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

pytestmark = pytest.mark.ros


def test_clouds_and_tf_fit_each_other(bench: Bench) -> None:
    pytest.importorskip("open3d", reason="the simulator casts rays with open3d")
    from rclpy.parameter import Parameter
    from rclpy.qos import ReliabilityPolicy
    from rclpy.time import Time
    from sensor_msgs.msg import PointCloud2
    from tf2_ros.buffer import Buffer
    from tf2_ros.transform_listener import TransformListener

    from pc_perception.io.pointcloud2 import cloud_from_msg
    from ros2_nodes.conversions import matrix
    from ros2_nodes.simulated_sensor_node import SimulatedSensorNode

    buffer = Buffer()
    listener = TransformListener(buffer, bench.peer)
    overrides = [Parameter("n_beams", value=16), Parameter("n_azimuths", value=180)]
    bench.node = SimulatedSensorNode(parameter_overrides=overrides)
    bench.executor.add_node(bench.node)
    got = bench.listen("points", PointCloud2)
    bench.spin_until(lambda: len(got) >= 3, "three clouds")
    for msg in got:
        stamp = Time.from_msg(msg.header.stamp)
        bench.spin_until(lambda stamp=stamp: buffer.can_transform("odom", "lidar", stamp), "the transform")
    poses = [matrix(buffer.lookup_transform("odom", "lidar", Time.from_msg(m.header.stamp))) for m in got[:2]]
    step = poses[1][:2, 3] - poses[0][:2, 3]
    assert (step**2).sum() ** 0.5 == pytest.approx(0.8, abs=0.05)  # 8 m/s at 10 Hz
    assert matrix(buffer.lookup_transform("base_link", "lidar", Time()))[2, 3] == pytest.approx(1.84)
    cloud = cloud_from_msg(got[0])
    assert (cloud.frame, set(cloud.fields)) == ("lidar", {"intensity", "ring", "time"})
    assert len(cloud) > 500
    (publisher,) = bench.peer.get_publishers_info_by_topic("points")
    assert publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE, "for subscribers of either kind"
    listener.unregister()


@pytest.mark.parametrize(("name", "value"), [("n_beams", 20), ("rate_hz", 0.0)])
def test_a_wrong_parameter_is_one_sentence(ros: Any, name: str, value: Any) -> None:
    from rclpy.parameter import Parameter

    from ros2_nodes.simulated_sensor_node import SimulatedSensorNode

    with pytest.raises(ValueError, match=name):
        SimulatedSensorNode(parameter_overrides=[Parameter(name, value=value)])
