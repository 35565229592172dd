# SPDX-License-Identifier: Apache-2.0
"""A LiDAR and a camera before a wall with a panel: messages, mount and result file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from calibration.camera import CameraModel
from calibration.result import Calibration, Extrinsics, Quality
from pc_perception.geometry import R_BODY_OPTICAL, inverse, pose
from tests.core.test_fusion import SHAPE, K, panel_before_wall, picture_of_panel
from tests.nodes.images import STAMP_NS, info_message

OPTICAL = "front_optical_frame"
T_LIDAR_CAMERA = pose((0.0, 0.6, -0.1), R_BODY_OPTICAL)
T_CAMERA_LIDAR = inverse(T_LIDAR_CAMERA)
RED = (255, 0, 0)


def cloud_message(frame: str = "lidar", stamp_ns: int = STAMP_NS) -> Any:
    from dataclasses import replace

    from pc_perception.io.pointcloud2 import encode_cloud
    from ros2_nodes.conversions import cloud_message as made

    cloud = replace(panel_before_wall()[0], frame=frame, stamp_ns=stamp_ns)
    return made(encode_cloud(cloud))


def picture_messages(stamp_ns: int = STAMP_NS) -> tuple[Any, Any]:
    """Picture and label image: the panel red and class 1, all else blue and class 0."""
    from sensor_msgs.msg import Image

    from pc_perception.io.image_messages import fill_image

    image, labels = picture_of_panel(T_CAMERA_LIDAR)
    return (
        fill_image(Image(), image, OPTICAL, stamp_ns),
        fill_image(Image(), labels, OPTICAL, stamp_ns, "mono16"),
    )


def camera_info(matrix: np.ndarray = K) -> Any:
    return info_message(matrix, SHAPE, frame=OPTICAL)


def result_file(
    path: Path, T: np.ndarray = T_CAMERA_LIDAR, created: str | None = None, spread_deg: float = 0.05
) -> Path:
    model = CameraModel(SHAPE[1], SHAPE[0], K)
    quality = Quality(
        "made by hand", 10, 10, held_out_reprojection_px=0.3, spread_deg=spread_deg, spread_mm=4.0
    )
    mount = Extrinsics(T, camera_frame=OPTICAL, lidar_frame="lidar")
    given = {} if created is None else {"created": created}
    return Calibration(model, mount, quality, quality, **given).save(path)
