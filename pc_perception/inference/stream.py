# SPDX-License-Identifier: Apache-2.0
"""The sweep's logic around a segmenter: ego box, accumulation of sweeps, threshold.

The ROS 2 node, the bag runner and the DDS server share it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import inverse, transform

from .segmenter import SegmentationResult, Segmenter
from .sensor_check import findings
from .upright import upright
from .vitals import Timing

MAX_GAP_S = 5.0
"""Sweeps further apart than this, or going back in time, do not belong to one drive."""


@dataclass(frozen=True)
class SweepOptions:
    """Per-sweep logic around the model.

    Attributes:
        ego_box: (x_min, y_min, z_min, x_max, y_max, z_max) metres in the cloud's frame; points inside
            (the vehicle itself) stay unlabeled. None keeps all.
        n_sweeps: the newest sweep plus this many minus one earlier ones are seen by the model; only
            the newest sweep's points are labelled. Needs a pose with every sweep.
        confidence_threshold: labels less sure than this become unlabeled (confidence is kept).
    """

    ego_box: tuple[float, float, float, float, float, float] | None = None
    n_sweeps: int = 1
    confidence_threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.n_sweeps < 1:
            raise ValueError(f"n_sweeps must be at least 1, got {self.n_sweeps}")
        if not 0 <= self.confidence_threshold <= 1:
            raise ValueError(f"confidence_threshold must lie in 0 .. 1, got {self.confidence_threshold}")
        if self.ego_box is not None:
            box = self.ego_box
            if len(box) != 6 or any(a >= b for a, b in zip(box[:3], box[3:], strict=True)):
                raise ValueError(f"ego_box must be x_min, y_min, z_min < x_max, y_max, z_max, got {box}")


class SweepSegmenter:
    """The sweep's logic: ego box, accumulation, model, threshold. Not thread-safe: one per worker.

    ``options`` may be replaced between sweeps (from another thread too), but for ``n_sweeps``.
    """

    def __init__(self, model: Segmenter, options: SweepOptions | None = None) -> None:
        self.model = model
        self.options = options or SweepOptions()
        self.timing = Timing()
        self._past: deque[tuple[PointCloud, NDArray]] = deque(maxlen=max(self.options.n_sweeps - 1, 0))
        self._stamp_ns: int | None = None

    def __call__(
        self, cloud: PointCloud, T_fixed_cloud: NDArray | None = None, origin: NDArray | None = None
    ) -> SegmentationResult:
        """Label every point of ``cloud``; same order and length.

        Args:
            T_fixed_cloud: (4, 4) pose of the cloud's frame in a fixed frame (odom, map) at its stamp;
                without it earlier sweeps are not used.
            origin: (3,) metres, where the sensor stands in the cloud's frame, for clouds that were moved
                out of the sensor's: the model measures from there. None is the frame's origin.
        """
        options = self.options
        if self._jumped(cloud.stamp_ns):
            self.forget()
        seen = self._with_past(without_ego(cloud, options.ego_box), T_fixed_cloud)
        result = self.model(_seen_from(seen, origin))
        self.timing.add(**result.milliseconds, total=result.total_ms)
        return result.newest(len(cloud)).surer_than(options.confidence_threshold)

    def forget(self) -> None:
        """Drop earlier sweeps (after a jump of the clock or of the pose)."""
        self._past.clear()

    def check_sensor(self, cloud: PointCloud, origin: NDArray | None = None) -> dict[str, str]:
        """Say by quantity where ``cloud`` lies outside of what the model's training saw (``sensor_check``)."""
        cloud, contract = without_ego(cloud, self.options.ego_box), self.model.contract
        if contract.level_camera:  # heights mean nothing in an optical frame
            cloud = replace(cloud, xyz=upright(cloud))
        return findings(_seen_from(cloud, origin), contract.seen, contract.features)

    def _jumped(self, stamp_ns: int) -> bool:
        before, self._stamp_ns = self._stamp_ns, stamp_ns
        return before is not None and not 0 <= stamp_ns - before <= MAX_GAP_S * 1e9

    def _with_past(self, cloud: PointCloud, T_fixed_cloud: NDArray | None) -> PointCloud:
        if self._past.maxlen == 0 or T_fixed_cloud is None:
            return cloud
        shared = [n for n in cloud.fields if all(n in past.fields for past, _ in self._past)]
        now = inverse(np.asarray(T_fixed_cloud, dtype=np.float64))
        moved = [transform(now @ T_past, past.xyz) for past, T_past in self._past]
        xyz = np.concatenate([cloud.xyz, *moved])
        fields = {n: np.concatenate([cloud.fields[n], *(p.fields[n] for p, _ in self._past)]) for n in shared}
        self._past.append((cloud, np.asarray(T_fixed_cloud, dtype=np.float64)))
        return PointCloud(xyz, fields, cloud.frame, cloud.stamp_ns)


def without_ego(cloud: PointCloud, ego_box: tuple[float, ...] | None) -> PointCloud:
    """Return the cloud with NaN for the points inside a box (x_min, y_min, z_min, x_max, y_max, z_max)."""
    if ego_box is None:
        return cloud
    low, high = np.asarray(ego_box[:3], np.float32), np.asarray(ego_box[3:], np.float32)
    inside = ((cloud.xyz >= low) & (cloud.xyz <= high)).all(1)
    return replace(cloud, xyz=np.where(inside[:, None], np.float32(np.nan), cloud.xyz))


def _seen_from(cloud: PointCloud, origin: NDArray | None) -> PointCloud:
    return cloud if origin is None else replace(cloud, xyz=cloud.xyz - np.asarray(origin, np.float32))
