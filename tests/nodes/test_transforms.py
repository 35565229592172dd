# SPDX-License-Identifier: Apache-2.0
"""Transforms of the nodes against a real rclpy: what a clock that jumps back does to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pc_perception.geometry import pose

if TYPE_CHECKING:
    from ros2_nodes.transforms import Transforms

pytestmark = pytest.mark.ros


class Replay:
    """A node on simulated time and what plays a recording to it."""

    def __init__(self) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from rclpy.parameter import Parameter
        from rosgraph_msgs.msg import Clock
        from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster
        from tf2_ros.transform_broadcaster import TransformBroadcaster

        from ros2_nodes.transforms import Transforms

        self.node = Node("listens", parameter_overrides=[Parameter("use_sim_time", value=True)])
        self.player = Node("plays")
        self.executor = SingleThreadedExecutor()
        for node in (self.node, self.player):
            self.executor.add_node(node)
        self.transforms: Transforms = Transforms(self.node, 0.0)
        self._clock = self.player.create_publisher(Clock, "/clock", 10)
        self._moving, self._fixed = TransformBroadcaster(self.player), StaticTransformBroadcaster(self.player)

    def play(self, second: int, way: float) -> None:
        """Set the clock and publish where the vehicle is, until both have arrived."""
        from builtin_interfaces.msg import Time
        from rosgraph_msgs.msg import Clock

        from ros2_nodes.conversions import transform_message

        stamp = Time(sec=second)
        self._fixed.sendTransform(transform_message(pose((0, 0, 1.0)), "base", "lidar", Time()))
        for _ in range(100):
            self._clock.publish(Clock(clock=stamp))
            self._moving.sendTransform(transform_message(pose((way, 0, 0)), "odom", "base", stamp))
            for _ in range(10):
                self.executor.spin_once(timeout_sec=0.01)
            if self.node.get_clock().now().nanoseconds == second * 10**9 and self.found(second) == way:
                return

    def play_late(self, second: int, way: float) -> None:
        """Publish where the vehicle was, without the clock."""
        from builtin_interfaces.msg import Time

        from ros2_nodes.conversions import transform_message

        self._moving.sendTransform(transform_message(pose((way, 0, 0)), "odom", "base", Time(sec=second)))
        for _ in range(20):
            self.executor.spin_once(timeout_sec=0.01)

    def found(self, second: int) -> float | None:
        try:
            return float(self.transforms.at_stamp("odom", "lidar", second * 10**9)[0, 3])
        except ValueError:
            return None

    def close(self) -> None:
        self.transforms.close()
        for node in (self.node, self.player):
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()


@pytest.fixture
def replay(ros: Any) -> Iterator[Replay]:
    made = Replay()
    yield made
    made.close()


def test_a_recording_that_starts_over_is_followed_again(replay: Replay) -> None:
    replay.play(5000, 7.0)
    assert replay.found(5000) == 7.0
    replay.play(1000, 3.0)  # an hour back: what was known of later is no longer true
    assert replay.found(1000) == 3.0
    assert replay.found(5000) is None
    T = replay.transforms.at_stamp("base", "lidar", 1000 * 10**9)  # static ones stay
    np.testing.assert_array_equal(T, pose((0, 0, 1.0)))


def test_a_transform_of_before_the_jump_that_comes_late_does_no_harm(replay: Replay) -> None:
    replay.play(5000, 7.0)
    replay.play(1000, 3.0)
    replay.play_late(5001, 8.0)  # /clock was heard before what had been waiting on /tf
    replay.play(1001, 4.0)
    assert replay.found(1001) == 4.0
