# SPDX-License-Identifier: Apache-2.0
"""ROS messages from and to our types, beyond what ``pc_perception.io.pointcloud2`` does without ROS."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from visualization_msgs.msg import Marker, MarkerArray

from pc_perception.geometry import pose, quaternion_to_rotation, rotation_to_quaternion
from pc_perception.io import livox
from pc_perception.io.pointcloud2 import CloudMessage, fill_message
from pc_perception.labels import LabelSet

try:
    from vision_msgs.msg import Detection3DArray, LabelInfo, VisionClass
except ImportError:  # optional: without it there are no `label_info` and no `objects`
    Detection3DArray = LabelInfo = VisionClass = None


@cache
def message_class(name: str) -> type:
    """Return the class of the type ``package/msg/Kind``; ImportError or AttributeError where it is not installed."""
    package, _, kind = name.split("/")
    return getattr(import_module(f"{package}.msg"), kind)


def missing_type(name: str) -> str:
    """Say what to do where messages of a type cannot be taken here; nothing where they can."""
    from rclpy.type_support import check_for_type_support

    try:
        check_for_type_support(message_class(name))
    except Exception:  # also what a half-sourced workspace raises, each distribution in its own way
        package = name.partition("/")[0]
        told = f"its messages are {name}: source the workspace of {package}"
        return f"{told}, or set the driver's xfer_format to 0" if name in livox.TYPES else told
    return ""


def type_name(kind: type) -> str:
    """Return ``package/msg/Kind`` of a message class; the reverse of ``message_class``."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def new_message(name: str) -> Any:
    """Return an empty message of the type ``package/msg/Kind``, which must be installed."""
    return message_class(name)()


def labelled_message(values: CloudMessage, source: PointCloud2, frame: str) -> PointCloud2:
    """Return the message of labelled points with the stamp and the size of the cloud that they came from."""
    msg = fill_message(PointCloud2(), values, PointField)
    msg.header.stamp, msg.header.frame_id = source.header.stamp, frame
    msg.height, msg.width = source.height, source.width
    msg.row_step = msg.point_step * msg.width
    return msg


def cloud_message(values: CloudMessage) -> PointCloud2:
    """Return ``values`` as a message, header included."""
    msg = fill_message(PointCloud2(), values, PointField)
    msg.header.stamp.sec, msg.header.stamp.nanosec = values.header.stamp
    msg.header.frame_id = values.header.frame_id
    return msg


def matrix(transform: TransformStamped) -> NDArray[np.float64]:
    """Return the (4, 4) matrix that maps the child frame's coordinates to the header's frame."""
    t, q = transform.transform.translation, transform.transform.rotation
    return pose((t.x, t.y, t.z), quaternion_to_rotation(q.x, q.y, q.z, q.w))


def transform_message(T_parent_child: NDArray, parent: str, child: str, stamp: Any) -> TransformStamped:
    """Return the message of a rigid (4, 4) transform; the reverse of ``matrix``."""
    msg = TransformStamped(child_frame_id=child)
    msg.header.stamp, msg.header.frame_id = stamp, parent
    for axis, value in zip("xyz", T_parent_child[:3, 3], strict=True):
        setattr(msg.transform.translation, axis, float(value))
    for axis, value in zip("xyzw", rotation_to_quaternion(T_parent_child[:3, :3]), strict=True):
        setattr(msg.transform.rotation, axis, float(value))
    return msg


def label_info_message(label_set: LabelSet, threshold: float, stamp: Any) -> Any:
    """Return vision_msgs/LabelInfo: which id is which class."""
    msg = LabelInfo(threshold=float(threshold))
    msg.header.stamp = stamp
    msg.class_map = [VisionClass(class_id=i, class_name=n) for i, n in enumerate(label_set.classes)]
    return msg


def legend_message(label_set: LabelSet, frame: str, optical: bool = False) -> MarkerArray:
    """Return one line of text per class, in its colour, as a column above the origin of ``frame``.

    In a camera's ``optical`` frame, which looks along z with y down, the column stands at the left of the view
    and is as small as a room needs it.
    """
    # RViz refuses an array in which two markers, even this one, share namespace and id.
    markers = [Marker(action=Marker.DELETEALL, ns="legend", id=-1)]
    markers[0].header.frame_id = frame
    for i, (name, color) in enumerate(zip(label_set.classes, label_set.colors, strict=True)):
        marker = Marker(ns="legend", id=i, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD, text=name)
        # Stamp zero means "the newest transform", and frame_locked keeps the text with the sensor.
        marker.header.frame_id, marker.frame_locked = frame, True
        marker.pose.orientation.w = 1.0
        line = len(label_set) - 1 - i
        if optical:
            marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = -1.4, -0.11 * line, 1.5
            marker.scale.z = 0.1
        else:
            marker.pose.position.z, marker.scale.z = 4.0 + 0.9 * line, 0.8
        marker.color.a = 1.0
        marker.color.r, marker.color.g, marker.color.b = (channel / 255.0 for channel in color)
        markers.append(marker)
    return MarkerArray(markers=markers)


def status_message(
    name: str, hardware_id: str, level: int, text: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """Return one diagnostic status; ``level`` is 0 ok, 1 warning, 2 error."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(
        level=bytes([level]), name=name, hardware_id=hardware_id, message=text, values=pairs
    )
