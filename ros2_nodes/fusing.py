# SPDX-License-Identifier: Apache-2.0
"""The cloud's way through the fusion node: paired with pictures, coloured, labelled, published."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL, inverse, pose, project
from pc_perception.inference.fusion import View, fuse
from pc_perception.inference.live import invalid_share
from pc_perception.inference.practice import practice_cloud
from pc_perception.io.pointcloud2 import LabelledCloudEncoder, cloud_from_msg, encode_cloud, header_of
from pc_perception.io.rgbd import color_image, label_image
from pc_perception.labels import UNLABELED, load_label_set

from .calibrations import Trust, by_camera
from .camera_feed import CameraFeed
from .conversions import cloud_message, labelled_message
from .node_worker import NodeWorker
from .outputs import Outputs
from .perception_node import PerceptionNode
from .runtime import OK, WARN, Report, Stopwatch
from .transforms import Transforms

COLORED, LABELLED = "colored", "segmentation"


class Fuser(NodeWorker[PointCloud2]):
    """Gives the points of a LiDAR the colours and labels of a ring of cameras.

    Attributes:
        feeds: one for each camera.
        trust: what speaks against their calibrations.
    """

    reads = "calibration"

    def __init__(self, node: PerceptionNode) -> None:
        """Read the calibrations and make the publishers.

        Raises:
            FileNotFoundError, ValueError: a file or the label set cannot be used, or ``calibration_policy`` refuses.
        """
        values = node.values
        self._label_set = load_label_set(values["label_set"])
        self._encoder = LabelledCloudEncoder(self._label_set)
        self.trust = Trust(
            by_camera(values["cameras"], values["calibrations"]), values, node.get_logger().warning
        )
        super().__init__(node, Outputs(node, {COLORED: PointCloud2, LABELLED: PointCloud2}))
        self._warm_up()
        self.feeds = [CameraFeed(name, self.trust.files.get(name)) for name in values["cameras"]]
        self._transforms = Transforms(node, values["tf_timeout_s"])
        self._missing: dict[str, str] = {}
        self._share = 0.0

    def load(self) -> None:
        """Read the calibration files again; where one cannot be used, all stay as they were."""
        self.trust.read()
        for feed in self.feeds:
            feed.calibration = self.trust.files.get(feed.name)

    def describe(self) -> str:
        """Return how many cameras there are and where their mounts come from."""
        n = sum(feed.calibration is not None for feed in self.feeds)
        return f"{len(self.feeds)} cameras, {n} with a calibration file, the others by TF and camera_info"

    def apply(self, values: dict[str, Any]) -> None:
        """Take over parameters that were changed."""
        super().apply(values)
        self.trust.values = values
        self._transforms.timeout_s = values["tf_timeout_s"]

    def start(self) -> None:
        """Start the thread and say what the labels mean."""
        super().start()
        self.outputs.send_label_info(self._label_set, 0.0)

    def close(self) -> None:
        """Destroy publishers and subscriptions."""
        super().close()
        self._transforms.close()

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call: fusing, cameras, calibration."""
        missing = self._missing
        cameras = Report(
            WARN if missing else OK,
            "; ".join(missing.values()) or f"{len(self.feeds)} cameras give pictures",
            {"seen_points_share": f"{self._share:.3f}"},
        )
        return {**super().reports(), "cameras": cameras, "calibration": self.trust.report()}

    def _warm_up(self) -> None:
        """Fuse a made-up cloud, so that the first live one finds all kernels compiled and loaded."""
        K, T_camera_cloud = np.array([[90.0, 0, 80], [0, 90, 60], [0, 0, 1]]), inverse(pose(R=R_BODY_OPTICAL))
        cloud, image = cloud_from_msg(encode_cloud(practice_cloud())), np.zeros((120, 160, 3), np.uint8)
        fused = fuse(cloud, [View(lambda xyz: project(K, xyz)[0], (90.0, 90.0), T_camera_cloud, image)])
        self._encoder.encode(cloud, fused.labels, np.zeros(len(cloud), np.float32))

    # What follows runs on the worker's thread.

    def process(self, msg: PointCloud2, watch: Stopwatch) -> None:
        """Fuse one cloud with the pictures of its time and publish it."""
        cloud = cloud_from_msg(msg)
        seen, fixed = cloud, self.values["fixed_frame"]
        if fixed:
            seen = self._transforms.carry(fixed, cloud, cloud.stamp_ns, self.values["undistort"])
        views = self._views(cloud)
        watch.mark()
        fused = fuse(seen, views)
        watch.mark()
        self._share = float((fused.view >= 0).mean()) if len(cloud) else 0.0
        if self.outputs.wanted(COLORED):
            kept = {n: v for n, v in cloud.fields.items() if n == "intensity"}
            colored = replace(cloud, fields={**kept, "rgb": fused.rgb})
            self.outputs.send(COLORED, cloud_message(encode_cloud(colored)))
        if self.outputs.wanted(LABELLED):
            confidence = (fused.labels != UNLABELED).astype(np.float32)
            values = self._encoder.encode(cloud, fused.labels, confidence)
            self.outputs.send(LABELLED, labelled_message(values, msg, cloud.frame))
        watch.mark()
        self.account(cloud.stamp_ns, invalid_share(cloud), watch.stages())
        if self.values["publish_legend"]:
            self.outputs.send_legend(self._label_set, cloud.frame)

    def _views(self, cloud: PointCloud) -> list[View]:
        """Return the view of every camera that has one; say which have none.

        Raises:
            ValueError: no camera has.
        """
        views, missing = [], {}
        until = time.monotonic() + self.values["image_timeout_s"]
        for feed in self.feeds:
            try:
                views.append(self._view(feed, cloud, until))
            except ValueError as error:
                missing[feed.name] = str(error)
        self._missing = missing
        if not views:
            raise ValueError("; ".join(missing.values()))
        return views

    def _view(self, feed: CameraFeed, cloud: PointCloud, until: float) -> View:
        model = feed.model()
        if feed.calibration is None:
            self.trust.note_info(feed.name, feed.info)
        self.trust.check(feed.name)
        picture, labels = feed.nearest(cloud.stamp_ns, self.values["image_slop_s"], until)
        image = color_image(picture)
        if image.shape[:2] != (model.height, model.width):
            raise ValueError(
                f"the picture of camera '{feed.name}' has {image.shape[:2]} pixels, its intrinsics are for "
                f"{(model.height, model.width)}"
            )
        focal = (model.K[0, 0], model.K[1, 1])
        return View(
            model.project, focal, self._mount(feed, picture, cloud), image, self._labels(feed, labels, image)
        )

    def _labels(self, feed: CameraFeed, msg: Any | None, image: NDArray) -> NDArray[np.uint16] | None:
        if msg is None:
            return None
        labels = label_image(msg)
        if labels.shape != image.shape[:2]:
            raise ValueError(
                f"the label image of camera '{feed.name}' has {labels.shape} pixels, the picture {image.shape[:2]}"
            )
        return labels

    def _mount(self, feed: CameraFeed, picture: Any, cloud: PointCloud) -> NDArray[np.float64]:
        """T_camera_cloud, from the cloud's time to the picture's where ``fixed_frame`` is set."""
        frame, stamp_ns = header_of(picture)
        fixed = self.values["fixed_frame"]
        if feed.calibration is None:
            if fixed:
                return self._transforms.through(fixed, frame, stamp_ns, cloud.frame, cloud.stamp_ns)
            return self._transforms.at_stamp(frame, cloud.frame, cloud.stamp_ns)
        mount = feed.calibration.extrinsics
        if mount is None:
            raise ValueError(f"the calibration of camera '{feed.name}' holds intrinsics only, no mount")
        if cloud.frame != mount.lidar_frame:
            raise ValueError(
                f"the cloud is in '{cloud.frame}', the calibration of camera '{feed.name}' is for '{mount.lidar_frame}'"
            )
        if not fixed:
            return mount.T_camera_lidar
        moved = self._transforms.through(fixed, cloud.frame, stamp_ns, cloud.frame, cloud.stamp_ns)
        return mount.T_camera_lidar @ moved
