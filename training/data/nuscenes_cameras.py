# SPDX-License-Identifier: Apache-2.0
"""The cameras of nuScenes keyframes: lidar -> ego at its stamp -> world -> ego at the picture's stamp -> camera."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.geometry import inverse, pose, quaternion_to_rotation

from .cameras import MAX_APART_S, Camera


def read_cameras(tables: Any, sample: Mapping[str, Any], root: Path, cache: Path) -> tuple[Camera, ...]:
    """Return all cameras of a keyframe, in the order of their names.

    Args:
        tables: ``nuscenes.NuScenes``.
        sample: row of the table ``sample``.
        root: folder of the data set.
        cache: see ``Camera``.

    Raises:
        ValueError: a camera of the data set or its calibration is missing, or a stamp is too far from the
            sweep's; the message names the sample.
    """
    token = sample["token"]
    channels = sorted(row["channel"] for row in tables.sensor if row["modality"] == "camera")
    if not channels:
        raise ValueError(f"sample {token}: the data set has no camera")
    lidar = _data(tables, sample, "LIDAR_TOP")
    T_world_lidar = placement(tables, lidar, "ego_pose") @ placement(tables, lidar, "calibrated_sensor")
    return tuple(_camera(tables, sample, c, lidar["timestamp"], T_world_lidar, root, cache) for c in channels)


def _camera(
    tables: Any,
    sample: Mapping[str, Any],
    channel: str,
    stamp_us: int,
    T_world_lidar: NDArray,
    root: Path,
    cache: Path,
) -> Camera:
    token, row = sample["token"], _data(tables, sample, channel)
    apart_s = abs(row["timestamp"] - stamp_us) / 1e6
    if apart_s > MAX_APART_S:
        raise ValueError(
            f"sample {token}: {channel} was taken {apart_s:.2f} s from the sweep, at most {MAX_APART_S} s are allowed"
        )
    T_world_camera = placement(tables, row, "ego_pose") @ placement(tables, row, "calibrated_sensor")
    K = np.asarray(tables.get("calibrated_sensor", row["calibrated_sensor_token"])["camera_intrinsic"], float)
    if K.shape != (3, 3) or not np.isfinite(K).all() or not K[0, 0] > 0:
        raise ValueError(f"sample {token}: {channel} has no intrinsics; calibrate it or leave the sample out")
    return Camera(
        channel=channel,
        file=root / row["filename"],
        size=(int(row["width"]), int(row["height"])),
        K=K,
        T_camera_lidar=inverse(T_world_camera) @ T_world_lidar,
        sample=token,
        cache=cache,
    )


def _data(tables: Any, sample: Mapping[str, Any], channel: str) -> Mapping[str, Any]:
    if channel not in sample["data"]:
        raise ValueError(f"sample {sample['token']}: {channel} is missing, which the data set has elsewhere")
    return tables.get("sample_data", sample["data"][channel])


def placement(tables: Any, row: Mapping[str, Any], table: str) -> NDArray:
    """Return T_ego_sensor (``calibrated_sensor``) or T_world_ego (``ego_pose``) of a reading."""
    try:
        found = tables.get(table, row[f"{table}_token"])
        w, x, y, z = found["rotation"]
        return pose(found["translation"], quaternion_to_rotation(x, y, z, w))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"sample {row['sample_token']}: the {table} of '{row['filename']}' cannot be used ({error})"
        ) from None
