# SPDX-License-Identifier: Apache-2.0
"""Clouds with the 3D boxes of their objects, out of nuScenes' annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud

from .nuscenes_cameras import placement


@dataclass(frozen=True)
class BoxCloud(PointCloud):
    """A cloud and its boxes.

    Attributes:
        boxes: (K, 9) float32 in the cloud's frame, as ``DetectionResult.boxes``; velocity NaN where not known.
        box_labels: (K,) uint16 ids of the label set.
        sample: token of the sample, for results.
        T_world_cloud: (4, 4), for results.
    """

    boxes: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 9), np.float32))
    box_labels: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    sample: str = ""
    T_world_cloud: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))


def with_boxes(cloud: PointCloud, tables: Any, token: str, classes: Sequence[str]) -> BoxCloud:
    """Return the cloud with the boxes that show at least one of its points.

    Args:
        cloud: of LIDAR_TOP.
        tables: ``nuscenes.NuScenes``.
        token: of its sample_data.
        classes: of the detection challenge; other categories are left out.
    """
    from nuscenes.eval.detection.utils import category_to_detection_name

    data = tables.get("sample_data", token)
    T_world_cloud = placement(tables, data, "ego_pose") @ placement(tables, data, "calibrated_sensor")
    boxes, labels = [], []
    for box in tables.get_sample_data(token)[1]:
        name = category_to_detection_name(box.name)
        if name not in classes or not tables.get("sample_annotation", box.token)["num_lidar_pts"]:
            continue
        width, length, height = box.wlh
        ahead = box.rotation_matrix[:, 0]
        velocity = T_world_cloud[:3, :3].T @ tables.box_velocity(box.token)
        boxes.append([*box.center, length, width, height, np.arctan2(ahead[1], ahead[0]), *velocity[:2]])
        labels.append(classes.index(name))
    return BoxCloud(
        cloud.xyz,
        cloud.fields,
        cloud.frame,
        cloud.stamp_ns,
        boxes=np.array(boxes, np.float32).reshape(-1, 9),
        box_labels=np.array(labels, np.uint16),
        sample=data["sample_token"],
        T_world_cloud=T_world_cloud,
    )
