# SPDX-License-Identifier: Apache-2.0
"""Pictures that let a person judge a calibration: coverage of the image, clouds laid over images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board, Corners
from calibration.camera import CameraModel
from pc_perception.cloud import PointCloud
from pc_perception.geometry import transform
from pc_perception.io.whole_files import whole_file

_NEAR = np.array([255, 80, 40])
_FAR = np.array([60, 120, 255])


def draw_coverage(
    path: Path, size: tuple[int, int], views: Iterable[Corners], errors_px: Iterable[float]
) -> Path:
    """Draw all corners on an empty picture of ``size`` (width, height); the redder, the larger the view's error."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, (24, 26, 32))
    pen = ImageDraw.Draw(image)
    for k in range(1, 8):
        pen.line((size[0] * k / 8, 0, size[0] * k / 8, size[1]), fill=(60, 64, 74))
        pen.line((0, size[1] * k / 6, size[0], size[1] * k / 6), fill=(60, 64, 74))
    r = max(size) // 320
    for view, error in zip(views, errors_px, strict=True):
        share = min(error / 1.0, 1.0)
        color = tuple(int(c) for c in (60 + 195 * share, 220 - 160 * share, 120))
        for u, v in view.uv:
            pen.ellipse((u - r, v - r, u + r, v + r), fill=color)
    return _save(image, path)


def draw_overlay(
    path: Path,
    image: NDArray[np.uint8],
    cloud: PointCloud,
    camera: CameraModel,
    T_camera_lidar: NDArray,
    board: Board | None = None,
    T_camera_board: NDArray | None = None,
) -> Path:
    """Draw a cloud's points on its image, coloured by distance (orange near, blue far), and a board's outline."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))
    pen = ImageDraw.Draw(picture)
    points = transform(T_camera_lidar, cloud.xyz[cloud.finite()].astype(np.float64))
    uv = camera.project(points)
    seen = camera.sees(uv)
    distance = np.linalg.norm(points[seen], axis=1)
    share = np.clip(np.log(np.maximum(distance, 1) / 1.0) / np.log(30), 0, 1)[:, None]
    colors = ((1 - share) * _NEAR + share * _FAR).astype(int)
    r = max(image.shape[1] // 960, 1)
    for (u, v), color in zip(uv[seen], colors, strict=True):
        pen.ellipse((u - r, v - r, u + r, v + r), fill=tuple(color))
    if board is not None and T_camera_board is not None:
        outline = camera.project(transform(T_camera_board, board.outline))
        pen.polygon([tuple(p) for p in outline], outline=(60, 255, 90), width=2 * r)
    return _save(picture, path)


def _save(image: Any, path: Path) -> Path:
    with whole_file(path) as partial:
        image.save(partial)
    return path
