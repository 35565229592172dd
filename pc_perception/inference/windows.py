# SPDX-License-Identifier: Apache-2.0
"""Scenes that do not fit into memory or into the voxel grid: overlapping square windows, one at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.labels import UNLABELED

from .segmenter import SegmentationResult, Segmenter
from .upright import looks_optical


@dataclass(frozen=True)
class Windows:
    """How a scene is cut: squares in the xy-plane, z whole.

    Attributes:
        size_m: edge of a window.
        overlap_m: neighbouring windows share at least this much, so that a point at the border of the part
            that a window decides has half of it as surroundings. 0 leaves hard borders.
    """

    size_m: float
    overlap_m: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_m < self.size_m:
            raise ValueError(
                f"a window of {self.size_m} m must be larger than the overlap, which is {self.overlap_m} m"
            )

    def centers(self, low: float, high: float) -> NDArray[np.float64]:
        """Return the centres of the fewest windows from ``low`` to ``high`` along one axis, evenly spread."""
        n = max(1, int(np.ceil((high - low - self.overlap_m) / (self.size_m - self.overlap_m))))
        if n == 1:
            return np.array([(low + high) / 2])
        return np.linspace(low + self.size_m / 2, high - self.size_m / 2, n)


class WindowedSegmenter(Segmenter):
    """A segmenter for whole scenes with z up: each point gets its label from the window centred nearest to it.

    A scene that one window covers gives what ``model`` gives. Where a contract measures from the sensor
    (``range``, ``max_range_m``), each window of several is seen from its own centre: no one sensor saw a
    scene that is larger than a window.

    Args:
        model: what labels each window; shared, not copied.
        windows: how scenes are cut.
    """

    def __init__(self, model: Segmenter, windows: Windows) -> None:
        super().__init__(model.network, model.contract, model.label_set, model.device, model.precision)
        self.windows = windows

    def _segment(self, cloud: PointCloud) -> SegmentationResult:
        seen = cloud.finite()
        xy = cloud.xyz[:, :2].astype(np.float64)
        limits = [(axis.min(), axis.max()) for axis in xy[seen].T] if seen.any() else [(0.0, 0.0)]
        axes = [self.windows.centers(low, high) for low, high in limits]
        if all(len(centers) == 1 for centers in axes):
            return super()._segment(cloud)
        if self.contract.level_camera and looks_optical(cloud):
            raise ValueError("windows cut scenes with z up, this cloud is a camera's view: leave windows out")
        labels = np.full(len(cloud), UNLABELED, np.uint16)
        confidence = np.zeros(len(cloud), np.float32)
        spent: Counter[str] = Counter()
        place = np.stack([_nearest(values, c) for values, c in zip(xy.T, axes, strict=True)], 1)
        # Only windows that decide a point: a stray one kilometres away costs one window, not the way to it.
        for tile in np.unique(place[seen], axis=0):
            center = np.array([c[i] for c, i in zip(axes, tile, strict=True)])
            own = seen & (place == tile).all(1)
            inside = own | (seen & (np.abs(xy - center) <= self.windows.size_m / 2).all(1))
            result = super()._segment(self._around(cloud.select(inside.nonzero()[0]), center))
            decided = own[inside]
            labels[own], confidence[own] = result.labels[decided], result.confidence[decided]
            spent.update(result.milliseconds)  # type: ignore[arg-type]  # a counter adds floats as well
        return SegmentationResult(labels, confidence, self.label_set, dict(spent))

    def _around(self, cloud: PointCloud, center: NDArray) -> PointCloud:
        if not self.contract.max_range_m and "range" not in self.contract.features:
            return cloud
        return replace(cloud, xyz=cloud.xyz - np.append(center, 0.0).astype(np.float32))


def _nearest(values: NDArray, centers: NDArray) -> NDArray[np.int64]:
    """Return the number of the centre, of evenly spread ones, that is nearest to each value; any for NaN."""
    step = centers[1] - centers[0] if len(centers) > 1 else 1.0
    place = np.nan_to_num((values - centers[0]) / step, posinf=0.0, neginf=0.0)
    return np.clip(np.rint(place), 0, len(centers) - 1).astype(np.int64)
