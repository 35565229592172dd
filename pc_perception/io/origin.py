# SPDX-License-Identifier: Apache-2.0
"""Coordinates too large for float32 metres (UTM and the like): move the origin, and remember where to.

float32 resolves 637,012 m to 6 cm only, so such a file is read relative to an origin on whole kilometres
and the frame's name says which: ``offset_637000_849000_0``. Writers put the coordinates back.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud

_FAR_M = 10_000.0  # float32 steps are 1 mm here
_GRID_M = 1000.0
_FRAME = re.compile(r"offset_(-?\d+)_(-?\d+)_(-?\d+)")


def shift_origin(xyz: NDArray) -> tuple[NDArray[np.float32], str]:
    """Return (N, 3) float32 coordinates and the frame's name, empty where nothing was moved."""
    with np.errstate(invalid="ignore"):  # NaNs of every kind
        wide = xyz.astype(np.float64)
    finite = wide[np.isfinite(wide).all(axis=1)]
    origin, frame = np.zeros(3), ""
    if len(finite) and (np.abs(np.median(finite, axis=0)) > _FAR_M).any():
        origin = np.floor(np.median(finite, axis=0) / _GRID_M) * _GRID_M
        frame = "offset_{:.0f}_{:.0f}_{:.0f}".format(*(origin + 0.0))
    with np.errstate(over="ignore"):  # damaged values beyond float32 become infinite: no points
        return (wide - origin).astype(np.float32), frame


def true_coordinates(cloud: PointCloud) -> NDArray:
    """Return the (N, 3) coordinates before ``shift_origin``: float64 where it moved them."""
    match = _FRAME.fullmatch(cloud.frame)
    if match is None:
        return cloud.xyz
    return cloud.xyz.astype(np.float64) + np.array([float(g) for g in match.groups()])
