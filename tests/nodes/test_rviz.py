# SPDX-License-Identifier: Apache-2.0
"""The RViz file against the topics, types and QoS that the nodes really have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

ROOT = Path(__file__).resolve().parents[2]
TYPES = {
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
}


def manager(kind: str = "segment") -> dict[str, Any]:
    text = (ROOT / f"launch/rviz/{kind}.rviz").read_text(encoding="utf-8")
    return yaml.safe_load(text)["Visualization Manager"]


def displays(kind: str = "segment") -> dict[str, dict[str, Any]]:
    return {d["Name"]: d for d in manager(kind)["Displays"] if "Topic" in d}


@pytest.mark.ros
def test_every_display_finds_its_publisher(bench: Bench, tiny: Path) -> None:
    bench.start(tiny)
    find_publishers(bench, "segment")


def find_publishers(bench: Bench, kind: str) -> None:
    """Hold that the node on the bench publishes what every display of an RViz file shows."""
    from rclpy.qos import (
        DurabilityPolicy,
        LivelinessPolicy,
        QoSCompatibility,
        QoSProfile,
        ReliabilityPolicy,
        qos_check_compatible,
    )

    for display in displays(kind).values():
        topic = display["Topic"]
        wanted = QoSProfile(
            depth=topic["Depth"],
            reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
            durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
            liveliness=LivelinessPolicy.AUTOMATIC,
        )
        assert not topic["Value"].startswith("/"), "relative names follow the namespace argument"
        name = bench.node.resolve_topic_name(topic["Value"])
        bench.spin_until(
            lambda name=name: bench.peer.get_publishers_info_by_topic(name), f"{name}'s publisher"
        )
        for publisher in bench.peer.get_publishers_info_by_topic(name):
            assert publisher.topic_type == TYPES[display["Class"]]
            verdict, reason = qos_check_compatible(publisher.qos_profile, wanted)
            assert verdict == QoSCompatibility.OK, reason


@pytest.mark.ros
def test_the_colours_of_the_labels_can_be_shown(bench: Bench, tiny: Path, make_cloud: Callable) -> None:
    labels = displays()["Labels"]
    assert labels["Enabled"]
    assert (labels["Class"], labels["Color Transformer"]) == ("rviz_default_plugins/PointCloud2", "RGB8")
    bench.start(tiny)
    out = bench.label(make_cloud(), bench.listen_to_labels())
    rgb = next(f for f in out.fields if f.name == "rgb")
    assert rgb.datatype in (5, 6, 7)  # RViz's RGB8 takes INT32, UINT32 or FLOAT32
    colors = set(memoryview(out.data).cast("I")[rgb.offset // 4 :: out.point_step // 4])
    from pc_perception.labels import load_label_set

    known = {r << 16 | g << 8 | b for r, g, b in load_label_set("street8").colors}
    assert colors <= known


def test_the_fixed_frame_drives_along_with_the_simulated_sensor() -> None:
    assert manager()["Global Options"]["Fixed Frame"] == "base_link"
    legend = displays()["Legend"]["Topic"]
    assert (legend["Durability Policy"], legend["Reliability Policy"]) == ("Transient Local", "Reliable")


@pytest.mark.ros
def test_the_view_of_an_rgbd_camera_is_in_the_frame_of_the_simulated_one() -> None:
    from ros2_nodes.simulated_rgbd_node import FRAME

    assert manager("rgbd")["Global Options"]["Fixed Frame"] == FRAME


@pytest.mark.parametrize("file", sorted((ROOT / "launch/rviz").glob("*.rviz")), ids=lambda f: f.stem)
def test_displays_of_every_file_follow_the_namespace_and_take_what_sensors_send(file: Path) -> None:
    shown = yaml.safe_load(file.read_text(encoding="utf-8"))["Visualization Manager"]["Displays"]
    topics = {d["Name"]: d["Topic"] for d in shown if "Topic" in d}
    assert topics
    for name, topic in topics.items():
        assert not topic["Value"].startswith("/"), f"{name}: relative names follow the namespace argument"
        assert topic["Depth"] <= 5, f"{name}: old pictures are of no use"
        if topic["Reliability Policy"] == "Reliable":
            assert topic["Value"].rpartition("/")[2] in ("legend", "objects", "object_markers"), name
