# SPDX-License-Identifier: Apache-2.0
"""Arrays into sensor_msgs/Image and CameraInfo, for rclpy, rosbags and DDS messages alike."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.io.label_messages import set_header

_ENCODINGS = {(3, "uint8"): "rgb8", (2, "uint8"): "mono8", (2, "uint16"): "16UC1", (2, "float32"): "32FC1"}


def fill_image(msg: Any, image: NDArray, frame: str, stamp_ns: int, encoding: str = "") -> Any:
    """Write an image into an empty sensor_msgs/Image and return it.

    Args:
        image: (H, W, 3) uint8 red green blue, (H, W) uint8, (H, W) uint16 (depth in millimetres, or labels), or
            (H, W) float32 (depth in metres).
        encoding: of the message; empty: rgb8, mono8, 16UC1 or 32FC1 by the array.

    Raises:
        ValueError: no encoding fits the array.
    """
    encoding = encoding or _ENCODINGS.get((image.ndim, image.dtype.name), "")
    if not encoding:
        raise ValueError(f"an image {image.dtype} {image.shape} has no encoding here: {_ENCODINGS}")
    set_header(msg, frame, stamp_ns)
    msg.height, msg.width, msg.encoding = image.shape[0], image.shape[1], encoding
    msg.step = image.shape[1] * (image.shape[2] if image.ndim == 3 else 1) * image.itemsize
    values = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
    if isinstance(msg.data, array.array):  # rclpy takes nothing else without checking it byte by byte
        msg.data = array.array("B", values.tobytes())
    else:
        msg.data = values
    return msg


def fill_camera_info(
    msg: Any, K: NDArray, width: int, height: int, frame: str, stamp_ns: int, model: str = "plumb_bob",
    D: NDArray | None = None, P: NDArray | None = None,
) -> Any:  # fmt: skip
    """Write a camera into an empty sensor_msgs/CameraInfo and return it.

    Args:
        K: (3, 3) intrinsics, pixels.
        model, D: distortion; None is none.
        P: (3, 4) projection of the rectified image; None is K.
    """
    set_header(msg, frame, stamp_ns)
    msg.height, msg.width, msg.distortion_model = int(height), int(width), model
    K = np.asarray(K, np.float64)
    distortion = np.zeros(5) if D is None else np.asarray(D, np.float64)
    msg.d = array.array("d", distortion) if isinstance(msg.d, array.array) else distortion
    msg.k, msg.r = K.reshape(9), np.eye(3).reshape(9)
    msg.p = np.asarray(np.hstack([K, np.zeros((3, 1))]) if P is None else P, float).reshape(12)
    return msg
