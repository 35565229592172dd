# SPDX-License-Identifier: Apache-2.0
"""A bag of large clouds: all of them reach the node, and what it labels reaches a listener.

Run by test_launch.py as launch_segment.py is. The environment variable PC_PERCEPTION_LAUNCH_TEST holds as JSON the
launch ``arguments`` and how many ``clouds`` the bag has.
"""

from __future__ import annotations

import json
import os
import time
import unittest
from typing import Any

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from launch.actions import IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from sensor_msgs.msg import PointCloud2

import launch
from ros2_nodes.qos import sensor_qos

WANTED: dict[str, Any] = json.loads(os.environ["PC_PERCEPTION_LAUNCH_TEST"])
WAIT_S = 240.0  # on a machine that has other things to do


def generate_test_description() -> launch.LaunchDescription:
    file = PathJoinSubstitution([FindPackageShare("pc_perception"), "launch", "segment.launch.py"])
    included = IncludeLaunchDescription(file, launch_arguments=WANTED["arguments"].items())
    return launch.LaunchDescription([included, launch_testing.actions.ReadyToTest()])


class TestBag(unittest.TestCase):
    def setUp(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("listener")
        self.got, self.said = 0, {"received": "0", "labelled": "0"}
        self.node.create_subscription(PointCloud2, "/segmentation", self.note, sensor_qos(5, reliable=True))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnose, 10)

    def tearDown(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown()

    def note(self, _: PointCloud2) -> None:
        self.got += 1

    def diagnose(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name == "segment_node: labelling" and status.values:
                self.said = {pair.key: pair.value for pair in status.values}

    def test_every_cloud_arrives(self) -> None:
        def counted(*names: str) -> int:
            return sum(int(self.said[name]) for name in names)

        end = time.monotonic() + WAIT_S
        while counted("received") < WANTED["clouds"] or self.got < max(counted("labelled"), 1):
            assert time.monotonic() < end, (
                f"{self.said} of {WANTED['clouds']} clouds, {self.got} came labelled"
            )
            rclpy.spin_once(self.node, timeout_sec=0.1)
        assert counted("received") == WANTED["clouds"]


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_process_ends_with_0(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
