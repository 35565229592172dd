# SPDX-License-Identifier: Apache-2.0
"""A short simulated drive with two small cameras as nuScenes-format data, and what the simulator knows of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from pc_perception.simulation.camera import PinholeCamera, look
from pc_perception.simulation.drive import DriveFrame, simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.writers.nuscenes import write_nuscenes


@cache
def frames() -> tuple[DriveFrame, ...]:
    camera = PinholeCamera.from_fov(320, 180, 80.0)
    poses = {
        "CAM_FRONT": look(np.array([0.5, 0.1, 1.7]), 0.0, -0.1),
        "CAM_BACK": look(np.array([-0.5, 0, 1.7]), 3.0, -0.1),
    }
    cameras = [(name, camera, T) for name, T in poses.items()]
    lidar = SpinningLidar(n_beams=32, n_azimuths=500)
    return tuple(simulate_drive(5, 3, lidar=lidar, cameras=cameras, speed=6.0))


def write(root: Path) -> Path:
    return write_nuscenes(root, [frames()], keyframe_every=1)
