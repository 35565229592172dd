# SPDX-License-Identifier: Apache-2.0
"""Choose a shipped model by what a cloud is, when nobody named one."""

from __future__ import annotations

import numpy as np

from pc_perception.cloud import PointCloud

from .upright import camera_axes

LARGEST_ROOM_M = 40.0


def choose_model(cloud: PointCloud) -> tuple[str, str]:
    """Return the shipped model's name and the reason in a few words.

    A camera's view along z and a coloured cloud of a room's extent get ``room``; everything else ``street``.
    """
    axes = camera_axes(cloud)
    # A coloured view along x may be a LiDAR's on a street, which z up suits as it is.
    if axes is not None and not np.array_equal(axes, np.eye(3)):
        return "room", "a camera's view"
    if "rgb" in cloud.fields and len(cloud):
        finite = cloud.xyz[cloud.finite()]
        low, high = np.percentile(finite, [1, 99], axis=0) if len(finite) else np.zeros((2, 3))
        extent = float((high - low)[:2].max())
        if extent <= LARGEST_ROOM_M:
            return "room", f"a coloured cloud {extent:.0f} m across"
        return "street", f"a coloured cloud {extent:.0f} m across, too large for a room"
    return "street", "no colour, no camera's view"
