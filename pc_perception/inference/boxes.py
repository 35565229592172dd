# SPDX-License-Identifier: Apache-2.0
"""From the part of an object that a sensor sees to the box of the whole: level boxes, the sensor at the origin.

What is missing lies behind what is seen. So a box that is smaller than objects of its class are grows away
from the sensor, and down to the ground.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.ops.boxes import level_boxes

from .instances import Instances

TYPICAL_SIZES = {
    "car": (4.63, 1.97, 1.74),
    "truck": (6.93, 2.51, 2.84),
    "pedestrian": (0.73, 0.67, 1.77),
    "two_wheeler": (1.70, 0.60, 1.28),
    "cone": (0.41, 0.41, 1.07),
}
"""Length, width, height in metres: means of nuScenes' boxes, as OpenPCDet's configs list them for anchors."""
SHORT_SIDE = 1.25
"""A visible side up to so many typical widths is an end of an elongated object, a longer one is its flank."""
STANDS_M = 1.0
"""Lower parts than this above the ground stand on it; what hangs higher is left hanging."""


def fit_boxes(xyz: NDArray[np.float32], found: Instances) -> NDArray[np.float64]:
    """Return (K, 7) boxes of the visible points (``level_boxes``) that reach down to the ground.

    Args:
        xyz: (N, 3) float32, metres, z up, the points that ``found`` was found in.
    """
    rows = np.flatnonzero(found.index >= 0)
    index = found.index[rows]
    boxes = level_boxes(torch.from_numpy(xyz[rows]), torch.from_numpy(index), found.count).numpy()
    gap = np.full(found.count, np.inf, np.float32)
    np.minimum.at(gap, index, found.height[rows])
    down = np.where(gap < STANDS_M, np.maximum(gap, 0), 0)
    boxes[:, 5] += down
    boxes[:, 2] -= down / 2
    return boxes


def complete_boxes(boxes: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    """Return (K, 7) boxes at least as large as is typical of the class, grown away from the sensor at the origin.

    Args:
        boxes: (K, 7) centre, length, width, height, heading, as ``fit_boxes`` gives them.
        names: K class names; boxes of classes without a typical size stay as they are.
    """
    out = boxes.copy()
    known = np.array([k for k, name in enumerate(names) if name in TYPICAL_SIZES], dtype=int)
    if not len(known):
        return out
    typical = np.array([TYPICAL_SIZES[names[k]] for k in known])
    seen = out[known]
    end = (typical[:, 0] > SHORT_SIDE * typical[:, 1]) & (seen[:, 3] < SHORT_SIDE * typical[:, 1])
    seen[end, 3:5] = seen[end, 4:2:-1]
    seen[end, 6] += np.pi / 2
    more = np.maximum(typical - seen[:, 3:6], 0)
    for axis, angle in enumerate((seen[:, 6], seen[:, 6] + np.pi / 2)):
        direction = np.stack([np.cos(angle), np.sin(angle)], 1)
        away = (seen[:, :2] * direction).sum(1)
        # Right beside or before the sensor both ends are equally likely to be cut off.
        side = np.where(np.abs(away) > seen[:, 3 + axis] / 2, np.sign(away), 0)
        seen[:, :2] += (side * more[:, axis] / 2)[:, None] * direction
    seen[:, 2] += more[:, 2] / 2
    seen[:, 3:6] += more
    seen[:, 6] = half_turn(seen[:, 6])
    out[known] = seen
    return out


def half_turn(heading: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return headings of sides that look alike from both ends, radians, in (-pi/2, pi/2]."""
    return -((-heading + np.pi / 2) % np.pi - np.pi / 2)
