# SPDX-License-Identifier: Apache-2.0
"""What calibrate_node does: publishes the calibrations of a rig and measures whether they still hold."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, PointCloud2
from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster

from calibration.check import check_calibration
from calibration.frames import Frame
from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse
from pc_perception.inference.live import invalid_share
from pc_perception.io.image_messages import fill_camera_info
from pc_perception.io.pointcloud2 import cloud_from_msg, header_of
from pc_perception.io.rgbd import color_image

from .calibrations import by_camera, doubts, read_calibrations
from .camera_feed import CameraFeed
from .conversions import status_message, transform_message
from .node_worker import NodeWorker
from .outputs import Outputs
from .perception_node import PerceptionNode
from .qos import LATCHED
from .runtime import Report, Stopwatch
from .transforms import Transforms
from .watched_camera import WatchedCamera


class Calibrator(NodeWorker[PointCloud2]):
    """Publishes mounts and intrinsics of result files; measures their drift on live data.

    Attributes:
        watched: one for each camera.
    """

    reads = "calibration"

    def __init__(self, node: PerceptionNode) -> None:
        """Read the result files and make the publishers.

        Raises:
            FileNotFoundError, ValueError: there is none, one cannot be used, or ``calibration_policy`` refuses it.
        """
        values = node.values
        read = read_calibrations(by_camera(values["cameras"], values["calibrations"]))
        if not read:
            raise ValueError("no calibrations are given; name the result files of pc-calibrate")
        self._doubts = doubts(read, values)
        super().__init__(node, Outputs(node, {}, labels=False))
        self.watched = [WatchedCamera(CameraFeed(name, calibration)) for name, calibration in read.items()]
        self._transforms = Transforms(node, values["tf_timeout_s"])
        self._tf = StaticTransformBroadcaster(node) if values["publish_tf"] else None
        self._infos = {
            name: node.create_lifecycle_publisher(CameraInfo, f"{name}/camera_info", 5) for name in read
        }
        self._statuses = {
            name: node.create_lifecycle_publisher(DiagnosticStatus, f"{name}/calibration_status", LATCHED)
            for name in read
        }

    def load(self) -> None:
        """Read the result files again; where one cannot be used, all stay as they were."""
        read = read_calibrations(by_camera(self.values["cameras"], self.values["calibrations"]))
        self._doubts = doubts(read, self.values)
        for watched in self.watched:
            name = watched.feed.name
            watched.feed.calibration, watched.drift, watched.frames = read[name], None, []
        self._announce()

    def describe(self) -> str:
        """Return how many cameras have a mount."""
        mounts = sum(
            w.feed.calibration is not None and w.feed.calibration.extrinsics is not None for w in self.watched
        )
        return f"{len(self.watched)} cameras calibrated, {mounts} with a mount"

    def wanted(self) -> bool:
        """Work whoever listens: the findings go to /diagnostics."""
        return True

    def apply(self, values: dict[str, Any]) -> None:
        """Take over parameters that were changed."""
        super().apply(values)
        self._transforms.timeout_s = values["tf_timeout_s"]

    def start(self) -> None:
        """Publish the mounts, say what is known, start the thread."""
        super().start()
        self._announce()

    def close(self) -> None:
        """Destroy publishers and subscriptions."""
        super().close()
        self._transforms.close()
        for publisher in (*self._infos.values(), *self._statuses.values()):
            self.node.destroy_lifecycle_publisher(publisher)
        if self._tf is not None:
            self.node.destroy_publisher(self._tf.pub_tf)

    def picture_callback(self, watched: WatchedCamera) -> Any:
        """Return the callback of a camera's pictures: keep them, and publish their camera_info."""
        return partial(self._take_picture, watched)

    def _take_picture(self, watched: WatchedCamera, msg: Any) -> None:
        watched.feed.take_picture(msg)
        if self.values["publish_camera_info"]:
            frame, stamp_ns = header_of(msg)
            camera = watched.feed.model()
            info = fill_camera_info(
                CameraInfo(), camera.K, camera.width, camera.height, frame, stamp_ns,
                camera.distortion_model, camera.D, camera.P,
            )  # fmt: skip
            self._infos[watched.feed.name].publish(info)

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call: the stream, and each camera's calibration."""
        found = {
            f"calibration {w.feed.name}": w.judgement(self._doubts.get(w.feed.name, "")) for w in self.watched
        }
        # Clouds that pass by during a measurement are no fault: none is counted as dropped.
        return {self.words.doing: self.vitals.report(dropped=0), **found}

    def _announce(self) -> None:
        stamp = self.node.get_clock().now().to_msg()
        mounts = [w.feed.calibration.extrinsics for w in self.watched if w.feed.calibration is not None]
        if self._tf is not None:
            self._tf.sendTransform(
                [
                    transform_message(inverse(m.T_camera_lidar), m.lidar_frame, m.camera_frame, stamp)
                    for m in mounts
                    if m is not None
                ]
            )
        for watched in self.watched:
            self._tell(watched)

    def _tell(self, watched: WatchedCamera) -> None:
        """Tell the nodes that use this camera whether its calibration holds."""
        name = watched.feed.name
        report = watched.judgement(self._doubts.get(name, ""))
        self._statuses[name].publish(status_message(f"calibration of {name}", name, *report))

    # What follows runs on the worker's thread.

    def process(self, msg: PointCloud2, watch: Stopwatch) -> None:
        """Pair the cloud with pictures; measure the drift of a camera that has pairs enough and is due."""
        now = time.monotonic()
        cloud = cloud_from_msg(msg)
        watch.mark()
        gathering = self.watched if self.values["check_period_s"] > 0 else []
        for watched in gathering:
            if now >= watched.due and now - watched.last_pair >= self.values["check_gap_s"]:
                self._gather(watched, cloud, now)
        watch.mark()
        watch.mark()
        self.account(cloud.stamp_ns, invalid_share(cloud), watch.stages())
        for watched in gathering:
            if len(watched.frames) >= self.values["check_frames"]:
                self._measure(watched)

    def _gather(self, watched: WatchedCamera, cloud: PointCloud, now: float) -> None:
        """Keep the cloud with the picture of its time, or say why not."""
        feed = watched.feed
        mount = feed.calibration.extrinsics if feed.calibration is not None else None
        if mount is None:
            return
        try:
            if cloud.frame != mount.lidar_frame:
                raise ValueError(
                    f"the cloud is in '{cloud.frame}', the calibration is for '{mount.lidar_frame}'"
                )
            until = time.monotonic() + self.values["image_timeout_s"]
            picture, _ = feed.nearest(cloud.stamp_ns, self.values["image_slop_s"], until)
            camera_frame, stamp_ns = header_of(picture)
            fixed = self.values["fixed_frame"]
            if fixed:
                cloud = self._transforms.carry(fixed, cloud, stamp_ns, self.values["undistort"])
            watched.frames.append(Frame(str(stamp_ns), color_image(picture), cloud, camera_frame))
            watched.last_pair, watched.problem = now, ""
        except ValueError as error:
            watched.problem = str(error)

    def _measure(self, watched: WatchedCamera) -> None:
        """Measure the drift of one camera, and tell it."""
        frames, watched.frames = watched.frames, []
        watched.due = time.monotonic() + self.values["check_period_s"]
        calibration, values = watched.feed.calibration, self.values
        assert calibration is not None
        watched.measuring = True
        try:
            drift = check_calibration(calibration, frames, values["max_drift_deg"], values["max_drift_mm"])
        except ValueError as error:
            watched.problem = str(error)
            return
        finally:
            watched.measuring = False
        watched.drift = drift
        self._tell(watched)
        moved = f"{drift.drift_deg:.2f} deg and {drift.drift_mm:.0f} mm off"
        logger = self.node.get_logger()
        log = logger.warning if drift.verdict == "drifted" else logger.info
        log(f"calibration of '{watched.feed.name}': {drift.verdict}, {moved}")
