# SPDX-License-Identifier: Apache-2.0
"""Choose a shipped model by what a cloud is, when nobody named one."""

from __future__ import annotations

import numpy as np

from pc_perception.cloud import PointCloud

from .upright import is_view

LARGEST_ROOM_M = 40.0


def choose_model(cloud: PointCloud) -> tuple[str, str]:
    """Return the shipped model's name and the reason in a few words.

    A camera's view and a coloured cloud of a room's extent get ``room``; everything else ``street``.
    """
    if is_view(cloud):
        return "room", "a camera's view"
    if "rgb" in cloud.fields and len(cloud):
        finite = cloud.xyz[cloud.finite()]
        low, high = np.percentile(finite, [1, 99], axis=0) if len(finite) else np.zeros((2, 3))
        extent = float((high - low)[:2].max())
        if extent <= LARGEST_ROOM_M:
            return "room", f"a coloured cloud {extent:.0f} m across"
        return "street", f"a coloured cloud {extent:.0f} m across, too large for a room"
    return "street", "no colour, no camera's view"
