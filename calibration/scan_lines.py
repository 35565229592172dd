# SPDX-License-Identifier: Apache-2.0
"""The order in which a LiDAR saw its points: rings, and neighbours along a ring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.fusion import rings

_BAND_RAD = np.radians(0.2)
_LEAST_GAP_RAD = np.radians(0.08)


@dataclass(frozen=True)
class ScanLines:
    """Finite points of a sweep, sorted by ring and then by azimuth.

    Attributes:
        xyz: (N, 3) float64, metres, sensor frame.
        ring: (N,) int64.
        azimuth: (N,) rad.
        spacing_rad: the usual azimuth from one point to the next along a ring.
    """

    xyz: NDArray[np.float64]
    ring: NDArray[np.int64]
    azimuth: NDArray[np.float64]
    spacing_rad: float


def scan_lines(cloud: PointCloud) -> ScanLines:
    """Sort a sweep by ring and azimuth; sensors without rings are cut into bands of elevation.

    Raises:
        ValueError: fewer than 100 finite points off the origin.
    """
    xyz = cloud.xyz.astype(np.float64)
    kept = np.isfinite(xyz).all(1)
    kept &= np.linalg.norm(np.where(kept[:, None], xyz, 0), axis=1) > 0.3
    xyz = xyz[kept]
    if len(xyz) < 100:
        raise ValueError(f"the cloud has {len(xyz)} points with a range; at least 100 are needed")
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0])
    told = rings(cloud)
    ring = _bands(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))) if told is None else told[kept]
    order = np.lexsort((azimuth, ring))
    xyz, ring, azimuth = xyz[order], ring[order], azimuth[order]
    gaps = np.diff(azimuth)[np.diff(ring) == 0]
    gaps = gaps[gaps > 1e-5]
    return ScanLines(xyz, ring, azimuth, float(np.median(gaps)) if len(gaps) else _BAND_RAD)


def _bands(elevation: NDArray) -> NDArray[np.int64]:
    """Number the rings of a spinning sensor by the gaps between them, or bands where there are no gaps."""
    order = np.argsort(elevation)
    gaps = np.diff(elevation[order])
    number = np.r_[0, np.cumsum(gaps > _LEAST_GAP_RAD)]
    if number[-1] < 8:
        number = ((elevation[order] - elevation[order[0]]) / _BAND_RAD).astype(np.int64)
    ring = np.empty(len(elevation), np.int64)
    ring[order] = number
    return ring
