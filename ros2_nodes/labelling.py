# SPDX-License-Identifier: Apache-2.0
"""The sweep's way through the segmentation node: ``LiveSegmenter``, with clouds moved by TF."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from pc_perception.cloud import PointCloud
from pc_perception.inference.live_segmenter import LiveSegmenter

from .node_worker import NodeTransport
from .outputs import Outputs
from .perception_node import PerceptionNode
from .transforms import Transforms


class Labeller(LiveSegmenter):
    """Labels the points of clouds with a model."""

    def __init__(self, node: PerceptionNode) -> None:
        """Make the publishers and load the model.

        Raises:
            FileNotFoundError, ValueError: as ``load_segmenter``.
        """
        values = node.values
        self._transforms: Transforms | None = None
        outputs = Outputs(node, {"segmentation": PointCloud2})
        super().__init__(NodeTransport(node, outputs), values, node.words)
        if values["target_frame"] or values["n_sweeps"] > 1:
            self._transforms = Transforms(node, values["tf_timeout_s"])

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

    def placed(self, cloud: PointCloud) -> tuple[PointCloud, NDArray | None, NDArray | None]:
        """Bring a cloud where the parameters want it; return it, T_fixed_cloud and the sensor's origin."""
        T_fixed_cloud = origin = None
        if self._transforms is not None:
            if self.values["target_frame"]:
                cloud, origin = self._transforms.move(cloud, self.values["target_frame"])
            if self.values["n_sweeps"] > 1:
                fixed = self.values["fixed_frame"]
                T_fixed_cloud = self._transforms.at_stamp(fixed, cloud.frame, cloud.stamp_ns)
        return cloud, T_fixed_cloud, origin
