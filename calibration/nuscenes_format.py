# SPDX-License-Identifier: Apache-2.0
"""Frames of a nuScenes-format folder: each key image with its sweep, carried to the image's time by the ego poses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.camera import CameraModel
from calibration.frames import Frame, Recording, read_image
from pc_perception.geometry import inverse, pose, quaternion_to_rotation, transform
from pc_perception.io.files import read_cloud


def from_nuscenes(root: str | Path, camera: str = "CAM_FRONT", lidar: str = "LIDAR_TOP") -> Recording:
    """Read the key frames of one camera and one LiDAR; the tables are plain JSON, no devkit is needed.

    Returns:
        Frames, the camera's intrinsics (its pictures are undistorted) and T_camera_lidar of the tables.

    Raises:
        FileNotFoundError, ValueError: no tables, or no such sensor.
    """
    folders = sorted(Path(root).glob("v1.0-*"))
    if not folders:
        raise FileNotFoundError(f"'{root}' has no folder v1.0-* with nuScenes tables")
    table = {
        n: _table(folders[0] / f"{n}.json")
        for n in ("sensor", "calibrated_sensor", "ego_pose", "sample_data")
    }
    mine: dict[str, dict[str, Any]] = {camera: {}, lidar: {}}
    for row in table["sample_data"].values():
        mount = table["calibrated_sensor"][row["calibrated_sensor_token"]]
        channel = table["sensor"][mount["sensor_token"]]["channel"]
        if row["is_key_frame"] and channel in mine:
            mine[channel][row["sample_token"]] = (row, mount)
    if not mine[camera] or not mine[lidar]:
        channels = sorted(s["channel"] for s in table["sensor"].values())
        raise ValueError(
            f"there is no {camera} with {lidar} in '{root}'; the sensors are {', '.join(channels)}"
        )
    frames, model, T_camera_lidar = [], None, None
    for token in sorted(set(mine[camera]) & set(mine[lidar]), key=lambda t: mine[camera][t][0]["timestamp"]):
        (picture, camera_mount), (sweep, lidar_mount) = mine[camera][token], mine[lidar][token]
        image = read_image(Path(root) / picture["filename"])
        T_ego_lidar = _pose(lidar_mount)
        T_then = _pose(table["ego_pose"][sweep["ego_pose_token"]]) @ T_ego_lidar
        T_now = _pose(table["ego_pose"][picture["ego_pose_token"]]) @ T_ego_lidar
        cloud = read_cloud(Path(root) / sweep["filename"])
        cloud = replace(cloud, xyz=transform(inverse(T_now) @ T_then, cloud.xyz), frame=lidar)
        frames.append(Frame(Path(picture["filename"]).stem, image, cloud, camera))
        model = CameraModel(image.shape[1], image.shape[0], np.array(camera_mount["camera_intrinsic"]))
        T_camera_lidar = inverse(_pose(camera_mount)) @ T_ego_lidar
    return Recording(frames, model, T_camera_lidar)


def _table(path: Path) -> dict[str, Any]:
    return {row["token"]: row for row in json.loads(path.read_text(encoding="utf-8"))}


def _pose(row: dict[str, Any]) -> NDArray:
    w, x, y, z = row["rotation"]
    return pose(row["translation"], quaternion_to_rotation(x, y, z, w))
