# SPDX-License-Identifier: Apache-2.0
"""Points that were measured one after the other while the sensor moved, brought to one moment by its poses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import transform

LONGEST_SWEEP_S = 0.5
"""A field ``time`` beyond this is not seconds after the stamp; it is left alone."""
_N_POSES = 5


def sweep_time(cloud: PointCloud) -> NDArray[np.float32] | None:
    """Return (N,) float32 seconds after the stamp; None where the cloud has none that make sense."""
    time_s = cloud.fields.get("time")
    if time_s is None or not len(time_s):
        return None
    time_s = np.asarray(time_s, np.float32)
    fits = np.isfinite(time_s).all() and np.abs(time_s).max() <= LONGEST_SWEEP_S
    return time_s if fits else None


def carried(
    cloud: PointCloud, T_target_sensor: Callable[[int], NDArray[np.float64]], stamp_ns: int, undistort: bool
) -> PointCloud:
    """Return the cloud as the sensor would have seen it at another time, from where it was then.

    The sensor's way within a sweep is taken through five of its poses, straight from one to the next.

    Args:
        T_target_sensor: gives (4, 4) from the sensor at a time (ns) to the sensor at ``stamp_ns``.
        stamp_ns: the time wanted; the result's stamp.
        undistort: each point was measured at its ``time`` after the stamp; False (the driver put that right), or
            a cloud without that field: all at the stamp.

    Raises:
        Exception: what ``T_target_sensor`` raises where a pose is not known.
    """
    time_s = sweep_time(cloud) if undistort else None
    if time_s is None:
        xyz = transform(T_target_sensor(cloud.stamp_ns), cloud.xyz)
        return replace(cloud, xyz=xyz, stamp_ns=stamp_ns)
    first, last = float(time_s.min()), float(time_s.max())
    knots = np.linspace(first, last, _N_POSES)
    poses = [T_target_sensor(cloud.stamp_ns + round(t * 1e9)) for t in knots]
    place = (time_s - first) * ((_N_POSES - 1) / max(last - first, 1e-9))
    before = np.clip(place.astype(np.int64), 0, _N_POSES - 2)
    share = (place - before)[:, None].astype(np.float32)
    points = np.arange(len(cloud))
    with np.errstate(invalid="ignore"):  # NaN and Inf stay what they are, or become NaN
        seen = np.stack([transform(T, cloud.xyz) for T in poses])
        xyz = (1 - share) * seen[before, points] + share * seen[before + 1, points]
    return replace(cloud, xyz=xyz, stamp_ns=stamp_ns)
