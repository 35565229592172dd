# SPDX-License-Identifier: Apache-2.0
"""States, parameters, reload, transforms and QoS of the segmentation node against a real rclpy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.nodes import tiny_model
from tests.nodes.conftest import street_points

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

pytestmark = pytest.mark.ros


def state(node: Any) -> str:
    return node._state_machine.current_state[1]


def test_it_goes_through_all_states_and_back(bench: Bench, tiny: Path, make_cloud: Callable) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn

    node = bench.start(tiny)
    assert state(node) == "active"
    got = bench.listen_to_labels()
    bench.label(make_cloud(), got)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.count_subscribers("points") == 0
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert state(node) == "unconfigured"
    bench.spin_until(lambda: bench.peer.count_publishers("segmentation") == 0, "the publisher's end")
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    bench.spin_until(lambda: bench.cloud_pub.get_subscription_count() > 0, "the subscription")
    bench.spin_until(lambda: node.count_subscribers("segmentation") > 0, "the match")
    bench.spin(0.2)
    bench.label(make_cloud(), got)
    assert node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    assert state(node) == "finalized"


def test_autostart_needs_no_manager(bench: Bench, tiny: Path) -> None:
    node = bench.start(tiny, active=False, autostart=True)
    bench.spin_until(lambda: state(node) == "active", "activation")


@pytest.mark.parametrize("kind", ["absent", "damaged", "no device"])
def test_a_model_that_cannot_be_loaded_fails_with_the_reason(
    bench: Bench, tiny: Path, tmp_path: Path, kind: str
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    from rclpy.lifecycle import TransitionCallbackReturn

    model, device, reason = tiny, "cpu", "no model"
    if kind == "absent":
        model = tmp_path / "none.safetensors"
    elif kind == "damaged":
        damaged = bytearray(tiny.read_bytes())
        damaged[-1] ^= 1
        model, reason = tmp_path / "damaged.safetensors", "damaged"
        model.write_bytes(damaged)
    else:
        device, reason = "cuda:97", "is not there"
    node = bench.start(model, active=False, device=device)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert state(node) == "unconfigured"
    diagnostics = bench.listen("/diagnostics", DiagnosticArray)
    status = bench.diagnostic(diagnostics, lambda s: s.level == DiagnosticStatus.ERROR)
    assert reason in status.message


COMPILING = """
import ctypes, signal
from ros2_nodes.runtime import run_node
from ros2_nodes.segment_node import SegmentNode

class Compiling(SegmentNode):
    def make_worker(self):
        ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()
        raise RuntimeError("no compiled object yet")

run_node("segment_node", Compiling)
"""


def test_an_interrupt_that_a_compiler_swallows_ends_the_node_in_silence(ros: Any) -> None:
    """LLVM's callbacks lose it, and numba then fails with another error."""
    command = [sys.executable, "-c", COMPILING]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_wrong_qos_override_fails_with_the_reason(bench: Bench, tiny: Path) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn

    node = bench.start(tiny, active=False, **{"qos_overrides./points.subscription.reliability": "sometimes"})
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert state(node) == "inactive"
    assert "sometimes" in node._problem


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("n_sweeps", 0, "out of range"),
        ("confidence_threshold", 1.5, "out of range"),
        ("ego_box", [1.0, 2.0], "six finite numbers"),
        ("ego_box", [0.0, 0.0, 0.0, -1.0, 1.0, 1.0], "below its maximum"),
        ("device", "gpu", "use auto, cpu, cuda or cuda:N"),
        ("precision", "half", "use auto, float32, bfloat16"),
        ("target_frame", "/base_link", "must not begin with a slash"),
        ("threads", "two", "INTEGER"),
        ("model", "", "is empty"),
    ],
)
def test_a_wrong_parameter_at_start_is_one_sentence(bench: Bench, name: str, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        bench.start(active=False, **{"model": "street", name: value})
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_parameter_at_run_time_is_refused_and_changes_nothing(bench: Bench, tiny: Path) -> None:
    from rclpy.parameter import Parameter

    node = bench.start(tiny, active=False)
    proposals = {"ego_box": [float("nan")] * 6, "tf_timeout_s": -1.0, "model": "other", "n_sweeps": 2}
    for name, value in proposals.items():
        before = node.get_parameter(name).value
        result = node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful
        assert result.reason
        assert node.get_parameter(name).value == before


def test_reload_keeps_the_subscription_and_a_bad_file_keeps_the_model(
    bench: Bench, tmp_path: Path, make_cloud: Callable
) -> None:
    from std_srvs.srv import Trigger
    from vision_msgs.msg import LabelInfo

    model = tiny_model.write(tmp_path / "model.safetensors")
    node = bench.start(model)
    got, info = bench.listen_to_labels(), bench.listen("label_info", LabelInfo, latched=True)
    bench.label(make_cloud(), got)
    client = bench.peer.create_client(Trigger, "segment_node/reload")
    bench.spin_until(client.service_is_ready, "the service")

    def reload() -> Any:
        future = client.call_async(Trigger.Request())
        bench.spin_until(future.done, "the answer")
        return future.result()

    model.write_bytes(b"not a model")
    answer = reload()
    assert not answer.success
    assert "the old model stays" in answer.message
    bench.label(make_cloud(), got)
    assert len(info[-1].class_map) == 8

    tiny_model.write(model, "room9")
    answer = reload()
    assert answer.success, answer.message
    bench.spin_until(lambda: len(info[-1].class_map) == 9, "the new classes")
    bench.label(make_cloud(), got)
    assert node.count_subscribers("points") == 1


def test_the_output_moves_to_target_frame_and_waits_for_tf(
    bench: Bench, tiny: Path, make_cloud: Callable
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs_py.point_cloud2 import read_points_numpy
    from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster

    from pc_perception.geometry import pose, rotation_z, transform
    from ros2_nodes.conversions import transform_message

    bench.start(tiny, target_frame="base_link", tf_timeout_s=0.05)
    got, diagnostics = bench.listen_to_labels(), bench.listen("/diagnostics", DiagnosticArray)
    points = street_points()
    sent = bench.send(make_cloud(points))
    status = bench.diagnostic(diagnostics, lambda s: "not labelled" in s.message)
    assert "no transform from 'velodyne' to 'base_link'" in status.message
    assert got == []

    T_base_sensor = pose((1.0, 2.0, 3.0), rotation_z(0.5))
    broadcaster = StaticTransformBroadcaster(bench.peer)
    broadcaster.sendTransform(transform_message(T_base_sensor, "base_link", "velodyne", sent.header.stamp))
    bench.spin(0.5)
    out = bench.label(sent, got)
    assert (out.header.frame_id, out.header.stamp) == ("base_link", sent.header.stamp)
    xyz = read_points_numpy(out, ["x", "y", "z"])
    assert np.allclose(xyz, transform(T_base_sensor, points[:, :3]), atol=1e-4)


def test_earlier_sweeps_are_moved_by_tf(
    bench: Bench, tiny: Path, make_cloud: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster

    from pc_perception.geometry import pose
    from pc_perception.inference.segmenter import Segmenter
    from ros2_nodes.conversions import transform_message

    bench.start(tiny, n_sweeps=2, fixed_frame="odom")
    got = bench.listen_to_labels()
    msg = make_cloud()
    broadcaster = StaticTransformBroadcaster(bench.peer)
    broadcaster.sendTransform(transform_message(pose((5.0, 0, 0)), "odom", "velodyne", msg.header.stamp))
    bench.spin(0.5)
    seen: list[int] = []
    label = Segmenter.__call__
    monkeypatch.setattr(
        Segmenter, "__call__", lambda self, cloud: seen.append(len(cloud)) or label(self, cloud)
    )
    for i in range(3):
        msg.header.stamp.nanosec = i * 100_000_000
        assert bench.label(msg, got).width == 3000
    msg.header.stamp.sec -= 100  # the clock jumps back: earlier sweeps belong to another time
    bench.label(msg, got)
    assert seen == [3000, 6000, 6000, 3000]


def test_qos_can_be_overridden_for_a_reliable_subscriber(
    bench: Bench, tiny: Path, make_cloud: Callable
) -> None:
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import PointCloud2

    bench.start(tiny, **{"qos_overrides./segmentation.publisher.reliability": "reliable"})
    got: list[Any] = []
    bench.peer.create_subscription(PointCloud2, "segmentation", got.append, QoSProfile(depth=5))
    bench.spin_until(lambda: bench.node.count_subscribers("segmentation") > 0, "the match")
    bench.spin(0.2)
    assert bench.label(make_cloud(), got).width == 3000


def test_reliable_clouds_come_and_go_reliably(bench: Bench, tiny: Path) -> None:
    from rclpy.qos import ReliabilityPolicy

    node = bench.start(tiny, active=False, reliable=True)
    node.trigger_configure()
    node.trigger_activate()
    (points,) = node.get_subscriptions_info_by_topic("/points")
    (labels,) = node.get_publishers_info_by_topic("/segmentation")
    assert points.qos_profile.reliability == labels.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert next(s for s in node.subscriptions if s.topic_name == "/points").qos_profile.depth >= 10


def test_an_incompatible_publisher_is_named(
    bench: Bench, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import PointCloud2

    node = bench.start(tiny, active=False, **{"qos_overrides./points.subscription.reliability": "reliable"})
    warnings: list[str] = []
    node.trigger_configure()
    logger = node.get_logger()
    monkeypatch.setattr(logger, "warning", lambda text, **_: warnings.append(text))
    monkeypatch.setattr(node, "get_logger", lambda: logger)
    node.trigger_activate()
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    bench.peer.create_publisher(PointCloud2, "points", best_effort)
    bench.spin_until(lambda: warnings, "the warning")
    assert "qos_overrides./points.subscription.reliability" in warnings[0]
