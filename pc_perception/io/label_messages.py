# SPDX-License-Identifier: Apache-2.0
"""What the labels of a cloud mean, as messages: vision_msgs/LabelInfo and a legend of text markers.

``new`` makes an empty message by its type's name: ``message_types.new_message`` for bags, a look-up of
the installed class for rclpy. Only leaf attributes are set, so both kinds of message are filled alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pc_perception.labels import UNLABELED, UNLABELED_COLOR, LabelSet

New = Callable[[str], Any]

LABEL_INFO = "vision_msgs/msg/LabelInfo"
LEGEND = "visualization_msgs/msg/MarkerArray"
_TEXT_VIEW_FACING = 9


def set_header(msg: Any, frame: str, stamp_ns: int) -> None:
    """Write frame and stamp into a message's header."""
    msg.header.frame_id = frame
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(int(stamp_ns), 10**9)


def label_info(label_set: LabelSet, frame: str, stamp_ns: int, new: New) -> Any:
    """Return the vision_msgs/LabelInfo that names every label, ``unlabeled`` (65535) included."""
    msg = new(LABEL_INFO)
    set_header(msg, frame, stamp_ns)
    classes = []
    for number, name in [*enumerate(label_set.classes), (UNLABELED, "unlabeled")]:
        entry = new("vision_msgs/msg/VisionClass")
        entry.class_id, entry.class_name = number, name
        classes.append(entry)
    msg.class_map = classes
    return msg


def legend(
    label_set: LabelSet,
    frame: str,
    stamp_ns: int,
    new: New,
    text_height: float = 0.8,
    corner: tuple[float, float, float] = (0.0, 0.0, 3.0),
) -> Any:
    """Return the MarkerArray with one line of coloured text a class, upwards from ``corner``.

    Args:
        text_height: metres; 0.8 for a street, 0.1 for a room.
        corner: where the lowest line stands, metres, in ``frame``.
    """
    optical = frame.endswith(("_optical", "_optical_frame"))
    entries = [*zip(label_set.classes, label_set.colors, strict=True), ("unlabeled", UNLABELED_COLOR)]
    markers = []
    for number, (name, color) in enumerate(entries):
        marker = new("visualization_msgs/msg/Marker")
        set_header(marker, frame, stamp_ns)
        marker.ns, marker.id, marker.type, marker.text = "legend", number, _TEXT_VIEW_FACING, name
        rise = 1.3 * text_height * (len(entries) - 1 - number)
        x, y, z = corner
        at = (x, y - rise, z) if optical else (x, y, z + rise)  # optical frames have y downwards
        marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = (float(v) for v in at)
        marker.pose.orientation.w = 1.0
        marker.scale.z = float(text_height)
        marker.color.r, marker.color.g, marker.color.b = (c / 255.0 for c in color)
        marker.color.a = 1.0
        markers.append(marker)
    array = new(LEGEND)
    array.markers = markers
    return array
