# SPDX-License-Identifier: Apache-2.0
"""How well clouds lie on their images under an extrinsic: shared information and common edges.

Normalised information distance between reflected intensity and grey value: Pandey et al., "Automatic targetless
extrinsic calibration of a 3D lidar and camera by maximizing mutual information", 2012; the distance itself and its
use for this as in Koide et al., "General, single-shot, target-less, and automatic LiDAR-camera extrinsic
calibration toolbox", 2023. Depth edges on image edges: Levinson and Thrun, 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.alignment_kernel import camera_values, count_pairs, sum_edges
from calibration.camera import CameraModel
from calibration.depth_edges import DepthEdges, depth_edges
from calibration.frames import Frame
from calibration.scan_lines import scan_lines

_BINS = 16
_MAX_POINTS = 12_000
_MAX_RANGE_M = 60.0
_INFORMATION_WEIGHT = 10.0  # its dip is some hundredths deep, that of the edges some tenths


@dataclass(frozen=True)
class PreparedFrame:
    """A frame's parts that do not depend on the extrinsic.

    Attributes:
        points: (N, 3) float64 points with an intensity, at most 12,000, LiDAR's frame.
        intensity_bin: (N,) their intensity's rank, 0 .. 15.
        edges: outlines in the cloud.
        grey: (H, W) float32 rank of the grey value, 0 .. 1.
        across, down: (H, W) float32 strength of upright and level image edges, 0 .. 1.
    """

    points: NDArray[np.float64]
    intensity_bin: NDArray[np.int64]
    edges: DepthEdges
    grey: NDArray[np.float32]
    across: NDArray[np.float32]
    down: NDArray[np.float32]


def prepare(frame: Frame, rng: np.random.Generator) -> PreparedFrame:
    """Find edges and ranks once.

    Raises:
        ValueError: the cloud is too small.
    """
    from scipy.ndimage import gaussian_filter

    cloud = frame.cloud
    grey = frame.image.astype(np.float32)
    if grey.ndim == 3:
        grey = grey @ np.array([0.299, 0.587, 0.114], np.float32)
    smooth = gaussian_filter(grey, 1.0)
    down, across = np.gradient(smooth)
    near = np.linalg.norm(cloud.xyz, axis=1) < _MAX_RANGE_M
    rows = np.flatnonzero(cloud.finite() & near)
    if "intensity" not in cloud.fields:
        rows = rows[:0]
    rows = rng.permutation(rows)
    intensity = np.asarray(cloud.fields.get("intensity", np.zeros(len(cloud))), np.float64)[rows]
    rank = np.argsort(np.argsort(intensity + 1e-6 * rng.random(len(rows)))) / max(len(rows), 1)
    return PreparedFrame(
        cloud.xyz[rows].astype(np.float64),
        np.minimum((rank * _BINS).astype(np.int64), _BINS - 1),
        depth_edges(scan_lines(cloud), _MAX_RANGE_M),
        _equalised(smooth),
        _strength(across),
        _strength(down),
    )


def _equalised(grey: NDArray) -> NDArray[np.float32]:
    levels = np.sort(grey.ravel()[::17])
    return (np.searchsorted(levels, grey).astype(np.float32) / len(levels)).clip(0, 1)


def _strength(gradient: NDArray) -> NDArray[np.float32]:
    strong = np.quantile(np.abs(gradient[::3, ::3]), 0.95) + 1e-6
    return np.minimum(np.abs(gradient) / strong, 1.0).astype(np.float32)


@dataclass(frozen=True)
class Alignment:
    """A score over frames at one level of blur; lower is better.

    Attributes:
        frames: prepared and blurred.
        values: of the camera, see ``camera_values``.
    """

    frames: Sequence[PreparedFrame]
    values: NDArray[np.float64]

    @classmethod
    def at_blur(
        cls,
        frames: Sequence[PreparedFrame],
        camera: CameraModel,
        blur_px: float,
        T: NDArray,
        thinning: int = 1,
    ) -> Alignment:
        """Blur the images by ``blur_px`` and keep the points that may be seen about the extrinsic ``T``,
        every ``thinning``-th.

        Images are kept as small as the blur allows: they then fit into the processor's cache.
        """
        from scipy.ndimage import gaussian_filter

        shrink = max(int(blur_px / 1.7), 1)
        blurred = []
        for f in frames:
            points = _in_view(f.points, camera, T)[: _MAX_POINTS // thinning]
            seen = _in_view(f.edges.xyz, camera, T)[::thinning]
            blurred.append(
                PreparedFrame(
                    f.points[points],
                    f.intensity_bin[points],
                    f.edges.select(seen),
                    gaussian_filter(shrunk(f.grey, shrink), blur_px / 2 / shrink),
                    _contrast(shrunk(f.across, shrink), blur_px / shrink),
                    _contrast(shrunk(f.down, shrink), blur_px / shrink),
                )
            )
        return cls(blurred, camera_values(camera, shrink))

    def __call__(self, T: NDArray) -> float:
        return _INFORMATION_WEIGHT * self.information_distance(T) - self.edge_score(T)

    def information_distance(self, T: NDArray) -> float:
        """1 - I(X; Y) / H(X, Y) of intensity and grey value over all frames; 1 where they are unrelated."""
        counts = np.zeros((_BINS, _BINS))
        for f in self.frames:
            count_pairs(f.points, f.intensity_bin, T, self.values, f.grey, counts)
        if counts.sum() < 100:
            return 1.0
        joint = counts / counts.sum()
        h = [-float((p[p > 0] * np.log(p[p > 0])).sum()) for p in (joint.sum(0), joint.sum(1), joint)]
        return 1.0 - (h[0] + h[1] - h[2]) / max(h[2], 1e-9)

    def edge_score(self, T: NDArray) -> float:
        """Mean strength, in standard deviations over the picture, of image edges under the clouds' edges.

        Edges that have left the picture count as the picture's mean, so that nothing is won by pushing them out.
        """
        total = 0.0
        for f in self.frames:
            total += sum_edges(f.edges.xyz, f.edges.upright, T, self.values, f.across, f.down)
        return total / max(sum(len(f.edges.xyz) for f in self.frames), 1)


def _in_view(points: NDArray, camera: CameraModel, T: NDArray, margin: float = 0.1) -> NDArray[np.int64]:
    """Rows of the points within the picture or near it."""
    size = np.array([camera.width, camera.height])
    uv = camera.project(points @ T[:3, :3].T + T[:3, 3])
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(((uv > -margin * size) & (uv < (1 + margin) * size)).all(1))


def shrunk(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means of ``factor`` x ``factor`` pixels; rows and columns left over are cut off."""
    height, width = (n // factor for n in image.shape)
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return blocks.mean((1, 3), dtype=np.float32)


def _contrast(strength: NDArray, blur_px: float) -> NDArray[np.float32]:
    """Edges against their surroundings, in standard deviations; else all would be drawn into busy regions."""
    from scipy.ndimage import gaussian_filter

    contrast = gaussian_filter(strength, blur_px) - gaussian_filter(strength, 4 * blur_px)
    return contrast / (contrast.std() + 1e-6)
