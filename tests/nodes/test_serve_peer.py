# SPDX-License-Identifier: Apache-2.0
"""The server without ROS beside a real rclpy: clouds one way, labels, their meaning and diagnostics the other."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pc_perception.io.message_types import typestore
from tests.nodes.conftest import street_points

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(importlib.util.find_spec("cyclonedds") is None, reason="cyclonedds is not installed"),
]


@pytest.fixture
def server(bench: Bench, tiny: Path) -> Iterator[subprocess.Popen[str]]:
    """`pc-perception serve` in a process that has no ROS on its path, in the bench's domain."""
    own = {
        name: v for name, v in os.environ.items() if not name.startswith(("AMENT", "ROS_", "RMW", "LD_LIB"))
    }
    own["PYTHONPATH"] = os.pathsep.join(
        p for p in own.get("PYTHONPATH", "").split(os.pathsep) if "/opt/ros" not in p
    )
    command = [sys.executable, "-m", "pc_perception.cli", "serve", "--domain", os.environ["ROS_DOMAIN_ID"]]
    process = subprocess.Popen(
        [*command, "--model", str(tiny), "--device", "cpu", "--period", "1"],
        env=own,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "'/points' -> '/segmentation'" in process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_rclpy_s_clouds_come_back_labelled(
    bench: Bench, server: subprocess.Popen[str], tiny: Path, make_cloud: Callable
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2
    from visualization_msgs.msg import MarkerArray

    from pc_perception.inference.loading import load_model
    from pc_perception.io.pointcloud2 import cloud_from_msg

    got = bench.listen("segmentation", PointCloud2)
    bench.connect_sensor()
    points = street_points()
    sent = make_cloud(points, height=30)
    out = bench.label(sent, got)
    assert out.header == sent.header
    assert (out.height, out.width) == (sent.height, sent.width)
    expected = load_model(tiny, "cpu")(cloud_from_msg(sent))
    np.testing.assert_array_equal(cloud_from_msg(out).fields["label"], expected.labels)

    legends = bench.listen("legend", MarkerArray, latched=True)
    bench.spin_until(lambda: legends, "the legend")
    assert {m.text for m in legends[-1].markers} >= set(expected.label_set.classes)
    diagnostics: list[Any] = []
    bench.peer.create_subscription(DiagnosticArray, "/diagnostics", diagnostics.append, 10)
    bench.spin_until(lambda: diagnostics, "diagnostics")
    status = {s.name: s for s in diagnostics[-1].status}["pc-perception serve: labelling"]
    assert int({v.key: v.value for v in status.values}["labelled"]) >= 1

    server.send_signal(signal.SIGTERM)
    told, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert re.search(r"labelled [1-9]\d* of [1-9]", told)


def test_ros2_tells_the_server_s_topics_and_types(bench: Bench, server: subprocess.Popen[str]) -> None:
    expected = {
        "/segmentation": ["sensor_msgs/msg/PointCloud2"],
        "/label_info": ["vision_msgs/msg/LabelInfo"],
        "/legend": ["visualization_msgs/msg/MarkerArray"],
    }
    bench.spin_until(
        lambda: expected.items() <= dict(bench.peer.get_topic_names_and_types()).items(), "the topics"
    )
    info = bench.peer.get_publishers_info_by_topic("/segmentation")
    assert len(info) == 1
    assert info[0].qos_profile.reliability.name == "BEST_EFFORT"
    assert str(info[0].topic_type_hash) == typestore().hash_rihs01("sensor_msgs/msg/PointCloud2")
