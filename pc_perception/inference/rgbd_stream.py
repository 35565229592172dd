# SPDX-License-Identifier: Apache-2.0
"""From the messages of an RGB-D camera to a labelled organised cloud and a label image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import project, transform
from pc_perception.io.pointcloud2 import header_of
from pc_perception.io.rgbd import check_depth_unit, cloud_from_depth, color_image, depth_image, intrinsics
from pc_perception.labels import UNLABELED
from pc_perception.ops.visibility import visible

from .segmenter import SegmentationResult
from .stream import SweepSegmenter

GREY = 128
"""Colour of points that the colour camera does not see: the middle of what a model is given."""


@dataclass(frozen=True)
class ColorCamera:
    """A colour camera that the depth is not registered to.

    Attributes:
        info: its sensor_msgs/CameraInfo, of rectified images.
        T_color_depth: (4, 4) from the depth camera's optical frame to the colour camera's.
    """

    info: Any
    T_color_depth: NDArray[np.float64]


def rgbd_cloud(
    depth: Any, info: Any, color: Any | None = None, step: int = 1, camera: ColorCamera | None = None
) -> PointCloud:
    """Return the organised, perhaps coloured cloud of one frame, every ``step``-th pixel both ways.

    Args:
        depth: sensor_msgs/Image, 16UC1 millimetres or 32FC1 metres, rectified.
        info: its CameraInfo.
        color: Image or CompressedImage of the same moment, or None.
        camera: where the colour image comes from when it is not registered to the depth; it may then have
            another size.

    Raises:
        ValueError: units, encodings, sizes or intrinsics do not fit.
    """
    check_depth_unit(depth_image(depth), depth.encoding)
    if camera is None:
        return cloud_from_depth(depth, info, color, step)
    cloud = cloud_from_depth(depth, info, None, step)
    if color is None:
        return cloud
    K, image = intrinsics(camera.info), color_image(color)
    if image.shape[:2] != (int(camera.info.height), int(camera.info.width)) and int(camera.info.height):
        raise ValueError(
            f"the colour image has {image.shape[:2]} pixels, its camera_info is for "
            f"{camera.info.height} x {camera.info.width}"
        )
    half_px = 0.5 * step * K[[0, 1], [0, 1]] / intrinsics(info)[[0, 1], [0, 1]]
    return cloud.with_fields(rgb=_looked_up(cloud, image, K, camera.T_color_depth, half_px))


def _looked_up(
    cloud: PointCloud, image: NDArray[np.uint8], K: NDArray, T_color_depth: NDArray, half_px: NDArray
) -> NDArray[np.uint8]:
    """(N, 3) colours of points in another camera's picture, ``GREY`` where it does not see them."""
    uv, z = project(K, transform(T_color_depth, cloud.xyz))
    height, width = image.shape[:2]
    seen = visible(uv, z, np.broadcast_to(half_px, uv.shape), (height, width), 0.03, 0.02)
    rgb = np.full((len(cloud), 3), GREY, np.uint8)
    u, v = np.rint(uv[seen]).astype(np.int64).T
    rgb[seen] = image[v, u]
    return rgb


@dataclass(frozen=True)
class RgbdResult:
    """One labelled frame.

    Attributes:
        cloud: organised, one point for each pixel that was kept.
        labels: of its points, and how long the model took.
        image: (H, W) uint16 label of every pixel of the depth image, ``UNLABELED`` where it has no depth.
    """

    cloud: PointCloud
    labels: SegmentationResult
    image: NDArray[np.uint16]


class RgbdSegmenter:
    """Labels RGB-D frames. Not safe for two threads at once: one each.

    Attributes:
        sweeps: the model with its options (``SweepOptions``).
        step: decimation: every ``step``-th pixel both ways becomes a point.
    """

    def __init__(self, sweeps: SweepSegmenter, step: int = 1) -> None:
        if step < 1:
            raise ValueError(f"step must be at least 1, got {step}")
        self.sweeps, self.step = sweeps, step

    def __call__(self, depth: Any, cloud: PointCloud) -> RgbdResult:
        """Label the ``cloud`` that ``rgbd_cloud`` made of the message ``depth`` with the same step."""
        result = self.sweeps(cloud)
        return RgbdResult(cloud, result, self._image(depth, cloud, result.labels))

    def _image(self, depth: Any, cloud: PointCloud, labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Spread each point's label over the pixels that it stands for."""
        assert cloud.grid_shape is not None
        height, width, step = int(depth.height), int(depth.width), self.step
        small = labels.reshape(cloud.grid_shape)
        rows = np.minimum(np.arange(height) // step, small.shape[0] - 1)
        columns = np.minimum(np.arange(width) // step, small.shape[1] - 1)
        image = small[rows[:, None], columns]
        metres = depth_image(depth)
        with np.errstate(invalid="ignore"):
            image[~(metres > 0) | ~np.isfinite(metres)] = UNLABELED
        return image


def mismatched_frames(depth: Any, info: Any, color: Any | None, registered: bool) -> list[str]:
    """Say which headers name frames that do not fit each other; the data is used all the same."""
    frame = header_of(depth)[0]
    others = {"camera_info": info} | ({"rgb": color} if registered and color is not None else {})
    return [
        f"depth is in '{frame}', {name} in '{header_of(msg)[0]}'"
        for name, msg in others.items()
        if header_of(msg)[0] != frame
    ]
