# SPDX-License-Identifier: Apache-2.0
"""Objects of a real drive in nuScenes format with its annotated boxes, as ``instances_measure`` wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.instances_measure import Truth
from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse, pose, quaternion_to_rotation
from pc_perception.io.files import read_cloud

CLASSES = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.construction": "truck",
    "vehicle.trailer": "truck",
    "vehicle.bus": "truck",
    "vehicle.motorcycle": "two_wheeler",
    "vehicle.bicycle": "two_wheeler",
    "human.pedestrian": "pedestrian",
    "movable_object.trafficcone": "cone",
}
"""Beginnings of nuScenes' categories and the classes of ``objects16``."""


def keyframes(root: Path) -> Iterator[tuple[PointCloud, NDArray, list[Truth]]]:
    """Yield sweep, T_world_lidar and annotated objects of every keyframe.

    Raises:
        ImportError: nuscenes-devkit is not installed.
    """
    from nuscenes import NuScenes

    tables = NuScenes(next(root.glob("v1.0-*")).name, str(root), verbose=False)
    for sample in sorted(tables.sample, key=lambda s: s["timestamp"]):
        data = tables.get("sample_data", sample["data"]["LIDAR_TOP"])
        mount = tables.get("calibrated_sensor", data["calibrated_sensor_token"])
        T_world_lidar = _placed(tables.get("ego_pose", data["ego_pose_token"])) @ _placed(mount)
        cloud = read_cloud(root / data["filename"], 5)
        cloud = replace(cloud, frame="lidar", stamp_ns=data["timestamp"] * 1000)
        rows = (tables.get("sample_annotation", token) for token in sample["anns"])
        truths = [_truth(tables, row, inverse(T_world_lidar)) for row in rows]
        yield cloud, T_world_lidar, [t for t in truths if t is not None]


def _truth(tables: Any, row: dict[str, Any], T_lidar_world: NDArray) -> Truth | None:
    category = row["category_name"]
    name = next((ours for theirs, ours in CLASSES.items() if category.startswith(theirs)), None)
    if name is None:
        return None
    T = T_lidar_world @ _placed(row)
    width, length, height = row["size"]
    velocity = T_lidar_world[:3, :3] @ tables.box_velocity(row["token"])
    return Truth(
        row["instance_token"],
        name,
        T[:3, 3],
        np.array([length, width, height]),
        float(np.arctan2(T[1, 0], T[0, 0])),
        velocity if np.isfinite(velocity).all() else None,
        None,
        row["num_lidar_pts"],
    )


def _placed(row: dict[str, Any]) -> NDArray[np.float64]:
    w, x, y, z = row["rotation"]
    return pose(row["translation"], quaternion_to_rotation(x, y, z, w))
