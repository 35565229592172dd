# SPDX-License-Identifier: Apache-2.0
"""Made-up inputs that a live process is warmed up on. Needs neither torch nor ROS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.io.image_messages import fill_camera_info, fill_image

N_POINTS = 20_000


class PracticeFrame(NamedTuple):
    """Messages of one moment of an RGB-D camera."""

    depth: Any
    info: Any
    rgb: Any


def practice_cloud(reach_m: float = 40.0) -> PointCloud:
    """Return ground and clutter around a LiDAR as far as ``reach_m``: enough to touch every kernel."""
    rng = np.random.default_rng(0)
    distance, angle = rng.uniform(0.05, 1, N_POINTS), rng.uniform(0, 2 * np.pi, N_POINTS)
    z = np.where(rng.random(N_POINTS) < 0.5, -0.045, rng.uniform(-0.045, 0.075, N_POINTS))
    xyz = reach_m * np.stack([distance * np.cos(angle), distance * np.sin(angle), z], 1)
    xyz[::100] = np.nan
    intensity = rng.uniform(0, 255, N_POINTS).astype(np.float32)
    return PointCloud(xyz.astype(np.float32), {"intensity": intensity}, frame="lidar")


def practice_frame(new_message: Callable[[str], Any]) -> PracticeFrame:
    """Return what a camera a metre above the floor sees before a wall; ``new_message`` makes messages by type."""
    height, width, focal_px, frame = 120, 160, 140.0, "camera_optical_frame"
    below = np.maximum(np.arange(height) - height / 2, 1.0)[:, None]
    metres = np.repeat(np.minimum(focal_px / below, 4.0), width, 1).astype(np.float32)
    metres[::10, ::10] = 0
    color = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    K = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])
    info = fill_camera_info(new_message("sensor_msgs/msg/CameraInfo"), K, width, height, frame, 0)
    images = (fill_image(new_message("sensor_msgs/msg/Image"), image, frame, 0) for image in (metres, color))
    depth, rgb = images
    return PracticeFrame(depth, info, rgb)
