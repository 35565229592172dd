# SPDX-License-Identifier: Apache-2.0
"""The calibration node against a real rclpy: what it publishes, what it measures, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.nodes import rig

if TYPE_CHECKING:
    from tests.nodes.conftest import Bench

pytestmark = pytest.mark.ros


def start(bench: Bench, file: Path, **values: Any) -> dict[str, Any]:
    from sensor_msgs.msg import Image, PointCloud2

    from ros2_nodes.calibrate_node import CalibrateNode

    bench.start_node(CalibrateNode, cameras=["front"], calibrations=[str(file)], threads=1, **values)
    return bench.publish_to(points=PointCloud2, front__image_raw=Image)


def test_the_mount_and_the_intrinsics_are_published(bench: Bench, tmp_path: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticStatus
    from rclpy.time import Time
    from sensor_msgs.msg import CameraInfo
    from tf2_ros.buffer import Buffer
    from tf2_ros.transform_listener import TransformListener

    from calibration.camera import CameraModel
    from ros2_nodes.conversions import matrix

    buffer = Buffer()
    listener = TransformListener(buffer, bench.peer)
    publishers = start(bench, rig.result_file(tmp_path / "front.yaml"))
    infos = bench.listen("front/camera_info", CameraInfo)
    statuses = bench.listen("front/calibration_status", DiagnosticStatus, latched=True)
    bench.spin_until(lambda: buffer.can_transform(rig.OPTICAL, "lidar", Time()), "the mount")
    T = matrix(buffer.lookup_transform(rig.OPTICAL, "lidar", Time()))
    np.testing.assert_allclose(T, rig.T_CAMERA_LIDAR, atol=1e-9)
    bench.spin_until(lambda: statuses, "the status")
    assert (statuses[-1].level, statuses[-1].message) == (b"\x00", "not measured yet, 0 pairs gathered")
    picture = rig.picture_messages()[0]
    info = bench.repeat(lambda: publishers["front/image_raw"].publish(picture), infos)
    assert info.header == picture.header
    model = CameraModel.from_info(info)
    np.testing.assert_array_equal(model.K, rig.K)
    assert (model.width, model.height) == (160, 120)
    assert bench.node.trigger_deactivate().name == bench.node.trigger_cleanup().name == "SUCCESS"
    listener.unregister()


def test_a_bad_file_is_told_to_those_who_use_the_camera(bench: Bench, tmp_path: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticStatus
    from std_srvs.srv import Trigger

    file = rig.result_file(tmp_path / "front.yaml", spread_deg=2.0)
    start(bench, file)
    statuses = bench.listen("front/calibration_status", DiagnosticStatus, latched=True)
    bench.spin_until(lambda: statuses, "the status")
    assert statuses[-1].level == b"\x01"
    assert "spread 2 deg, allowed 0.3" in statuses[-1].message
    rig.result_file(file)  # somebody calibrates again
    client = bench.peer.create_client(Trigger, "calibrate_node/reload")
    bench.spin_until(client.service_is_ready, "the service")
    future = client.call_async(Trigger.Request())
    bench.spin_until(lambda: future.done() and statuses[-1].level == b"\x00", "a good status")
    assert future.result().success


def test_a_cloud_in_another_frame_is_told(bench: Bench, tmp_path: Path) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    publishers = start(bench, rig.result_file(tmp_path / "front.yaml"))
    heard = bench.listen("/diagnostics", DiagnosticArray)
    found: list[Any] = []

    def send() -> None:
        publishers["points"].publish(rig.cloud_message(frame="base_link"))
        bench.spin(0.5)
        found.extend(s for m in heard for s in m.status if "is in 'base_link'" in s.message)

    status = bench.repeat(send, found)
    assert status.name == "calibrate_node: calibration front"
    assert status.message == "not measured: the cloud is in 'base_link', the calibration is for 'lidar'"


def test_without_a_file_it_does_not_configure(bench: Bench) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn

    from ros2_nodes.calibrate_node import CalibrateNode

    node = bench.start_node(CalibrateNode, False, cameras=["front"])
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "name the result files of pc-calibrate" in node._problem


@pytest.mark.slow
def test_a_moved_camera_is_found_out_on_live_data(bench: Bench, tmp_path: Path) -> None:
    pytest.importorskip("open3d", reason="the simulated street needs Open3D")
    from dataclasses import replace

    from diagnostic_msgs.msg import DiagnosticStatus
    from sensor_msgs.msg import Image

    from calibration.result import Calibration, Extrinsics
    from calibration.simulated import disturbed, simulate_street_frames
    from pc_perception.io.image_messages import fill_image
    from pc_perception.io.pointcloud2 import encode_cloud
    from ros2_nodes.conversions import cloud_message

    frames, camera, T = simulate_street_frames(1, 2)
    off = disturbed(T, np.random.default_rng(1), 1.5, 0.05)
    file = Calibration(camera, Extrinsics(off, lidar_frame="lidar")).save(tmp_path / "front.yaml")
    values = {"check_frames": 2, "check_gap_s": 0.0, "image_slop_s": 0.01, "calibration_policy": "ignore"}
    publishers = start(bench, file, **values)
    statuses = bench.listen("front/calibration_status", DiagnosticStatus, latched=True)

    def measured() -> Any:
        return next((s for s in statuses if any(v.key == "drift_deg" for v in s.values)), None)

    for k, frame in enumerate(frames * 3):
        stamp_ns = (k + 1) * 10**9
        picture = fill_image(Image(), frame.image, "front_optical_frame", stamp_ns)
        publishers["front/image_raw"].publish(picture)
        bench.spin(0.5)
        publishers["points"].publish(cloud_message(encode_cloud(replace(frame.cloud, stamp_ns=stamp_ns))))
        bench.spin(0.3)
    bench.spin_until(measured, "a measurement")
    figures = {v.key: v.value for v in measured().values}
    assert figures["verdict"] == "drifted"
    assert 0.8 < float(figures["drift_deg"]) < 2.2
    assert measured().level == b"\x01"
    assert "drifted by" in measured().message
