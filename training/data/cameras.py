# SPDX-License-Identifier: Apache-2.0
"""Clouds with the pictures that were taken beside them, and which point is seen at which pixel."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import project, transform

from .superpixels import slic

_log = logging.getLogger(__name__)
NEAREST_M = 1.0
"""Points nearer to a camera than this are not paired (SLidR, CMCR)."""
MAX_APART_S = 0.15
"""A picture taken further from the sweep than this shows other things; nuScenes' own are within 0.05 s."""
LEAST_SHARE = 0.05
"""Where fewer of a cloud's points than this lie in any picture, the calibration is doubted."""
CACHE_WIDTH = 800
"""Decoded pictures are kept this wide: half of nuScenes', still wider than the smallest crop that is trained on."""
N_SUPERPIXELS, COMPACTNESS, SIGMA_PX = 150, 6.0, 3.0
"""Of SLIC, as SLidR has them; sigma in pixels of pictures 1600 wide."""


@dataclass(frozen=True)
class Camera:
    """One picture of one sample, not read yet.

    Attributes:
        channel: name of the camera.
        file: the picture.
        size: (width, height) in pixels, which ``K`` belongs to.
        K: (3, 3) intrinsics.
        T_camera_lidar: (4, 4) from the cloud's frame, at its stamp, to the optical frame at the picture's stamp.
        sample: token of the sample, for messages.
        cache: folder of decoded pictures.
    """

    channel: str
    file: Path
    size: tuple[int, int]
    K: NDArray[np.float64]
    T_camera_lidar: NDArray[np.float64]
    sample: str
    cache: Path

    def picture(self) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB, at most ``CACHE_WIDTH`` wide; decoded once, then a map of the cache's file.

        Raises:
            ValueError: there is no such picture, it cannot be decoded, or has another size than its calibration.
        """
        return self._kept("rgb", self._decode)

    def superpixels(self) -> NDArray[np.uint8]:
        """Return (H, W) SLIC segment of each pixel of ``picture``; computed once."""
        sigma = SIGMA_PX * min(CACHE_WIDTH, self.size[0]) / 1600
        kind = f"slic{N_SUPERPIXELS}"
        return self._kept(kind, lambda: slic(self.picture(), N_SUPERPIXELS, COMPACTNESS, sigma))

    def _kept(self, kind: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        file = self.cache / f"{self._fingerprint()}-{kind}-{CACHE_WIDTH}.npy"
        if not file.is_file():
            array = make()
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_name(f".{os.getpid()}-{file.name}")
            with unfinished.open("wb") as stream:
                np.save(stream, array)
            unfinished.replace(file)
        return np.load(file, mmap_mode="r")

    def _fingerprint(self) -> str:
        """Name the file as it is now: tokens of simulated drives repeat from one data set to another."""
        try:
            stat = self.file.stat()
        except OSError as error:
            raise self._unusable(error) from None
        what = json.dumps([str(self.file.resolve()), stat.st_size, stat.st_mtime_ns, self.size])
        return hashlib.sha256(what.encode()).hexdigest()[:20]

    def _unusable(self, error: Exception) -> ValueError:
        return ValueError(
            f"sample {self.sample}: the picture of {self.channel}, '{self.file.name}', cannot be used ({error})"
        )

    def _decode(self) -> NDArray[np.uint8]:
        from PIL import Image

        try:
            with Image.open(self.file) as image:
                if image.size != self.size:
                    raise ValueError(f"it is {image.size} pixels, its calibration says {self.size}")
                width = min(CACHE_WIDTH, image.width)
                height = round(image.height * width / image.width)
                return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BOX))
        except (OSError, ValueError, SyntaxError) as error:
            raise self._unusable(error) from None


@dataclass(frozen=True)
class CameraCloud(PointCloud):
    """A cloud and what its cameras saw; see ``Camera``."""

    cameras: tuple[Camera, ...] = ()


@dataclass(frozen=True)
class Pixels:
    """Where points are seen in one picture.

    Attributes:
        point: (P,) int64 rows of the cloud.
        place: (P, 2) float32 (u, v) as shares of the width and height, 0 at the left and upper edge.
        depth: (P,) float32 metres along the optical axis.
    """

    point: NDArray[np.int64]
    place: NDArray[np.float32]
    depth: NDArray[np.float32]

    def select(self, kept: NDArray) -> Pixels:
        """Return those that ``kept`` picks."""
        return Pixels(self.point[kept], self.place[kept], self.depth[kept])


def seen_points(xyz: NDArray[np.float32], camera: Camera) -> Pixels:
    """Project (N, 3) points, metres, into a camera.

    Kept are points deeper than ``NEAREST_M`` whose pixel is not on the picture's border. The camera may have
    looked from elsewhere than the LiDAR: a point that only the LiDAR saw keeps the pixel of what hides it (as in
    SLidR and CMCR).
    """
    uv, depth = project(camera.K, transform(camera.T_camera_lidar, xyz.astype(np.float64)))
    size = np.asarray(camera.size)
    with np.errstate(invalid="ignore"):
        u, v = uv.T  # by columns: NumPy's reductions of rows of two take ten times as long
        inside = (depth > NEAREST_M) & (u > 0) & (v > 0) & (u < size[0] - 1) & (v < size[1] - 1)
    point = np.flatnonzero(inside)
    # Whole coordinates are pixel centres: the left edge is at -0.5.
    place = (uv[point] + 0.5) / size
    return Pixels(point, place.astype(np.float32), depth[point].astype(np.float32))


def check_calibration(cloud: CameraCloud, pixels: list[Pixels]) -> None:
    """Warn where hardly any point of the cloud lies in any of its pictures."""
    seen = len(np.unique(np.concatenate([p.point for p in pixels]))) if pixels else 0
    if seen < LEAST_SHARE * len(cloud):
        _log.warning(
            "sample %s: only %d of %d points lie in any picture; check the calibration of its cameras",
            cloud.cameras[0].sample if cloud.cameras else "",
            seen,
            len(cloud),
        )
