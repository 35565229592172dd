# SPDX-License-Identifier: Apache-2.0
"""What a perception node publishes, apart from /diagnostics."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Float64
from visualization_msgs.msg import MarkerArray

from pc_perception.labels import LabelSet

from .conversions import LabelInfo, label_info_message, legend_message
from .qos import LATCHED, PublisherEventCallbacks, sensor_qos

if TYPE_CHECKING:
    from .perception_node import PerceptionNode

DEBUG_TOPICS = (
    "cyclic_time_ms",
    "pipeline_latency_ms",
    *(f"processing_time/{stage}_ms" for stage in ("preprocess", "inference", "postprocess", "total")),
)


class Outputs:
    """The lifecycle publishers of one configured node; they send only while it is active."""

    def __init__(
        self,
        node: PerceptionNode,
        topics: Mapping[str, type],
        reliable: Collection[str] = (),
        labels: bool = True,
    ) -> None:
        """Make the publishers: ``topics`` (name -> message type) at sensor QoS, and those of labels and latencies.

        Those also named in ``reliable`` are reliable: small ones, which subscribers of either kind then get. With
        the parameter of that name all are.
        Without ``labels`` there is no legend and no label_info.
        """
        self._node = node
        self._data = {
            topic: self._publisher(topic, kind, topic in reliable or node.values["reliable"])
            for topic, kind in topics.items()
        }
        latched = {"legend": MarkerArray, "label_info": LabelInfo} if labels else {}
        self._latched = {
            topic: node.create_lifecycle_publisher(kind, topic, LATCHED)
            for topic, kind in latched.items()
            if kind is not None
        }
        self._debug = {
            name: node.create_lifecycle_publisher(Float64, f"~/debug/{name}", sensor_qos(depth=5))
            for name in DEBUG_TOPICS
        }
        self._legend_shown: tuple[LabelSet, str] | None = None

    def _publisher(self, topic: str, kind: type, reliable: bool) -> Any:
        return self._node.create_lifecycle_publisher(
            kind,
            topic,
            QoSProfile(depth=5) if reliable else sensor_qos(depth=5),
            event_callbacks=PublisherEventCallbacks(incompatible_qos=partial(self._on_incompatible, topic)),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in (*self._data.values(), *self._latched.values(), *self._debug.values()):
            self._node.destroy_lifecycle_publisher(publisher)

    def wanted(self, *topics: str) -> bool:
        """True while somebody subscribes to one of ``topics``; without a name, to any that carries data."""
        return any(self._data[topic].get_subscription_count() > 0 for topic in topics or self._data)

    def send(self, topic: str, msg: Any) -> None:
        """Publish a message on one of the topics that carry data."""
        self._data[topic].publish(msg)

    def _on_incompatible(self, name: str, event: Any) -> None:
        topic, policy = self._data[name].topic_name, qos_policy_name_from_kind(event.last_policy_kind)
        self._node.get_logger().warning(
            f"a subscriber of '{topic}' asks for a QoS that does not fit ({policy}) and gets nothing: let it "
            f"ask for best effort, or set the parameter qos_overrides.{topic}.publisher.{policy.lower()}"
        )

    def send_label_info(self, label_set: LabelSet, threshold: float) -> None:
        """Say which id is which class, for those who join later too."""
        if "label_info" in self._latched:
            stamp = self._node.get_clock().now().to_msg()
            self._latched["label_info"].publish(label_info_message(label_set, threshold, stamp))

    def send_legend(self, label_set: LabelSet, frame: str, optical: bool = False) -> None:
        """Show class names and colours; sent again only when they or the frame have changed."""
        if self._legend_shown != (label_set, frame):
            self._latched["legend"].publish(legend_message(label_set, frame, optical))
            self._legend_shown = (label_set, frame)

    def send_debug(self, **milliseconds: float) -> None:
        """Publish latencies by the last part of their topic's name, to those who listen."""
        for name, publisher in self._debug.items():
            value = milliseconds.get(name.rsplit("/", 1)[-1].removesuffix("_ms"))
            if value is not None and publisher.get_subscription_count():
                publisher.publish(Float64(data=value))
