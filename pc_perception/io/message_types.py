# SPDX-License-Identifier: Apache-2.0
"""ROS 2 message types without ROS: rosbags' Jazzy store, with types of vision_msgs and of Livox added."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from pc_perception.io import livox
from pc_perception.io.message_encoding import CloudMessage, fill_message

CLOUD = "sensor_msgs/msg/PointCloud2"
CLOUD_TYPES = (CLOUD, *livox.TYPES)
"""Messages that are read as clouds."""
VISION_MSGS = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id\n"
    ),
    "vision_msgs/msg/Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n",
}
"""Definitions of vision_msgs 4 that rosbags does not bring along."""


@cache
def typestore() -> Any:
    """Return rosbags' type store for Jazzy with ``VISION_MSGS`` and Livox's; shared, so add nothing to it.

    Raises:
        ImportError: rosbags is not installed.
    """
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError as error:
        raise ImportError("bags need rosbags: pip install rosbags") from error
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in {**VISION_MSGS, **livox.DEFINITIONS}.items():
        store.register(get_types_from_msg(definition, name))
    return store


def new_message(msgtype: str) -> Any:
    """Return a message of rosbags' store with every value zero or empty, as ROS itself would make it.

    Raises:
        KeyError: the type is not known.
    """
    store = typestore()
    values = {name: _default(store, kind) for name, kind in store.fielddefs[msgtype][1]}
    return store.types[msgtype](**values)


def cloud_message(values: CloudMessage) -> Any:
    """Return the PointCloud2 object of ``values``, header included; the data are shared."""
    msg = fill_message(new_message(CLOUD), values, typestore().types["sensor_msgs/msg/PointField"])
    msg.data = np.frombuffer(values.data, np.uint8)
    msg.header.frame_id = values.header.frame_id
    msg.header.stamp.sec, msg.header.stamp.nanosec = values.header.stamp
    return msg


def to_cdr(msg: Any, msgtype: str) -> bytes:
    """Return the ROS 2 bytes of a message object, also of a ROS 1 one (whose extra fields are left out).

    Raises:
        KeyError: the type is not known.
        AttributeError: the message lacks a field.
    """
    return bytes(typestore().serialize_cdr(_adopt(msg, msgtype), msgtype))


def _adopt(msg: Any, msgtype: str) -> Any:
    """Return ``msg`` rebuilt with exactly the fields that ``msgtype`` has in ROS 2."""
    from rosbags.interfaces import Nodetype

    store, values = typestore(), {}
    for name, (node, detail) in store.fielddefs[msgtype][1]:
        value = getattr(msg, name) if hasattr(msg, name) else getattr(msg, name.upper())
        if node == Nodetype.NAME:
            value = _adopt(value, detail)
        elif node in (Nodetype.ARRAY, Nodetype.SEQUENCE) and detail[0][0] == Nodetype.NAME:
            value = [_adopt(item, detail[0][1]) for item in value]
        values[name] = value
    return store.types[msgtype](**values)


def _default(store: Any, kind: Any) -> Any:
    from rosbags.interfaces import Nodetype

    node, detail = kind
    if node == Nodetype.NAME:
        return new_message(detail)
    if node == Nodetype.BASE:
        return {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}.get(detail[0], 0)
    inner, length = detail
    n_values = length if node == Nodetype.ARRAY else 0
    if inner[0] == Nodetype.BASE and inner[1][0] != "string":
        names = {"byte": "uint8", "char": "uint8"}
        return np.zeros(n_values, names.get(inner[1][0], inner[1][0]))
    return [_default(store, inner) for _ in range(n_values)]
