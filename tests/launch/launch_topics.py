# SPDX-License-Identifier: Apache-2.0
"""A launch file as a user runs it: every topic comes, everything ends with exit code 0.

Run by test_launch_cameras.py as launch_segment.py is by test_launch.py. The environment variable
PC_PERCEPTION_LAUNCH_TEST holds as JSON the launch ``file``, its ``arguments``, the ``topics`` (name -> type) to wait
for, and the ``diagnostics`` (name -> level) that must be reported.
"""

from __future__ import annotations

import json
import os
import time
import unittest
from collections import Counter
from importlib import import_module
from typing import Any

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from launch.actions import IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from rclpy.qos import qos_profile_sensor_data

import launch
from ros2_nodes.qos import LATCHED

WANTED: dict[str, Any] = json.loads(os.environ["PC_PERCEPTION_LAUNCH_TEST"])
WAIT_S = 240.0  # on a machine that has other things to do
ONCE = ("legend", "label_info", "calibration_status")


def generate_test_description() -> launch.LaunchDescription:
    file = PathJoinSubstitution([FindPackageShare("pc_perception"), "launch", WANTED["file"]])
    included = IncludeLaunchDescription(file, launch_arguments=WANTED["arguments"].items())
    return launch.LaunchDescription([included, launch_testing.actions.ReadyToTest()])


class TestTopics(unittest.TestCase):
    def setUp(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("listener")
        self.got: Counter[str] = Counter()
        self.levels: dict[str, int] = {}
        for topic, kind in WANTED["topics"].items():
            package, _, name = kind.partition("/")
            message = getattr(import_module(f"{package}.msg"), name)
            qos = LATCHED if topic.endswith(ONCE) else qos_profile_sensor_data
            self.node.create_subscription(message, topic, lambda _, t=topic: self.got.update([t]), qos)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnose, 10)

    def tearDown(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown()

    def diagnose(self, msg: DiagnosticArray) -> None:
        self.levels |= {status.name: status.level[0] for status in msg.status}

    def missing(self) -> list[str]:
        few = [t for t in WANTED["topics"] if self.got[t] < (1 if t.endswith(ONCE) else 2)]
        return few + [d for d in WANTED["diagnostics"] if d not in self.levels]

    def test_every_topic_comes(self) -> None:
        end = time.monotonic() + WAIT_S
        while self.missing():
            assert time.monotonic() < end, f"missing: {self.missing()}; diagnostics: {self.levels}"
            rclpy.spin_once(self.node, timeout_sec=0.1)
        for name, level in WANTED["diagnostics"].items():
            assert self.levels[name] <= level, f"{name}: level {self.levels[name]}"


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_process_ends_with_0(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
