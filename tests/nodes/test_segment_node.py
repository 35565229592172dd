# SPDX-License-Identifier: Apache-2.0
"""What comes out of the segmentation node for what goes in; real rclpy, real DDS, a small real model."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pc_perception.labels import UNLABELED
from tests.nodes import tiny_model
from tests.nodes.conftest import street_points

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

pytestmark = pytest.mark.ros
N_CLASSES = 8


def read(msg: Any) -> np.ndarray:
    """Return the message's points as a structured array, read by ROS's own reader."""
    from sensor_msgs_py.point_cloud2 import read_points

    return read_points(msg)


def test_output_has_the_inputs_stamp_frame_size_and_order(
    bench: Bench, tiny: Path, make_cloud: Callable
) -> None:
    bench.start(tiny)
    got = bench.listen_to_labels()
    points = street_points()
    sent = make_cloud(points)
    out = bench.label(sent, got)
    assert out.header == sent.header
    assert (out.height, out.width, out.is_dense) == (1, len(points), True)
    names = {f.name: (f.datatype, f.count) for f in out.fields}
    assert names == {
        **{n: (7, 1) for n in ("x", "y", "z", "confidence", "rgb")},
        "label": (4, 1),
    }
    table = read(out)
    assert np.array_equal(np.stack([table["x"], table["y"], table["z"]], 1), points[:, :3])
    assert (table["label"] < N_CLASSES).all()
    assert ((table["confidence"] > 0) & (table["confidence"] <= 1)).all()


def test_organised_padded_big_endian_and_invalid_points(
    bench: Bench, tiny: Path, make_cloud: Callable
) -> None:
    bench.start(tiny)
    got = bench.listen_to_labels()
    points = street_points(3200)
    points[5, 0], points[6, 1], points[7, 2] = np.nan, np.inf, -np.inf
    plain = read(bench.label(make_cloud(points), got))
    out = bench.label(make_cloud(points, height=32, big_endian=True, pad=7), got)
    assert (out.height, out.width, out.row_step, out.is_dense) == (32, 100, 2400, False)
    table = read(out).ravel()
    assert np.array_equal(table["label"], plain["label"])
    assert (table["label"][5:8] == UNLABELED).all()
    assert (np.delete(table["label"], [5, 6, 7]) < N_CLASSES).all()
    assert np.isnan(table["x"][5])
    assert np.isinf(table["y"][6])


@pytest.mark.parametrize(("height", "width"), [(1, 0), (0, 0)])
def test_an_empty_cloud_comes_back_empty(
    bench: Bench, tiny: Path, make_cloud: Callable, height: int, width: int
) -> None:
    bench.start(tiny)
    got = bench.listen_to_labels()
    msg = make_cloud(np.zeros((0, 4), np.float32))
    msg.height, msg.width = height, width
    out = bench.label(msg, got)
    assert (out.header, out.height, out.width, len(out.data)) == (msg.header, height, width, 0)


def test_a_malformed_message_is_reported_and_the_next_one_labelled(
    bench: Bench, tiny: Path, make_cloud: Callable
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

    bench.start(tiny)
    got, diagnostics = bench.listen_to_labels(), bench.listen("/diagnostics", DiagnosticArray)
    truncated = make_cloud()
    truncated.data = truncated.data[:1000]
    bench.send(truncated)
    status = bench.diagnostic(diagnostics, lambda s: s.level == DiagnosticStatus.WARN)
    assert "not labelled" in status.message
    assert "1000" in status.message
    without_z = make_cloud()
    without_z.fields = without_z.fields[:2]
    bench.send(without_z)
    bench.diagnostic(diagnostics, lambda s: {v.key: v.value for v in s.values}["failed"] == "2")
    assert got == []
    assert bench.label(make_cloud(), got).width == 3000
    bench.diagnostic(diagnostics, lambda s: s.level == DiagnosticStatus.OK)


def test_nothing_is_computed_while_nobody_listens(bench: Bench, tiny: Path, make_cloud: Callable) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    bench.start(tiny)
    diagnostics = bench.listen("/diagnostics", DiagnosticArray)
    bench.send(make_cloud())
    status = bench.diagnostic(diagnostics, lambda s: s.message.startswith("idle"))
    values = {v.key: v.value for v in status.values}
    assert (values["received"], values["unheard"], values["labelled"]) == ("1", "1", "0")


def test_at_overload_the_newest_sweep_wins_and_drops_are_counted(
    bench: Bench, tiny: Path, make_cloud: Callable
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    bench.start(tiny)
    got, diagnostics = bench.listen_to_labels(), bench.listen("/diagnostics", DiagnosticArray)
    msg, n_sent = make_cloud(street_points(30_000)), 30
    for i in range(n_sent):
        msg.header.stamp.nanosec = i
        bench.send(msg)
        bench.spin(0.005)
    bench.spin_until(lambda: got and got[-1].header.stamp.nanosec == n_sent - 1, "the newest sweep")
    stamps = [m.header.stamp.nanosec for m in got]
    assert stamps == sorted(stamps)

    def counts(status: Any) -> tuple[int, int, int]:
        values = {v.key: v.value for v in status.values}
        return int(values["received"]), int(values["labelled"]), int(values["dropped"])

    def all_done(status: Any) -> bool:
        received, labelled, dropped = counts(status)
        return received == labelled + dropped

    received, labelled, dropped = counts(bench.diagnostic(diagnostics, all_done))
    assert dropped > 0
    assert labelled == len(got)
    assert labelled + dropped == received
    # Best effort at depth 1: the middleware may replace one before the node wakes, hardly ever two.
    assert n_sent - 2 <= received <= n_sent


def test_max_rate(bench: Bench, tiny: Path, make_cloud: Callable) -> None:
    bench.start(tiny, max_rate_hz=0.1)
    got = bench.listen_to_labels()
    bench.label(make_cloud(), got)
    bench.send(make_cloud())
    bench.spin(0.5)
    assert len(got) == 1


def test_threshold_and_ego_box_change_at_run_time(bench: Bench, tiny: Path, make_cloud: Callable) -> None:
    from rclpy.parameter import Parameter

    node = bench.start(tiny)
    got = bench.listen_to_labels()
    points = street_points()
    box = [-50.0, 0.0, -50.0, 50.0, 50.0, 50.0]
    assert node.set_parameters([Parameter("ego_box", value=box)])[0].successful
    labels = read(bench.label(make_cloud(points), got))["label"]
    assert np.array_equal(labels == UNLABELED, points[:, 1] >= 0)
    assert node.set_parameters([Parameter("confidence_threshold", value=1.0)])[0].successful
    assert (read(bench.label(make_cloud(points), got))["label"] == UNLABELED).all()


def test_the_sensor_check_says_with_numbers_what_does_not_fit(
    bench: Bench, tmp_path: Path, make_cloud: Callable
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

    seen = {"height_m": (5.0, 8.0, 9.0), "points": (20000.0, 30000.0, 40000.0)}
    bench.start(tiny_model.write(tmp_path / "other.safetensors", seen=seen))
    got, diagnostics = bench.listen_to_labels(), bench.listen("/diagnostics", DiagnosticArray)
    bench.label(make_cloud(), got)
    status = bench.diagnostic(diagnostics, lambda s: s.level == DiagnosticStatus.WARN, "sensor check")
    assert "3000 finite points, training clouds had at least 20000" in status.message
    assert "in training from 5.0 m" in status.message


def test_latencies_are_published_when_asked_for(bench: Bench, tiny: Path, make_cloud: Callable) -> None:
    from std_msgs.msg import Float64

    from ros2_nodes.outputs import DEBUG_TOPICS

    bench.start(tiny)
    got = bench.listen_to_labels()
    heard = {name: bench.listen(f"/segment_node/debug/{name}", Float64) for name in DEBUG_TOPICS}
    bench.spin(0.2)
    for _ in range(2):
        bench.label(make_cloud(), got)
    bench.spin_until(lambda: all(heard.values()), "every latency")
    last = {name: values[-1].data for name, values in heard.items()}
    parts = sum(last[f"processing_time/{s}_ms"] for s in ("preprocess", "inference", "postprocess"))
    assert 0 < parts <= last["processing_time/total_ms"] + 1e-6
    assert last["pipeline_latency_ms"] > 1e9  # the cloud's stamp is of 2023


def test_label_info_and_legend_reach_those_who_come_late(
    bench: Bench, tiny: Path, make_cloud: Callable
) -> None:
    from vision_msgs.msg import LabelInfo
    from visualization_msgs.msg import Marker, MarkerArray

    from pc_perception.labels import load_label_set

    bench.start(tiny)
    bench.label(make_cloud(), bench.listen_to_labels())
    bench.spin(0.3)
    info, legend = bench.listen("label_info", LabelInfo, True), bench.listen("legend", MarkerArray, True)
    bench.spin_until(lambda: info and legend, "the latched messages")
    classes = load_label_set("street8").classes
    assert {c.class_id: c.class_name for c in info[0].class_map} == dict(enumerate(classes))
    names = [(m.ns, m.id) for m in legend[0].markers]
    assert len(set(names)) == len(names)  # RViz shows no array in which two are the same
    texts = [m for m in legend[0].markers if m.action == Marker.ADD]
    assert [m.text for m in texts] == list(classes)
    assert {m.header.frame_id for m in texts} == {"velodyne"}


def test_an_input_of_another_type_is_named(bench: Bench, tiny: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    from std_msgs.msg import String

    bench.start(tiny)
    bench.peer.destroy_publisher(bench.cloud_pub)
    diagnostics = bench.listen("/diagnostics", DiagnosticArray)
    bench.peer.create_publisher(String, "points", 1)
    status = bench.diagnostic(diagnostics, lambda s: "std_msgs" in s.message, "inputs")
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "'/points' is a std_msgs/msg/String, not a sensor_msgs/msg/PointCloud2"


def test_livox_s_own_message_is_labelled(bench: Bench, tiny: Path) -> None:
    livox = pytest.importorskip("livox_ros_driver2.msg", reason="livox_ros_driver2 is not sourced")
    from rclpy.qos import qos_profile_sensor_data

    bench.start(tiny)
    bench.peer.destroy_publisher(bench.cloud_pub)
    publisher = bench.peer.create_publisher(livox.CustomMsg, "points", qos_profile_sensor_data)
    got, points = bench.listen_to_labels(), street_points()
    msg = livox.CustomMsg(point_num=len(points))
    msg.header.frame_id, msg.header.stamp = "livox_frame", bench.peer.get_clock().now().to_msg()
    msg.points = [
        livox.CustomPoint(x=float(x), y=float(y), z=float(z), reflectivity=int(i) % 256)
        for x, y, z, i in points
    ]
    out = bench.repeat(lambda: publisher.publish(msg), got)
    assert out.header == msg.header
    table = read(out)
    assert np.array_equal(np.stack([table["x"], table["y"], table["z"]], 1), points[:, :3])
    assert (table["label"] < N_CLASSES).all()


def test_livox_s_message_without_its_package_is_told(bench: Bench, tiny: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    pytest.importorskip("cyclonedds", reason="cyclonedds is not installed: pip install 'pc_perception[dds]'")
    if importlib.util.find_spec("livox_ros_driver2") is not None:
        pytest.skip("livox_ros_driver2 is sourced")
    from pc_perception.io import dds, livox

    bench.start(tiny)
    bench.peer.destroy_publisher(bench.cloud_pub)
    diagnostics = bench.listen("/diagnostics", DiagnosticArray)
    with dds.Participant(int(os.environ["ROS_DOMAIN_ID"])) as driver:
        publisher = driver.publisher("/points", livox.TYPES[0])
        status = bench.diagnostic(diagnostics, lambda s: "xfer_format" in s.message, "inputs")
        assert "source the workspace of livox_ros_driver2, or" in status.message
        assert publisher.n_subscribers == 0
