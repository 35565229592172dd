# SPDX-License-Identifier: Apache-2.0
"""classify.launch.py as a user runs it: objects come out, everything ends with exit code 0.

Run by test_launch_classify.py as launch_segment.py is by test_launch.py; with `input` this file publishes the clouds.
"""

from __future__ import annotations

import json
import os
import time
import unittest

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from launch.actions import IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2
from sensor_msgs_py.point_cloud2 import create_cloud_xyz32
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

import launch

ARGUMENTS: dict[str, str] = json.loads(os.environ["PC_PERCEPTION_LAUNCH_TEST"])
WAIT_S = 240.0  # on a machine that has other things to do


def generate_test_description() -> launch.LaunchDescription:
    file = PathJoinSubstitution([FindPackageShare("pc_perception"), "launch", "classify.launch.py"])
    included = IncludeLaunchDescription(file, launch_arguments=ARGUMENTS.items())
    return launch.LaunchDescription([included, launch_testing.actions.ReadyToTest()])


class TestObjects(unittest.TestCase):
    def setUp(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("listener")
        self.got: list[Detection3DArray] = []
        self.tracking = ""
        namespace = ARGUMENTS.get("namespace", "")
        if "input" in ARGUMENTS:
            self.sensor = self.node.create_publisher(PointCloud2, ARGUMENTS["input"], qos_profile_sensor_data)
            self.node.create_timer(0.5, self.publish)
        self.node.create_subscription(Detection3DArray, f"{namespace}/objects", self.got.append, 5)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnose, 10)

    def tearDown(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown()

    def publish(self) -> None:
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id="sensor")
        rng = np.random.default_rng(0)
        road = np.column_stack([rng.uniform(-20, 20, (2000, 2)), np.full(2000, -1.8)])
        cube = rng.uniform((4.5, -0.5, -1.8), (5.5, 0.5, -0.8), (100, 3))
        self.sensor.publish(create_cloud_xyz32(header, np.concatenate([road, cube]).astype(np.float32)))

    def diagnose(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name == "classify_node: tracking":
                self.tracking = status.message

    def followed(self) -> set[str]:
        """Ids that were seen in three messages or more."""
        ids = [d.id for msg in self.got for d in msg.detections]
        return {i for i in ids if ids.count(i) >= 3}

    def test_objects_are_followed(self) -> None:
        end = time.monotonic() + WAIT_S
        while not self.followed() or not self.tracking:
            seen = [len(msg.detections) for msg in self.got]
            assert time.monotonic() < end, f"objects of each sweep: {seen}; tracking: {self.tracking}"
            rclpy.spin_once(self.node, timeout_sec=0.1)
        for msg in self.got:
            for detection in msg.detections:
                assert detection.header == msg.header
                assert detection.bbox.size.x > 0
                assert 0 <= detection.results[0].hypothesis.score <= 1
        assert ("in 'odom'" in self.tracking) != ("input" in ARGUMENTS)  # only the simulated sensor has tf


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_process_ends_with_0(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
