# SPDX-License-Identifier: Apache-2.0
"""What every perception node does around its work, carried by ROS (``inference.live`` without it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pc_perception.inference.live import LiveWorker
from pc_perception.labels import LabelSet

from .conversions import labelled_message
from .outputs import Outputs
from .perception_node import PerceptionNode

if TYPE_CHECKING:  # imports torch, which nodes without a model do without
    from pc_perception.inference.live_segmenter import Labelled

T = TypeVar("T")
COMPLAINT_PERIOD_S = 5.0


class NodeTransport:
    """A node and its publishers, as ``LiveWorker`` and ``LiveSegmenter`` use them."""

    def __init__(self, node: PerceptionNode, outputs: Outputs) -> None:
        self._node, self._outputs = node, outputs
        self.wanted, self.close = outputs.wanted, outputs.close
        self.send_debug, self.send_legend = outputs.send_debug, outputs.send_legend

    def now_ns(self) -> int:
        """Return the time of the node's clock, which use_sim_time changes."""
        return self._node.get_clock().now().nanoseconds

    def complain(self, text: str, unexpected: bool) -> None:
        """Log why an input was skipped, every few seconds."""
        logger = self._node.get_logger()
        if unexpected:  # rclpy tells calls apart by their line, and refuses another severity on one
            logger.error(text, throttle_duration_sec=COMPLAINT_PERIOD_S)
        else:
            logger.warning(text, throttle_duration_sec=COMPLAINT_PERIOD_S)

    def warn(self, text: str) -> None:
        """Log a warning."""
        self._node.get_logger().warning(text)

    def decode(self, msg: Any) -> Any:
        """Return the message, which rclpy has decoded."""
        return msg

    def send_labelled(self, labelled: Labelled, source: Any) -> None:
        """Publish a labelled cloud on `segmentation`."""
        msg = labelled_message(labelled.message, source, labelled.cloud.frame)
        self._outputs.send("segmentation", msg)

    def send_label_info(self, label_set: LabelSet, threshold: float) -> None:
        """Publish which id is which class."""
        self._outputs.send_label_info(label_set, threshold)


class NodeWorker(LiveWorker[T]):
    """The work of a configured node.

    Its module may import torch, which the node therefore imports when it is configured
    (``runtime.limit_threads`` comes first); this one does not.
    """

    def __init__(self, node: PerceptionNode, outputs: Outputs) -> None:
        super().__init__(NodeTransport(node, outputs), node.values, node.words)
        self.node, self.outputs = node, outputs
