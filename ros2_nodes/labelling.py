# SPDX-License-Identifier: Apache-2.0
"""The sweep's way through the segmentation node: decoded, moved, labelled, published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from pc_perception.cloud import PointCloud
from pc_perception.io.pointcloud2 import cloud_from_msg

from .conversions import labelled_message
from .model_worker import ModelWorker, invalid_share
from .perception_node import PerceptionNode
from .runtime import Stopwatch
from .transforms import Transforms


class Labeller(ModelWorker[PointCloud2]):
    """Labels the points of clouds with a model."""

    def __init__(self, node: PerceptionNode) -> None:
        """Load the model and make the publishers.

        Raises:
            FileNotFoundError, ValueError: as ``load_segmenter``.
        """
        super().__init__(node, {"segmentation": PointCloud2})
        values = node.values
        needs_tf = bool(values["target_frame"]) or values["n_sweeps"] > 1
        self._transforms = Transforms(node, values["tf_timeout_s"]) if needs_tf else None

    def options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return threshold and ego box."""
        box = tuple(values["ego_box"])
        return {**super().options(values), "ego_box": box if any(box) else None}

    def apply(self, values: dict[str, Any]) -> None:
        """Take over parameters that were changed."""
        super().apply(values)
        if self._transforms is not None:
            self._transforms.timeout_s = values["tf_timeout_s"]

    def close(self) -> None:
        """Destroy publishers and subscriptions."""
        super().close()
        if self._transforms is not None:
            self._transforms.close()

    # What follows runs on the worker's thread.

    def process(self, msg: PointCloud2, watch: Stopwatch) -> None:
        """Label one sweep and publish it."""
        pipeline = self.pipeline
        cloud, T_fixed_cloud, origin = self._placed(cloud_from_msg(msg))
        watch.mark()
        result = pipeline.sweeps(cloud, T_fixed_cloud, origin)
        watch.mark()
        values = pipeline.encoder.encode(cloud, result.labels, result.confidence)
        self.outputs.send("segmentation", labelled_message(values, msg, cloud.frame))
        watch.mark()
        self.account(cloud.stamp_ns, invalid_share(cloud), watch.stages(result.milliseconds))
        if self.values["publish_legend"]:
            self.outputs.send_legend(result.label_set, cloud.frame)
        self.check_sensor(pipeline, cloud, origin)

    def _placed(self, cloud: PointCloud) -> tuple[PointCloud, NDArray | None, NDArray | None]:
        """Bring a cloud where the parameters want it; return it, T_fixed_cloud and the sensor's origin."""
        T_fixed_cloud = origin = None
        if self._transforms is not None:
            if self.values["target_frame"]:
                cloud, origin = self._transforms.move(cloud, self.values["target_frame"])
            if self.values["n_sweeps"] > 1:
                fixed = self.values["fixed_frame"]
                T_fixed_cloud = self._transforms.at_stamp(fixed, cloud.frame, cloud.stamp_ns)
        return cloud, T_fixed_cloud, origin
