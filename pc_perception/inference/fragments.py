# SPDX-License-Identifier: Apache-2.0
"""Give fragments back to the objects that they lie in: seats behind a window, a hood before a roof."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .instances import Instances

MARGIN_M = 0.3
"""A fragment's middle may lie so far outside the box."""
LARGEST_M2 = 20.0
"""Larger boxes are of bent fences and walls, and hold other objects."""


def join_fragments(
    found: Instances, boxes: NDArray[np.float64], classes: NDArray[np.uint16] | None = None
) -> Instances:
    """Return the objects with each that stands in the box of one with more points joined to it.

    Args:
        found: K objects.
        boxes: (K, 7) of their visible points, as ``fit_boxes`` gives them.
        classes: (N,) labels that objects were clustered by; only those of one label are joined.
    """
    members = np.flatnonzero(found.index >= 0)
    own = found.index[members]
    n_points = np.bincount(own, minlength=found.count)
    label = np.zeros(found.count, np.int64)
    if classes is not None:
        label[own] = classes[members]
    holds = _holds(boxes) & (n_points[:, None] > n_points) & (label[:, None] == label)
    held = np.flatnonzero(holds.any(0))
    if not len(held):
        return found
    # Every one goes to that of most points that holds it, which has more than itself: no circles.
    parent = np.arange(found.count)
    parent[held] = np.where(holds[:, held], n_points[:, None], -1).argmax(0)
    while not np.array_equal(parent, parent[parent]):
        parent = parent[parent]
    kept = np.flatnonzero(parent == np.arange(found.count))
    number = np.zeros(found.count, np.int64)
    number[kept] = np.arange(len(kept))
    index = found.index.copy()
    index[members] = number[parent[own]]
    return Instances(index, len(kept), found.height)


def _holds(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(K, K): whether the middle of the second lies in the box of the first, over the ground."""
    apart = boxes[None, :, :2] - boxes[:, None, :2]
    c, s = np.cos(boxes[:, 6])[:, None], np.sin(boxes[:, 6])[:, None]
    along, across = apart[..., 0] * c + apart[..., 1] * s, apart[..., 1] * c - apart[..., 0] * s
    reach = boxes[:, 3:5] / 2 + MARGIN_M
    small = boxes[:, 3] * boxes[:, 4] < LARGEST_M2
    return (np.abs(along) <= reach[:, :1]) & (np.abs(across) <= reach[:, 1:]) & small[:, None]
