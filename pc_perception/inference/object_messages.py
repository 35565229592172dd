# SPDX-License-Identifier: Apache-2.0
"""Objects of a sweep as messages: vision_msgs/Detection3DArray, markers, and the cloud with its instances.

``new`` makes an empty message by its type's name, as in ``io.label_messages``: the node and the bag runner fill
theirs alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_to_quaternion
from pc_perception.io.label_messages import New, set_header
from pc_perception.labels import UNLABELED, UNLABELED_COLOR

from .object_results import ObjectsResult

DETECTIONS = "vision_msgs/msg/Detection3DArray"
MARKERS = "visualization_msgs/msg/MarkerArray"
_MARKER = "visualization_msgs/msg/Marker"
_CUBE, _TEXT_VIEW_FACING, _DELETEALL = 1, 9, 3


def detections(result: ObjectsResult, frame: str, stamp_ns: int, new: New) -> Any:
    """Return the Detection3DArray: of each object its box, its class with the score, and its track as ``id``."""
    array = new(DETECTIONS)
    set_header(array, frame, stamp_ns)
    found = []
    for row in range(len(result)):
        detection = new("vision_msgs/msg/Detection3D")
        hypothesis = new("vision_msgs/msg/ObjectHypothesisWithPose")
        set_header(detection, frame, stamp_ns)
        detection.id = str(result.track_ids[row])
        _place(detection.bbox.center, result.T_cloud_box[row])
        _place(hypothesis.pose.pose, result.T_cloud_box[row])
        _set(detection.bbox.size, result.sizes[row])
        hypothesis.hypothesis.class_id = result.name(row)
        hypothesis.hypothesis.score = float(result.scores[row].max())
        detection.results = [hypothesis]
        found.append(detection)
    array.detections = found
    return array


def object_markers(result: ObjectsResult, frame: str, stamp_ns: int, new: New) -> Any:
    """Return the MarkerArray: boxes in their classes' colours, faint until confirmed, and a line of text above each.

    The text is the class, the track's id and, from 0.5 m/s on, the speed.
    """
    clear = new(_MARKER)
    set_header(clear, frame, stamp_ns)
    # Without a namespace: with one, RViz deletes that one's markers alone. It refuses an array in which two markers,
    # even this one, share namespace and id.
    clear.ns, clear.id, clear.action = "", -1, _DELETEALL
    markers = [clear]
    for row in range(len(result)):
        label, confirmed = int(result.labels[row]), bool(result.confirmed[row])
        color = UNLABELED_COLOR if label == UNLABELED else result.label_set.colors[label]
        for kind, namespace in ((_CUBE, "boxes"), (_TEXT_VIEW_FACING, "names")):
            marker = new(_MARKER)
            set_header(marker, frame, stamp_ns)
            marker.ns, marker.id, marker.type = namespace, int(result.track_ids[row]) & 0x7FFFFFFF, kind
            _place(marker.pose, result.T_cloud_box[row])
            marker.color.r, marker.color.g, marker.color.b = (channel / 255.0 for channel in color)
            markers.append(marker)
        box, text = markers[-2:]
        box.color.a = 0.45 if confirmed else 0.15
        _set(box.scale, np.maximum(result.sizes[row], 0.05))  # RViz complains about flat boxes
        text.text, text.scale.z, text.color.a = caption(result, row), 0.6, 1.0
        T = result.T_cloud_box[row]
        _set(text.pose.position, T[:3, 3] + T[:3, 2] * (result.sizes[row][2] / 2 + 0.5))
    array = new(MARKERS)
    array.markers = markers
    return array


def caption(result: ObjectsResult, row: int) -> str:
    """Return an object's class, id and speed in a few words."""
    speed = float(np.linalg.norm(result.velocities[row]))
    moving = f" {speed:.1f} m/s" if speed > 0.5 else ""  # not so for NaN
    return f"{result.name(row)} {result.track_ids[row]}{moving}"


def instance_cloud(cloud: PointCloud, result: ObjectsResult) -> PointCloud:
    """Return the points with ``instance`` (uint32 track id, 0 none), ``label`` (uint16) and ``rgb`` by track."""
    labels = np.append(result.labels, np.uint16(UNLABELED))[result.index]
    instance = result.instance
    fields: Mapping[str, NDArray] = {"instance": instance, "label": labels, "rgb": _color_of(instance)}
    return PointCloud(cloud.xyz, fields, cloud.frame, cloud.stamp_ns, cloud.grid_shape)


def _color_of(instance: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """(N, 3) uint8: neighbouring ids look different (hues a golden angle apart), 0 is grey."""
    hue = (instance * 0.618034) % 1.0
    phase = (hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1.0 * 6
    rgb = 80 + 175 * np.clip(np.abs(phase - 3) - 1, 0, 1)
    return np.where(instance[:, None] > 0, rgb, UNLABELED_COLOR[0]).astype(np.uint8)


def _place(pose: Any, T: NDArray) -> None:
    _set(pose.position, T[:3, 3])
    q = rotation_to_quaternion(T[:3, :3])
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = (float(v) for v in q)


def _set(vector: Any, values: NDArray) -> None:
    vector.x, vector.y, vector.z = (float(v) for v in values)
