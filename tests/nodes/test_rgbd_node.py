# SPDX-License-Identifier: Apache-2.0
"""The RGB-D node against a real rclpy: what comes out, and what it says about input that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pc_perception.labels import UNLABELED, load_label_set
from tests.nodes import images, tiny_model
from tests.nodes.images import SHAPE, STAMP_NS, color_message, depth_message, info_message, now_ns

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("model") / "room.safetensors", "room9")


class Camera:
    """The node with a peer that plays camera; ``send`` gives one frame."""

    def __init__(self, bench: Bench, model: Path, **values: Any) -> None:
        from sensor_msgs.msg import CameraInfo, Image

        from ros2_nodes.rgbd_node import RgbdNode

        self.bench = bench
        bench.start_node(RgbdNode, model=str(model), threads=1, **values)
        kinds = {"depth": Image, "rgb": Image, "camera_info": CameraInfo}
        if values.get("registered") is False:
            kinds["rgb_camera_info"] = CameraInfo
        if values.get("use_rgb") is False:
            del kinds["rgb"]
        self.publishers = bench.publish_to(**kinds)

    def send(self, depth: Any = None, rgb: Any = None, info: Any = None) -> None:
        given = {"depth": depth or depth_message(), "camera_info": info or info_message()}
        if "rgb" in self.publishers:
            given["rgb"] = rgb or color_message()
        for topic, msg in given.items():
            self.publishers[topic].publish(msg)

    def diagnostic(self, wanted: Callable[[Any], bool], name: str = "labelling", **frame: Any) -> Any:
        from diagnostic_msgs.msg import DiagnosticArray

        heard: list[Any] = self.bench.listen("/diagnostics", DiagnosticArray)
        found: list[Any] = []

        def look() -> None:
            self.send(**frame)
            self.bench.spin(0.6)
            statuses = (s for m in heard for s in m.status if s.name == f"rgbd_node: {name}")
            found.extend(s for s in statuses if wanted(s))

        return self.bench.repeat(look, found, "the diagnostic")


def test_an_organised_cloud_and_label_images_come_out(bench: Bench, room: Path) -> None:
    from sensor_msgs.msg import Image, PointCloud2
    from sensor_msgs_py.point_cloud2 import read_points

    from pc_perception.io.rgbd import color_image, label_image

    camera = Camera(bench, room, decimation=2)
    clouds = bench.listen("segmentation", PointCloud2)
    labels, colors = bench.listen("label_image", Image), bench.listen("label_image_color", Image)
    bench.spin(0.3)
    hole = np.tile(np.linspace(1, 3, SHAPE[1], dtype=np.float32), (SHAPE[0], 1))
    hole[10:20, 10:20] = np.nan
    depth = depth_message(hole)
    out = bench.repeat(lambda: camera.send(depth), clouds)
    bench.spin_until(lambda: labels and colors, "the images")
    assert (out.header, out.height, out.width, out.is_dense) == (depth.header, 24, 32, False)
    table = read_points(out)
    assert {"x", "y", "z", "label", "confidence", "rgb"} <= set(table.dtype.names)
    label = label_image(labels[-1])
    assert labels[-1].header == colors[-1].header == depth.header
    assert (label.shape, labels[-1].encoding, colors[-1].encoding) == (SHAPE, "mono16", "rgb8")
    assert (label[~np.isfinite(hole)] == UNLABELED).all()
    assert (label[np.isfinite(hole)] < 9).mean() > 0.9
    np.testing.assert_array_equal(label[1::2, 1::2].ravel(), table["label"].ravel())
    expected = load_label_set("room9").colorize(label.ravel()).reshape(*SHAPE, 3)
    np.testing.assert_array_equal(color_image(colors[-1]), expected)


def test_compressed_pictures_give_what_raw_ones_give(bench: Bench, room: Path) -> None:
    from functools import partial

    from sensor_msgs.msg import CameraInfo, CompressedImage, Image

    from pc_perception.io.rgbd import color_image, depth_image, label_image
    from ros2_nodes.rgbd_node import RgbdNode
    from tests.core.test_compressed_depth import packed, png

    topics = {"depth": "depth/image/compressedDepth", "rgb": "color/image/compressed"}
    remapped = [part for name, topic in topics.items() for part in ("-r", f"{name}:={topic}")]
    kind = partial(RgbdNode, cli_args=["--ros-args", *remapped])
    bench.start_node(kind, model=str(room), threads=1, decimation=1)
    names = {topic.replace("/", "__"): CompressedImage for topic in topics.values()}
    publishers = bench.publish_to(**names, camera_info=CameraInfo)
    labels = bench.listen("label_image", Image)
    bench.spin(0.3)
    raw = depth_message()
    depth, rgb = CompressedImage(header=raw.header), CompressedImage(header=raw.header, format="png")
    millimetres = np.rint(depth_image(raw) * 1000).astype(np.uint16)
    sent = packed(millimetres)
    depth.format, depth.data = sent.format, bytes(sent.data)
    rgb.data = png(color_image(color_message()))

    def send() -> None:
        for topic, msg in zip((*topics.values(), "camera_info"), (depth, rgb, info_message()), strict=True):
            publishers[topic].publish(msg)

    label = label_image(bench.repeat(send, labels))
    assert label.shape == SHAPE
    assert ((label < 9) == (millimetres > 0)).mean() > 0.9
    assert labels[-1].header == raw.header


def test_depth_alone_and_another_decimation_at_run_time(bench: Bench, room: Path) -> None:
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import PointCloud2

    camera = Camera(bench, room, use_rgb=False)
    got = bench.listen("segmentation", PointCloud2)
    bench.spin(0.3)
    out = bench.repeat(camera.send, got)
    assert (out.height, out.width) == (16, 21)
    assert bench.node.set_parameters([Parameter("decimation", value=1)])[0].successful
    bench.spin(0.3)
    out = bench.repeat(camera.send, got)
    assert (out.height, out.width) == SHAPE


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"depth": "wrong unit"}, "median depth is 2000 m, so the unit is wrong"),
        ({"rgb": "half size"}, "colour image has (24, 32) pixels, the depth (48, 64)"),
        ({"info": "zeros"}, "focal lengths are not positive"),
        ({"info": "other size"}, "camera_info is for 24 x 32 pixels"),
        ({"rgb": "unknown"}, "encoded as 'nv21'"),
    ],
)
def test_what_does_not_fit_is_skipped_with_the_reason(
    bench: Bench, room: Path, frame: dict[str, str], reason: str
) -> None:
    from sensor_msgs.msg import PointCloud2

    unknown = color_message()
    unknown.encoding = "nv21"
    bad = {
        "wrong unit": depth_message(np.full(SHAPE, 2000.0, np.float32)),
        "half size": color_message((24, 32)),
        "zeros": info_message(np.zeros((3, 3))),
        "other size": info_message(shape=(24, 32)),
        "unknown": unknown,
    }
    camera = Camera(bench, room)
    got = bench.listen("segmentation", PointCloud2)
    bench.spin(0.3)
    status = camera.diagnostic(
        lambda s: "not labelled" in s.message, **{name: bad[kind] for name, kind in frame.items()}
    )
    assert reason in status.message
    assert got == []
    bench.repeat(camera.send, got)  # and the next frame is labelled


@pytest.mark.parametrize(
    ("ahead_s", "reason"), [(None, "have a stamp of zero"), (3600.0, "s in the future: compare the clocks")]
)
def test_stamps_of_zero_and_from_the_future_are_named(
    bench: Bench, room: Path, ahead_s: float | None, reason: str
) -> None:
    from sensor_msgs.msg import PointCloud2

    camera = Camera(bench, room)
    got = bench.listen("segmentation", PointCloud2)
    bench.spin(0.3)
    stamp = 0 if ahead_s is None else now_ns(bench.peer) + int(ahead_s * 1e9)
    frame = {
        "depth": depth_message(stamp_ns=stamp),
        "rgb": color_message(stamp_ns=stamp),
        "info": info_message(stamp_ns=stamp),
    }
    status = camera.diagnostic(lambda s: reason in s.message, **frame)
    assert status.level == b"\x01"
    assert got  # labelled all the same


def test_two_publishers_a_silent_input_and_frames_that_differ_are_named(bench: Bench, room: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image, PointCloud2

    camera = Camera(bench, room)
    diagnostics = bench.listen("/diagnostics", DiagnosticArray)
    bench.diagnostic(
        diagnostics, lambda s: "nothing on '/rgb' yet, which has 1 publisher(s)" in s.message, "inputs"
    )
    bench.listen("segmentation", PointCloud2)
    bench.peer.create_publisher(Image, "depth", 1)
    status = camera.diagnostic(lambda s: "publishers on '/depth'" in s.message, "inputs")
    assert "2 publishers on '/depth': remap one of them" in status.message
    odd = info_message(frame="somewhere")
    status = camera.diagnostic(lambda s: "somewhere" in s.message, "frames", info=odd)
    assert status.message == f"depth is in '{images.FRAME}', camera_info in 'somewhere'"


def test_unregistered_depth_waits_for_intrinsics_and_tf(bench: Bench, room: Path) -> None:
    from sensor_msgs.msg import PointCloud2
    from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster

    from pc_perception.geometry import pose
    from ros2_nodes.conversions import transform_message

    camera = Camera(bench, room, registered=False, tf_timeout_s=0.05)
    got = bench.listen("segmentation", PointCloud2)
    bench.spin(0.3)
    rgb = color_message((96, 128), frame="other_optical_frame")
    status = camera.diagnostic(lambda s: "not labelled" in s.message, rgb=rgb)
    assert "no message on rgb_camera_info yet" in status.message
    matrix = np.array([[120.0, 0, 63.5], [0, 120.0, 47.5], [0, 0, 1]])
    info = info_message(matrix, (96, 128), frame="other_optical_frame")
    camera.publishers["rgb_camera_info"].publish(info)
    status = camera.diagnostic(lambda s: "no transform" in s.message, rgb=rgb)
    assert f"no transform from '{images.FRAME}' to 'other_optical_frame'" in status.message
    assert got == []
    broadcaster = StaticTransformBroadcaster(bench.peer)
    mount = transform_message(pose((0.05, 0, 0)), "other_optical_frame", images.FRAME, info.header.stamp)
    broadcaster.sendTransform(mount)
    bench.spin(0.3)
    out = bench.repeat(lambda: camera.send(rgb=rgb), got)
    assert out.header.stamp.sec * 10**9 + out.header.stamp.nanosec == STAMP_NS


def result_file(path: Path, **made: str) -> str:
    """A result file of the camera of ``images``."""
    from calibration.camera import CameraModel
    from calibration.result import Calibration

    return str(Calibration(CameraModel(SHAPE[1], SHAPE[0], images.K), **made).save(path))


@pytest.mark.parametrize("policy", ["ignore", "warn", "refuse"])
def test_a_stale_result_file_is_told_or_refused(
    bench: Bench, room: Path, tmp_path: Path, policy: str
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.lifecycle import TransitionCallbackReturn

    from ros2_nodes.rgbd_node import RgbdNode

    file = result_file(tmp_path / "depth.yaml", created="2020-01-01T00:00:00+00:00")
    values = {"model": str(room), "threads": 1, "depth_calibration": file, "calibration_policy": policy}
    node = bench.start_node(RgbdNode, policy != "refuse", **values)
    if policy == "refuse":
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert "calibration_policy refuses the calibration of depth: it is" in node._problem
        return
    heard = bench.listen("/diagnostics", DiagnosticArray)
    status = bench.diagnostic(heard, lambda s: "days old" in s.message, "calibration")
    assert status.level == (b"\x01" if policy == "warn" else b"\x00")


@pytest.mark.parametrize("policy", ["warn", "refuse"])
def test_a_camera_info_off_its_file_is_told_or_its_frames_refused(
    bench: Bench, room: Path, tmp_path: Path, policy: str
) -> None:
    from sensor_msgs.msg import PointCloud2

    file = result_file(tmp_path / "depth.yaml")
    camera = Camera(bench, room, depth_calibration=file, calibration_policy=policy)
    got = bench.listen("segmentation", PointCloud2)
    bench.spin(0.3)
    bench.repeat(camera.send, got)
    n_good = len(got)
    moved = images.K + np.array([[0, 0, 5.0], [0, 0, 0], [0, 0, 0]])
    status = camera.diagnostic(lambda s: "5.0 px off" in s.message, "calibration", info=info_message(moved))
    assert status.level == (b"\x01" if policy == "warn" else b"\x02")
    assert (len(got) > n_good) == (policy == "warn")
    camera.diagnostic(lambda s: s.message == "nothing against it", "calibration")
    bench.repeat(camera.send, got)  # the right one again


def test_what_calibrate_node_says_counts(bench: Bench, room: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticStatus
    from sensor_msgs.msg import PointCloud2

    from ros2_nodes.qos import LATCHED

    camera = Camera(bench, room, calibration_policy="refuse")
    got = bench.listen("segmentation", PointCloud2)
    told = bench.peer.create_publisher(DiagnosticStatus, "calibration_status", LATCHED)
    told.publish(DiagnosticStatus(level=b"\x01", message="drifted by 1.20 deg and 30 mm"))
    status = camera.diagnostic(lambda s: "not labelled" in s.message)
    assert "refuses camera 'depth': drifted by 1.20 deg" in status.message
    assert got == []
    told.publish(DiagnosticStatus(level=b"\x00", message="holds"))
    bench.spin(0.3)
    bench.repeat(camera.send, got)
