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
from .upright import is_view


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
                f"a window of {self.size_m:g} m must be larger than the overlap, which must not be negative and is "
                f"{self.overlap_m:g} m"
            )

    @classmethod
    def asked(cls, size_m: float, overlap_m: float | None) -> Windows | None:
        """Return what a command's ``--window`` and ``--overlap`` ask for; without a window (0) None.

        Raises:
            ValueError: an overlap of no windows, or one that does not fit them.
        """
        if not size_m and overlap_m is not None:
            raise ValueError(
                f"--overlap {overlap_m:g} is that of windows; say --window, too, or leave it out"
            )
        if not size_m:
            return None
        return cls(size_m) if overlap_m is None else cls(size_m, overlap_m)

    def along(self, low: float, high: float) -> Row:
        """Return the fewest windows from ``low`` to ``high`` (metres) along one axis, evenly spread."""
        n = np.ceil((high - low - self.overlap_m) / (self.size_m - self.overlap_m))
        if n <= 1:
            return Row((low + high) / 2, 1.0, 1.0)
        return Row(low + self.size_m / 2, (high - low - self.size_m) / (n - 1), float(n))


@dataclass(frozen=True)
class Row:
    """Windows along one axis: the first one's centre, the step to the next, their (whole) number.

    A stray coordinate of 1e30 m makes more of them than any integer holds, so they are never listed.
    """

    first: float
    step: float
    n: float

    def nearest(self, values: NDArray) -> NDArray[np.float64]:
        """Return the number of the window whose centre is nearest to each of (N,) values; any for NaN."""
        place = np.nan_to_num((values - self.first) / self.step, posinf=0.0, neginf=0.0)
        return np.clip(np.rint(place), 0.0, self.n - 1)

    def center(self, number: float) -> float:
        """Return the centre of one window."""
        return self.first + number * self.step


class WindowedSegmenter(Segmenter):
    """A segmenter for whole scenes with z up: each point gets its label from the window centred nearest to it.

    A scene that one window covers gives what ``model`` gives. Where a contract measures from the sensor
    (``range``, ``max_range_m``), each window of several is seen from its own centre: no one sensor saw a
    scene that is larger than a window. Objects of a panoptic model are not numbered across several windows:
    ``instance`` is None then. Calls raise ValueError for a scene of several windows where the
    windows' corners lie beyond ``max_range_m`` (their points would get no label), and for a camera's view,
    which has no z up before it is levelled.

    Args:
        model: what labels each window; shared, not copied.
        windows: how scenes are cut.
    """

    def __init__(self, model: Segmenter, windows: Windows) -> None:
        super().__init__(model.network, model.contract, model.label_set, model.device, model.precision)
        self.windows = windows

    def _segment(self, cloud: PointCloud) -> SegmentationResult:
        seen = cloud.finite()
        if not seen.any():
            return super()._segment(cloud)
        xy = cloud.xyz[:, :2].astype(np.float64)
        rows = [self.windows.along(axis.min(), axis.max()) for axis in xy[seen].T]
        if all(row.n == 1 for row in rows):
            return super()._segment(cloud)
        self._refuse(cloud)
        labels = np.full(len(cloud), UNLABELED, np.uint16)
        confidence = np.zeros(len(cloud), np.float32)
        spent: Counter[str] = Counter()
        place = np.stack([row.nearest(values) for row, values in zip(rows, xy.T, strict=True)], 1)
        # Only windows that decide a point: a stray one kilometres away costs one window, not the way to it.
        for tile in np.unique(place[seen], axis=0):
            center = np.array([row.center(number) for row, number in zip(rows, tile, strict=True)])
            own = seen & (place == tile).all(1)
            inside = own | (seen & (np.abs(xy - center) <= self.windows.size_m / 2).all(1))
            result = super()._segment(self._around(cloud.select(inside.nonzero()[0]), center))
            decided = own[inside]
            labels[own], confidence[own] = result.labels[decided], result.confidence[decided]
            spent.update(result.milliseconds)  # type: ignore[arg-type]  # a counter adds floats as well
        return SegmentationResult(labels, confidence, self.label_set, dict(spent))

    def _refuse(self, cloud: PointCloud) -> None:
        if self.contract.level_camera and is_view(cloud):
            raise ValueError("windows cut scenes with z up, this cloud is a camera's view: leave windows out")
        reach, widest = self.contract.max_range_m, self.contract.max_range_m * np.sqrt(2)
        if reach and self.windows.size_m > widest:
            raise ValueError(
                f"the corners of a window of {self.windows.size_m} m are out of the model's range of {reach} m; "
                f"use windows of at most {np.floor(widest):.0f} m"
            )

    def _around(self, cloud: PointCloud, center: NDArray) -> PointCloud:
        if not self.contract.max_range_m and "range" not in self.contract.features:
            return cloud
        return replace(cloud, xyz=cloud.xyz - np.append(center, 0.0).astype(np.float32))
