# SPDX-License-Identifier: Apache-2.0
"""The launch file as a user runs it: labels come out, everything ends with exit code 0.

Run by test_launch.py through `python -m launch_testing.launch_test`, with the installed package sourced.
The environment variable PC_PERCEPTION_LAUNCH_TEST holds the launch arguments as JSON; with `input`
this file publishes the clouds itself.
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
from sensor_msgs_py.point_cloud2 import create_cloud_xyz32, read_points
from std_msgs.msg import Header

import launch

ARGUMENTS: dict[str, str] = json.loads(os.environ["PC_PERCEPTION_LAUNCH_TEST"])
WAIT_S = 240.0  # on a machine that has other things to do


def generate_test_description() -> launch.LaunchDescription:
    file = PathJoinSubstitution([FindPackageShare("pc_perception"), "launch", "segment.launch.py"])
    included = IncludeLaunchDescription(file, launch_arguments=ARGUMENTS.items())
    return launch.LaunchDescription([included, launch_testing.actions.ReadyToTest()])


class TestLabels(unittest.TestCase):
    def setUp(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("listener")
        self.sent: dict[int, PointCloud2] = {}
        self.got: list[PointCloud2] = []
        self.statuses: dict[str, str] = {}
        namespace = ARGUMENTS.get("namespace", "")
        qos = qos_profile_sensor_data
        if "input" in ARGUMENTS:
            self.sensor = self.node.create_publisher(PointCloud2, ARGUMENTS["input"], qos)
            self.node.create_timer(0.5, self.publish)
        else:
            topic = "/lidar" if "bag" in ARGUMENTS else f"{namespace}/points"
            self.node.create_subscription(PointCloud2, topic, self.note, qos)
        self.node.create_subscription(PointCloud2, f"{namespace}/segmentation", self.got.append, qos)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnose, 10)

    def tearDown(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown()

    def publish(self) -> None:
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id="sensor")
        points = np.random.default_rng(0).uniform(-20, 20, (2000, 3)).astype(np.float32)
        cloud = create_cloud_xyz32(header, points)
        self.note(cloud)
        self.sensor.publish(cloud)

    def note(self, msg: PointCloud2) -> None:
        self.sent[rclpy.time.Time.from_msg(msg.header.stamp).nanoseconds] = msg

    def diagnose(self, msg: DiagnosticArray) -> None:
        self.statuses |= {status.name: status.message for status in msg.status}

    def pairs(self) -> list[tuple[PointCloud2, PointCloud2]]:
        stamped = ((rclpy.time.Time.from_msg(out.header.stamp).nanoseconds, out) for out in self.got)
        return [(self.sent[stamp], out) for stamp, out in stamped if stamp in self.sent]

    def test_labels_come_out(self) -> None:
        end = time.monotonic() + WAIT_S
        while len(self.pairs()) < 3 or "segment_node: labelling" not in self.statuses:
            said = self.statuses.get("segment_node: labelling", "nothing")
            assert time.monotonic() < end, f"got {len(self.pairs())} clouds; diagnostics: {said}"
            rclpy.spin_once(self.node, timeout_sec=0.1)
        for source, out in self.pairs():
            assert out.header == source.header
            assert (out.height, out.width) == (source.height, source.width)
            labels = read_points(out, ["label"])["label"]
            assert ((labels < 8) | (labels == 65535)).all()
            assert (labels == 65535).mean() < 0.5
        assert "segment_node: sensor check" in self.statuses


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_process_ends_with_0(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
