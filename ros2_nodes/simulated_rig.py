# SPDX-License-Identifier: Apache-2.0
"""Result files of the cameras that simulated_sensor_node has, as a calibration would have left them."""

from __future__ import annotations

from pathlib import Path

from calibration.camera import CameraModel
from calibration.result import Calibration, Extrinsics, Quality
from pc_perception.geometry import inverse, pose


def write_calibrations(
    folder: Path, n_cameras: int, image_width: int, lidar_height: float = 1.84
) -> dict[str, Path]:
    """Write one result file for each camera and return them by the cameras' names (their topics' parents)."""
    from pc_perception.simulation.camera import camera_ring

    written = {}
    T_base_lidar = pose((0.0, 0.0, lidar_height))
    for name, camera, T_base_camera in camera_ring(n_cameras, image_width, image_width * 9 // 16):
        topic = name.lower()
        mount = Extrinsics(
            inverse(T_base_camera) @ T_base_lidar, camera_frame=f"{topic}_optical_frame", lidar_frame="lidar"
        )
        model = CameraModel(camera.width, camera.height, camera.K)
        known = Quality("the simulator's own geometry", 0, 0)
        written[topic] = Calibration(model, mount, known, known).save(folder / f"{topic}.yaml")
    return written
