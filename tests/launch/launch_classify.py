# SPDX-License-Identifier: Apache-2.0
"""classify.launch.py as a user runs it: objects come out, everything ends with exit code 0.

Run by test_launch_classify.py as launch_segment.py is by test_launch.py.
"""

from __future__ import annotations

import json
import os
import time
import unittest

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from launch.actions import IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
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
        self.node.create_subscription(Detection3DArray, "/objects", self.got.append, 5)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnose, 10)

    def tearDown(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown()

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
        # The first diagnostics may be older than the first sweep.
        while not self.followed() or self.tracking != "in 'odom'":
            seen = [len(msg.detections) for msg in self.got]
            assert time.monotonic() < end, f"objects of each sweep: {seen}; tracking: {self.tracking}"
            rclpy.spin_once(self.node, timeout_sec=0.1)
        for msg in self.got:
            for detection in msg.detections:
                assert detection.header == msg.header
                assert detection.bbox.size.x > 0
                assert 0 <= detection.results[0].hypothesis.score <= 1


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_process_ends_with_0(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
