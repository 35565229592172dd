# SPDX-License-Identifier: Apache-2.0
"""The clouds that a node takes: PointCloud2, or Livox's own message where that is what its driver sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sensor_msgs.msg import PointCloud2

from pc_perception.io import livox
from pc_perception.io.message_types import CLOUD, CLOUD_TYPES

from .conversions import cloud_message, message_class, missing_type

if TYPE_CHECKING:
    from .perception_node import PerceptionNode

COMPLAINT_PERIOD_S = 5.0


class CloudInput:
    """The subscription of `points`, whose callback gets every cloud as PointCloud2.

    It is of one type at a time: a topic of several is one that `ros2 topic echo` refuses.
    """

    def __init__(self, node: PerceptionNode, callback: Callable[[PointCloud2], None]) -> None:
        self._node, self._callback, self._type = node, callback, CLOUD
        self._subscription = node.listen(PointCloud2, "points", callback)

    def follow_publisher(self) -> dict[str, str]:
        """Subscribe to what is published, where it can be taken; return what is in the way, by topic."""
        topic = self._subscription.topic_name
        types = {p.topic_type for p in self._node.get_publishers_info_by_topic(topic)}
        found = next((t for t in CLOUD_TYPES if t in types), "")
        if not found or self._type in types:
            return {}
        if problem := missing_type(found):
            return {topic: f"nothing from '{topic}': {problem}"}
        is_livox = found in livox.TYPES
        callback = self._take_livox if is_livox else self._callback
        before, self._type = self._subscription, found
        self._subscription = self._node.listen(message_class(found), "points", callback, raw=is_livox)
        self._node.ignore(before)
        self._node.get_logger().info(f"'{topic}' is a {found}, taken as it is")
        return {}

    def _take_livox(self, raw: bytes) -> None:
        try:
            msg = cloud_message(livox.custom_msg(raw))
        except ValueError as error:
            text = f"a {self._type} was left out: {error}"
            self._node.get_logger().warning(text, throttle_duration_sec=COMPLAINT_PERIOD_S)
            return
        self._callback(msg)
