# SPDX-License-Identifier: Apache-2.0
"""Depth images with their camera and colour images to organised clouds (REP-118 encodings)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import unproject
from pc_perception.io.compressed_depth import METRES, MILLIMETRES, opened
from pc_perception.io.pointcloud2 import header_of
from pc_perception.labels import UNLABELED

_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
_WIDTHS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
# As sensors deliver them; OpenCV names a mosaic by its second row's second and third pixels.
_BAYER = {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}
_BY_OPENCV = {f"bayer_{p}{bits}": f"COLOR_Bayer{code}2RGB" for p, code in _BAYER.items() for bits in (8, 16)}
_BY_OPENCV |= dict.fromkeys(("yuv422", "uyvy"), "COLOR_YUV2RGB_UYVY")
_BY_OPENCV |= dict.fromkeys(("yuv422_yuy2", "yuyv"), "COLOR_YUV2RGB_YUYV")
_NEAREST_M, _FARTHEST_M = 0.02, 100.0
_SLOP_NS = 40_000_000  # more than a frame at 30 Hz is another picture


def _pixels(msg: Any, dtype: np.dtype, channels: int) -> NDArray:
    """Return (height, width, channels) of an uncompressed image message, row padding left out."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    data = np.frombuffer(msg.data, np.uint8)
    row = width * channels * dtype.itemsize
    if height <= 0 or width <= 0 or step < row or len(data) < (height - 1) * step + row:
        raise ValueError(
            f"the image says {height} x {width} '{msg.encoding}' with {step} bytes a row, it has {len(data)}"
        )
    strides = (step, channels * dtype.itemsize, dtype.itemsize)
    return np.ndarray((height, width, channels), dtype, data, 0, strides)


def image_size(msg: Any) -> tuple[int, int]:
    """Return the height and width of an Image or CompressedImage of colours, or of what a CameraInfo is of.

    Raises:
        ValueError: the picture is damaged.
    """
    if hasattr(msg, "height"):
        return int(msg.height), int(msg.width)
    with opened(bytes(msg.data)) as picture:
        return picture.height, picture.width


def depth_image(msg: Any) -> NDArray[np.float32]:
    """Return (height, width) float32 metres of a sensor_msgs/Image; no depth is zero or NaN.

    Raises:
        ValueError: the encoding is not one of depth, or the data is too short.
    """
    order = ">" if msg.is_bigendian else "<"
    if msg.encoding in MILLIMETRES:
        return _pixels(msg, np.dtype(order + "u2"), 1)[..., 0].astype(np.float32) * np.float32(0.001)
    if msg.encoding == METRES:
        return _pixels(msg, np.dtype(order + "f4"), 1)[..., 0].astype(np.float32)
    raise ValueError(
        f"the image is encoded as '{msg.encoding}'; depth is {', '.join((*MILLIMETRES, METRES))}"
    )


def color_image(msg: Any) -> NDArray[np.uint8]:
    """Return (height, width, 3) uint8 red, green, blue of an Image or CompressedImage.

    Raises:
        ValueError: the encoding is not known or the picture is damaged.
    """
    if not hasattr(msg, "encoding"):
        with opened(bytes(msg.data)) as picture:
            return np.asarray(picture.convert("RGB"))
    if msg.encoding in _BY_OPENCV:
        return _converted(msg)
    if msg.encoding not in _CHANNELS:
        known = ", ".join((*_CHANNELS, *_BY_OPENCV))
        raise ValueError(f"the image is encoded as '{msg.encoding}'; colour is {known}")
    pixels = _pixels(msg, np.dtype(np.uint8), _WIDTHS[msg.encoding])
    return np.ascontiguousarray(pixels[..., _CHANNELS[msg.encoding]])


def _converted(msg: Any) -> NDArray[np.uint8]:
    """Return the colours of a Bayer mosaic or of YUV 4:2:2, as cv_bridge does."""
    try:
        import cv2
    except ImportError as error:
        raise ValueError(
            f"images encoded as '{msg.encoding}' need OpenCV: pip install 'pc_perception[calibration]'"
        ) from error
    if msg.encoding.endswith("16"):
        wide = np.dtype(">u2" if msg.is_bigendian else "<u2")
        pixels = (_pixels(msg, wide, 1)[..., 0] >> 8).astype(np.uint8)
    else:
        pixels = np.ascontiguousarray(_pixels(msg, np.dtype(np.uint8), 1 if "bayer" in msg.encoding else 2))
    try:
        return np.asarray(cv2.cvtColor(pixels, getattr(cv2, _BY_OPENCV[msg.encoding])), np.uint8)
    except cv2.error as error:
        raise ValueError(
            f"{msg.height} x {msg.width} pixels cannot be '{msg.encoding}': {str(error).strip()}"
        ) from error


def label_image(msg: Any) -> NDArray[np.uint16]:
    """Return (height, width) uint16 labels of a sensor_msgs/Image, mono16, 16UC1, mono8 or 8UC1 (255: unlabeled).

    Raises:
        ValueError: the encoding is not one of labels, or the data is too short.
    """
    if msg.encoding in ("mono16", "16UC1"):
        order = ">" if msg.is_bigendian else "<"
        return _pixels(msg, np.dtype(order + "u2"), 1)[..., 0].astype(np.uint16)
    if msg.encoding in ("mono8", "8UC1"):
        small = _pixels(msg, np.dtype(np.uint8), 1)[..., 0]
        return np.where(small == 255, np.uint16(UNLABELED), small.astype(np.uint16))
    raise ValueError(f"the image is encoded as '{msg.encoding}'; labels are mono16, 16UC1, mono8 or 8UC1")


def intrinsics(info: Any) -> NDArray[np.float64]:
    """Return the (3, 3) matrix of the rectified images that a sensor_msgs/CameraInfo of ROS 1 or 2 belongs to.

    It is that of P, which depth_image_proc takes as well; K, of the raw image, only where P is zeros.

    Raises:
        ValueError: it has none (zeros, NaN).
    """
    P = np.asarray(info.p if hasattr(info, "p") else info.P, np.float64).reshape(3, 4)
    K = (
        P[:, :3]
        if P.any()
        else np.asarray(info.k if hasattr(info, "k") else info.K, np.float64).reshape(3, 3)
    )
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise ValueError("the camera_info has no intrinsics: its focal lengths are not positive")
    return K


def check_depth_unit(metres: NDArray, encoding: str) -> None:
    """Refuse depth that cannot be metres: its median over what was measured tells.

    Raises:
        ValueError: it lies beyond any RGB-D camera's range, or closer than any of them sees.
    """
    some = metres[::8, ::8]
    measured = some[np.isfinite(some) & (some > 0)]
    median = float(np.median(measured)) if len(measured) else _NEAREST_M
    if not _NEAREST_M <= median <= _FARTHEST_M:
        unit = "metres" if encoding == METRES else "millimetres"
        raise ValueError(
            f"the median depth is {median:.4g} m, so the unit is wrong: {encoding} must hold {unit} (REP-118)"
        )


def cloud_from_depth(depth: Any, info: Any, color: Any | None = None, step: int = 1) -> PointCloud:
    """Return the organised cloud of a depth image, in the camera's optical frame.

    The points have z forward, so ``_optical`` is appended to a frame name that does not say so.

    Args:
        depth: sensor_msgs/Image with depth.
        info: the sensor_msgs/CameraInfo of the same camera and size.
        color: Image or CompressedImage registered to the depth, same size; None leaves ``rgb`` out.
        step: keep every ``step``-th pixel of every ``step``-th row, from the middle of the first ``step``.

    Raises:
        ValueError: encodings, sizes or intrinsics do not fit.
    """
    frame, stamp_ns = header_of(depth)
    metres = depth_image(depth)
    K = intrinsics(info)
    if (int(info.height), int(info.width)) != metres.shape and int(info.height) > 0:
        raise ValueError(
            f"the camera_info is for {info.height} x {info.width} pixels, the depth {metres.shape}"
        )
    kept = (slice(step // 2, None, step), slice(step // 2, None, step))
    fields: dict[str, NDArray] = {}
    if color is not None:
        rgb = color_image(color)
        if rgb.shape[:2] != metres.shape:
            raise ValueError(f"the colour image has {rgb.shape[:2]} pixels, the depth {metres.shape}")
        fields["rgb"] = np.ascontiguousarray(rgb[kept]).reshape(-1, 3)
    if not frame.endswith(("_optical", "_optical_frame")):
        frame = f"{frame}_optical"
    K = np.array([[1 / step, 0, -(step // 2) / step], [0, 1 / step, -(step // 2) / step], [0, 0, 1]]) @ K
    metres = metres[kept]
    return PointCloud(unproject(K, metres), fields, frame, stamp_ns, (metres.shape[0], metres.shape[1]))


class RgbdPairing:
    """Turn a stream of depth, camera_info and colour messages into clouds, paired by header stamp."""

    def __init__(self, with_color: bool) -> None:
        self._with_color = with_color
        self._info: Any = None
        self._colors: deque[tuple[int, Any]] = deque(maxlen=30)
        self._waiting: deque[tuple[int, int, Any]] = deque(maxlen=30)

    def add_info(self, msg: Any) -> None:
        """Take a camera_info; it holds for all images until the next."""
        self._info = msg

    def add_color(self, msg: Any) -> None:
        """Take a colour image; the newest thirty are kept."""
        self._colors.append((header_of(msg)[1], msg))

    def add_depth(self, bag_stamp_ns: int, msg: Any) -> None:
        """Take a depth image, recorded at ``bag_stamp_ns``; it waits for its partners until ``ready``."""
        self._waiting.append((bag_stamp_ns, header_of(msg)[1], msg))

    def ready(self, finished: bool = False) -> Iterator[tuple[int, Any, Any, Any]]:
        """Yield (bag stamp, depth, info, colour or None) of every depth image whose partners are there.

        Raises:
            ValueError: the stream is over and there was no camera_info.
        """
        while self._waiting:
            bag_stamp_ns, stamp_ns, depth = self._waiting[0]
            newest = self._colors[-1][0] if self._colors else -1
            if not finished and (self._info is None or (self._with_color and newest < stamp_ns)):
                return
            if self._info is None:
                raise ValueError("there are depth images but no camera_info for them")
            self._waiting.popleft()
            gap, color = min(((abs(s - stamp_ns), m) for s, m in self._colors), default=(0, None), key=_first)
            yield bag_stamp_ns, depth, self._info, color if gap <= _SLOP_NS else None


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]
