# SPDX-License-Identifier: Apache-2.0
"""Quality of service of our topics, and where rclpy keeps its events."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

__all__ = ["LATCHED", "PublisherEventCallbacks", "SubscriptionEventCallbacks", "sensor_qos"]

LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


RELIABLE_DEPTH = 10
"""Messages that a reliable queue holds: what was sent again comes late, with all that has come since."""


def sensor_qos(depth: int, reliable: bool = False) -> QoSProfile:
    """Return best effort with a short queue, as sensors publish, or reliable with a longer one.

    A fresh object, since rclpy edits it.
    """
    if reliable:
        return QoSProfile(depth=max(depth, RELIABLE_DEPTH), reliability=ReliabilityPolicy.RELIABLE)
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
