# SPDX-License-Identifier: Apache-2.0
"""The frame's way through the RGB-D node: depth, colour and camera_info to labelled cloud and images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from pc_perception.cloud import PointCloud
from pc_perception.inference.live import invalid_share
from pc_perception.inference.live_segmenter import LiveModel
from pc_perception.inference.practice import practice_frame
from pc_perception.inference.rgbd_stream import (
    ColorCamera,
    RgbdResult,
    RgbdSegmenter,
    mismatched_frames,
    rgbd_cloud,
)
from pc_perception.inference.segmenter import Segmenter
from pc_perception.io.compressed_depth import uncompressed_depth
from pc_perception.io.image_messages import fill_image
from pc_perception.io.pointcloud2 import header_of

from .calibrations import Trust
from .conversions import cloud_message, new_message
from .node_worker import NodeTransport
from .outputs import Outputs
from .perception_node import PerceptionNode
from .runtime import OK, WARN, Report, Stopwatch
from .transforms import Transforms

CLOUD, LABELS, COLORS = "segmentation", "label_image", "label_image_color"


class RgbdFrame(NamedTuple):
    """Messages of one moment; ``rgb`` is None where colour is not used."""

    depth: Image | CompressedImage
    info: CameraInfo
    rgb: Image | CompressedImage | None = None


class RgbdLabeller(LiveModel[RgbdFrame]):
    """Labels the frames of one RGB-D camera.

    Attributes:
        trust: what speaks against the calibrations of the cameras `depth` and `rgb`.
    """

    def __init__(self, node: PerceptionNode) -> None:
        """Judge the calibrations, load the model and make the publishers.

        Raises:
            FileNotFoundError, ValueError: as ``load_segmenter`` and ``Trust``.
        """
        files = {camera: node.values[f"{camera}_calibration"] for camera in ("depth", "rgb")}
        self.trust = Trust(files, node.values, node.get_logger().warning)
        self.outputs = Outputs(node, {CLOUD: PointCloud2, LABELS: Image, COLORS: Image})
        self._transforms: Transforms | None = None
        super().__init__(NodeTransport(node, self.outputs), node.values, node.words)
        if not node.values["registered"]:
            self._transforms = Transforms(node, node.values["tf_timeout_s"])
        self._color_info: CameraInfo | None = None
        self._mismatched: list[str] = []

    def take_frame(self, *messages: Any) -> None:
        """Take what the synchroniser found: depth, camera_info and perhaps rgb."""
        self.take(RgbdFrame(*messages))

    def note_color_info(self, msg: CameraInfo) -> None:
        """Keep the newest intrinsics of a colour camera that the depth is not registered to."""
        self._color_info = msg

    def load(self) -> None:
        """Read the result files and the model file again; where one cannot be used, all stay as they were."""
        self.trust.read()
        super().load()

    def practice(self, segmenter: Segmenter) -> PointCloud:
        """Return the view of a camera whose colours are another one's."""
        frame = practice_frame(new_message)
        return rgbd_cloud(*frame, 1, ColorCamera(frame.info, np.eye(4)))

    def apply(self, values: dict[str, Any]) -> None:
        """Take over parameters that were changed."""
        super().apply(values)
        self.trust.values = values
        if self._transforms is not None:
            self._transforms.timeout_s = values["tf_timeout_s"]

    def close(self) -> None:
        """Destroy publishers and subscriptions."""
        super().close()
        if self._transforms is not None:
            self._transforms.close()

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call, the messages' frames and the calibration among them."""
        told = self._mismatched
        fit = Report(WARN if told else OK, "; ".join(told) or "the headers fit each other", {})
        return {**super().reports(), "frames": fit, "calibration": self.trust.report()}

    # What follows runs on the worker's thread.

    def process(self, msg: RgbdFrame, watch: Stopwatch) -> None:
        """Label one frame and publish it."""
        pipeline, step = self.pipeline, self.values["decimation"]
        msg = msg._replace(depth=uncompressed_depth(msg.depth))
        self._mismatched = mismatched_frames(*msg, self.values["registered"])
        self._judge("depth", msg.info)
        cloud = rgbd_cloud(*msg, step, self._color_camera(msg))
        watch.mark()
        result = RgbdSegmenter(pipeline.sweeps, step)(msg.depth, cloud)
        watch.mark()
        self._send(msg, result)
        watch.mark()
        self.account(cloud.stamp_ns, invalid_share(cloud), watch.stages(result.labels.milliseconds))
        if self.values["publish_legend"]:
            frame = msg.depth.header.frame_id
            self.outputs.send_legend(result.labels.label_set, frame, optical=True)
        self.check_sensor(pipeline, cloud)

    def _send(self, msg: RgbdFrame, result: RgbdResult) -> None:
        frame, stamp_ns = header_of(msg.depth)
        outputs, labels = self.outputs, result.labels
        if outputs.wanted(CLOUD):
            cloud = replace(result.cloud, frame=frame)
            values = self.pipeline.encoder.encode(cloud, labels.labels, labels.confidence, labels.instance)
            outputs.send(CLOUD, cloud_message(values))
        if outputs.wanted(LABELS):
            outputs.send(LABELS, fill_image(Image(), result.image, frame, stamp_ns, "mono16"))
        if outputs.wanted(COLORS):
            picture = labels.label_set.colorize(result.image.ravel()).reshape(*result.image.shape, 3)
            outputs.send(COLORS, fill_image(Image(), picture, frame, stamp_ns))

    def _color_camera(self, msg: RgbdFrame) -> ColorCamera | None:
        if self._transforms is None or msg.rgb is None:
            return None
        if self._color_info is None:
            raise ValueError("no message on rgb_camera_info yet; with registered: false it must be there")
        self._judge("rgb", self._color_info)
        frame, stamp_ns = header_of(msg.depth)
        T_color_depth = self._transforms.at_stamp(header_of(msg.rgb)[0], frame, stamp_ns)
        return ColorCamera(self._color_info, T_color_depth)

    def _judge(self, camera: str, info: CameraInfo) -> None:
        self.trust.note_info(camera, info)
        self.trust.check(camera)
