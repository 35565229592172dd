# SPDX-License-Identifier: Apache-2.0
"""Messages of a small RGB-D camera in front of a wall, and of a rig that sees a panel before a wall."""

from __future__ import annotations

from typing import Any

import numpy as np

K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
SHAPE = (48, 64)
FRAME = "camera_color_optical_frame"
STAMP_NS = 1_700_000_000_000_000_000


def depth_message(metres: np.ndarray | None = None, stamp_ns: int = STAMP_NS, frame: str = FRAME) -> Any:
    """16UC1 of a wall that recedes from 1 to 3 m, or 32FC1 of ``metres``."""
    from sensor_msgs.msg import Image

    from pc_perception.io.image_messages import fill_image

    if metres is None:
        metres = np.tile(np.linspace(1000, 3000, SHAPE[1]), (SHAPE[0], 1)).astype(np.uint16)
    return fill_image(Image(), metres, frame, stamp_ns)


def color_message(
    shape: tuple[int, int] = SHAPE, stamp_ns: int = STAMP_NS, frame: str = FRAME, color: tuple = (9, 99, 200)
) -> Any:
    from sensor_msgs.msg import Image

    from pc_perception.io.image_messages import fill_image

    return fill_image(Image(), np.full((*shape, 3), color, np.uint8), frame, stamp_ns)


def info_message(
    matrix: np.ndarray = K, shape: tuple[int, int] = SHAPE, stamp_ns: int = STAMP_NS, frame: str = FRAME
) -> Any:
    from sensor_msgs.msg import CameraInfo

    from pc_perception.io.image_messages import fill_camera_info

    return fill_camera_info(CameraInfo(), matrix, shape[1], shape[0], frame, stamp_ns)


def now_ns(node: Any) -> int:
    return node.get_clock().now().nanoseconds
