# SPDX-License-Identifier: Apache-2.0
"""The fusion node against a real rclpy: colours and labels, mounts by TF or file, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pc_perception.labels import UNLABELED
from tests.core.test_fusion import panel_before_wall
from tests.nodes import rig

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

pytestmark = pytest.mark.ros


class Vehicle:
    """The node with a peer that plays LiDAR and camera."""

    def __init__(self, bench: Bench, **values: Any) -> None:
        from sensor_msgs.msg import CameraInfo, Image, PointCloud2

        from ros2_nodes.fuse_node import FuseNode

        self.bench = bench
        bench.start_node(FuseNode, cameras=["front"], tf_timeout_s=0.05, **values)
        kinds = {"points": PointCloud2, "front__image_raw": Image, "front__label_image": Image}
        if "calibrations" not in values:
            kinds["front__camera_info"] = CameraInfo
        self.publishers = bench.publish_to(**kinds)

    def send(self, cloud: Any = None, info: Any = None, picture: Any = None) -> None:
        image, labels = rig.picture_messages()
        self.publishers["front/image_raw"].publish(picture or image)
        self.publishers["front/label_image"].publish(labels)
        if "front/camera_info" in self.publishers:
            self.publishers["front/camera_info"].publish(info or rig.camera_info())
        self.bench.spin(0.2)
        self.publishers["points"].publish(cloud or rig.cloud_message())

    def mount(self) -> None:
        from builtin_interfaces.msg import Time
        from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster

        from ros2_nodes.conversions import transform_message

        self._broadcaster = StaticTransformBroadcaster(self.bench.peer)
        self._broadcaster.sendTransform(transform_message(rig.T_LIDAR_CAMERA, "lidar", rig.OPTICAL, Time()))
        self.bench.spin(0.3)

    def listen(self) -> tuple[list[Any], list[Any]]:
        from sensor_msgs.msg import PointCloud2

        heard = self.bench.listen("colored", PointCloud2), self.bench.listen("segmentation", PointCloud2)
        self.bench.spin(0.3)
        return heard

    def diagnostic(self, wanted: Callable[[Any], bool], name: str, **sent: Any) -> Any:
        from diagnostic_msgs.msg import DiagnosticArray

        heard = self.bench.listen("/diagnostics", DiagnosticArray)
        found: list[Any] = []

        def look() -> None:
            self.send(**sent)
            self.bench.spin(0.6)
            statuses = (s for m in heard for s in m.status if s.name == f"fuse_node: {name}")
            found.extend(s for s in statuses if wanted(s))

        return self.bench.repeat(look, found, "the diagnostic")


def check_colors(colored: Any, labelled: Any) -> None:
    from sensor_msgs_py.point_cloud2 import read_points

    on_panel = panel_before_wall()[1]
    table, labels = read_points(colored), read_points(labelled)["label"]
    rgb = table["rgb"].view(np.uint32) & 0xFFFFFF
    red, seen = rgb == 0xFF0000, labels != UNLABELED
    assert red[on_panel].mean() > 0.9
    assert red[~on_panel].mean() < 0.003
    np.testing.assert_array_equal(labels[seen] == 1, red[seen])
    assert seen.mean() > 0.5


@pytest.mark.parametrize("by", ["TF", "file"])
def test_points_take_colours_and_labels(bench: Bench, tmp_path: Path, by: str) -> None:
    file = rig.result_file(tmp_path / "front.yaml")
    vehicle = Vehicle(bench, **({"calibrations": [str(file)]} if by == "file" else {}))
    if by == "TF":
        vehicle.mount()
    colored, labelled = vehicle.listen()
    bench.repeat(vehicle.send, labelled)
    bench.spin_until(lambda: colored, "the coloured cloud")
    sent = rig.cloud_message()
    for out in (colored[-1], labelled[-1]):
        assert (out.header, out.height, out.width) == (sent.header, sent.height, sent.width)
    check_colors(colored[-1], labelled[-1])


def test_without_tf_and_with_a_camera_info_of_zeros_the_reason_is_told(bench: Bench) -> None:
    vehicle = Vehicle(bench)
    colored, _ = vehicle.listen()
    status = vehicle.diagnostic(lambda s: "not fused" in s.message, "fusing")
    assert f"no transform from 'lidar' to '{rig.OPTICAL}'" in status.message
    vehicle.mount()
    zeros = rig.camera_info(np.zeros((3, 3)))
    status = vehicle.diagnostic(lambda s: "no intrinsics" in s.message, "cameras", info=zeros)
    assert "pc-calibrate intrinsics" in status.message
    assert colored == []
    bench.repeat(vehicle.send, colored)


@pytest.mark.parametrize("policy", ["warn", "refuse"])
def test_a_camera_info_that_no_camera_has_is_told_or_refused(bench: Bench, policy: str) -> None:
    vehicle = Vehicle(bench, calibration_policy=policy)
    colored, _ = vehicle.listen()
    vehicle.mount()
    K = rig.K + np.array([[0, 0, 1000.0], [0, 0, 0], [0, 0, 0]])
    status = vehicle.diagnostic(lambda s: "lies outside" in s.message, "calibration", info=rig.camera_info(K))
    assert status.level == (b"\x01" if policy == "warn" else b"\x02")
    assert bool(colored) == (policy == "warn")


def test_a_cloud_in_another_frame_and_a_picture_of_another_size(bench: Bench, tmp_path: Path) -> None:
    from tests.nodes.images import color_message

    vehicle = Vehicle(bench, calibrations=[str(rig.result_file(tmp_path / "front.yaml"))])
    colored, _ = vehicle.listen()
    other = rig.cloud_message(frame="base_link")
    status = vehicle.diagnostic(lambda s: "not fused" in s.message, "fusing", cloud=other)
    assert "the cloud is in 'base_link', the calibration of camera 'front' is for 'lidar'" in status.message
    small = color_message((60, 80), frame=rig.OPTICAL)
    status = vehicle.diagnostic(lambda s: "has (60, 80) pixels" in s.message, "cameras", picture=small)
    late = rig.cloud_message(stamp_ns=rig.STAMP_NS + 2 * 10**9)
    status = vehicle.diagnostic(lambda s: "-2.00 s off, allowed 0.1" in s.message, "cameras", cloud=late)
    assert status.level == b"\x01"
    assert colored == []


def test_a_picture_that_comes_after_its_cloud_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    values = {"calibrations": [str(rig.result_file(tmp_path / "front.yaml"))], "image_timeout_s": 1.0}
    vehicle = Vehicle(bench, **values)
    colored, _ = vehicle.listen()
    bench.repeat(vehicle.send, colored)
    stamp_ns = rig.STAMP_NS

    def send_cloud_first() -> None:  # each time a new stamp, or a picture sent before would do
        nonlocal stamp_ns
        stamp_ns += 2 * 10**9
        vehicle.publishers["points"].publish(rig.cloud_message(stamp_ns=stamp_ns))
        bench.spin(0.1)
        vehicle.publishers["front/image_raw"].publish(rig.picture_messages(stamp_ns)[0])
        bench.spin(0.5)

    found = bench.repeat(send_cloud_first, colored)
    assert found.header == rig.cloud_message(stamp_ns=stamp_ns).header


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"created": "2020-01-01T00:00:00+00:00"}, "days old"),
        ({"spread_deg": 2.0}, "spread 2 deg, allowed 0.3"),
    ],
)
@pytest.mark.parametrize("policy", ["ignore", "warn", "refuse"])
def test_a_bad_calibration_is_told_or_refused(
    bench: Bench, tmp_path: Path, made: dict, reason: str, policy: str
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.lifecycle import TransitionCallbackReturn

    from ros2_nodes.fuse_node import FuseNode

    file = rig.result_file(tmp_path / "front.yaml", **made)
    values = {"cameras": ["front"], "calibrations": [str(file)], "calibration_policy": policy}
    node = bench.start_node(FuseNode, policy != "refuse", **values)
    if policy == "refuse":
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert reason in node._problem
        return
    heard = bench.listen("/diagnostics", DiagnosticArray)
    status = bench.diagnostic(heard, lambda s: reason in s.message, "calibration")
    assert status.level == (b"\x01" if policy == "warn" else b"\x00")


def test_a_camera_that_drifted_is_left_out_where_policy_refuses(bench: Bench, tmp_path: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticStatus

    from ros2_nodes.qos import LATCHED

    file = rig.result_file(tmp_path / "front.yaml")
    vehicle = Vehicle(bench, calibrations=[str(file)], calibration_policy="refuse")
    colored, _ = vehicle.listen()
    bench.repeat(vehicle.send, colored)
    told = bench.peer.create_publisher(DiagnosticStatus, "front/calibration_status", LATCHED)
    told.publish(DiagnosticStatus(level=b"\x01", message="drifted by 1.20 deg and 30 mm"))
    bench.spin(0.3)
    status = vehicle.diagnostic(lambda s: "not fused" in s.message, "fusing")
    assert "refuses camera 'front': drifted by 1.20 deg" in status.message
    told.publish(DiagnosticStatus(level=b"\x00", message="holds"))
    bench.spin(0.3)
    bench.repeat(vehicle.send, colored)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"cameras": ["a", "b"], "calibrations": ["x.yaml"]}, "1 files for 2 cameras"),
        ({"cameras": ["a"], "calibrations": ["nowhere.yaml"]}, "nowhere.yaml"),
        ({"cameras": ["a"], "label_set": "none"}, "no label set 'none'"),
    ],
)
def test_what_cannot_be_configured_says_why(bench: Bench, values: dict[str, Any], reason: str) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn

    from ros2_nodes.fuse_node import FuseNode

    node = bench.start_node(FuseNode, False, **values)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert reason in node._problem


@pytest.mark.parametrize("names", [["front", "front"], ["/front"], ["the front"]])
def test_wrong_names_of_cameras_are_one_sentence(bench: Bench, names: list[str]) -> None:
    from ros2_nodes.fuse_node import FuseNode

    with pytest.raises(ValueError, match="cameras"):
        bench.start_node(FuseNode, False, cameras=names)


def test_nodes_without_a_model_do_without_torch(ros: Any) -> None:
    script = "import sys, ros2_nodes.fusing, ros2_nodes.calibrating; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"  # True costs each of them 200 MB and a second
