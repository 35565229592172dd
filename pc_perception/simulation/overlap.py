# SPDX-License-Identifier: Apache-2.0
"""Taking away things that stand inside others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation.scene import SceneObject

_RANK = {8: 0, 11: 2, 12: 2, 13: 2, 14: 2, 16: 3, 15: 3}
"""Who stays: buildings, then vehicles (those that move first), then people, then all the rest."""

_TREE = 5


def without_overlaps(objects: Sequence[SceneObject]) -> list[SceneObject]:
    """Drop every thing whose box, seen from above, cuts that of a more important or earlier one.

    Ground is kept; trees count with their trunks alone, since crowns hang over much.
    """
    order = sorted(range(len(objects)), key=lambda i: (_rank(objects[i]), i))
    things = [i for i in order if objects[i].is_thing]
    if not things:
        return list(objects)
    center, axis, half = _footprints([objects[i] for i in things])
    radius = np.hypot(half[:, 0], half[:, 1])
    alive = np.ones(len(things), bool)
    reach = radius.max()
    by_x = np.argsort(center[:, 0])
    x = center[by_x, 0]
    for k in range(len(things)):
        low, high = np.searchsorted(x, (center[k, 0] - radius[k] - reach, center[k, 0] + radius[k] + reach))
        near = by_x[low:high]
        near = near[(near < k) & alive[near]]
        gap = center[near] - center[k]
        near = near[(gap**2).sum(1) < (radius[near] + radius[k]) ** 2]
        if len(near) and _cuts(center, axis, half, k, near).any():
            alive[k] = False
    dropped = {things[k] for k in np.flatnonzero(~alive)}
    return [o for i, o in enumerate(objects) if i not in dropped]


def _rank(o: SceneObject) -> float:
    return _RANK.get(o.raw_class, 4) - 0.5 * o.is_dynamic


def _footprints(objects: Sequence[SceneObject]) -> tuple[NDArray, NDArray, NDArray]:
    """Centre, x axis and half size of every box on the ground, each (N, 2)."""
    poses = np.stack([o.T_world_object for o in objects])
    axis = poses[:, :2, 0] / np.linalg.norm(poses[:, :2, 0], axis=1, keepdims=True)
    local = np.stack([o.center[:2] for o in objects])
    half = np.stack([o.size[:2] for o in objects]) / 2
    tree = np.array([o.raw_class == _TREE for o in objects])
    local[tree], half[tree] = 0.0, 0.3
    left = np.stack([-axis[:, 1], axis[:, 0]], 1)
    center = poses[:, :2, 3] + local[:, :1] * axis + local[:, 1:] * left
    # Neighbours that only touch (terraced houses, pieces of a fence) are no overlap.
    return center, axis, half * 0.94 - 0.05


def _cuts(center: NDArray, axis: NDArray, half: NDArray, k: int, near: NDArray) -> NDArray:
    """(len(near),) bool by the separating axis test of rectangles."""
    gap = center[near] - center[k]
    c = axis[near] @ axis[k]
    s = axis[near, 1] * axis[k, 0] - axis[near, 0] * axis[k, 1]
    c, s = np.abs(c), np.abs(s)
    a, b = half[k], half[near]

    def along(v: NDArray) -> NDArray:
        return np.abs((gap * v).sum(-1))

    def across(v: NDArray) -> NDArray:
        return np.abs(gap[:, 1] * v[..., 0] - gap[:, 0] * v[..., 1])

    return (
        (along(axis[k]) < a[0] + b[:, 0] * c + b[:, 1] * s)
        & (across(axis[k]) < a[1] + b[:, 0] * s + b[:, 1] * c)
        & (along(axis[near]) < b[:, 0] + a[0] * c + a[1] * s)
        & (across(axis[near]) < b[:, 1] + a[0] * s + a[1] * c)
    )
