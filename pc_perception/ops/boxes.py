# SPDX-License-Identifier: Apache-2.0
"""Level boxes around groups of points, turned to the side or corner that a sensor sees of each.

Zhang, Xu, Dong and Dolan, "Efficient L-shape fitting for vehicle detection using laser scanners", IEEE IV 2017:
of all headings, the one whose rectangle has the points closest to its edges (algorithm 2 with the closeness
criterion, algorithm 4).
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve

LEAST_DISTANCE_M = 0.05
"""Points nearer to an edge than this count alike: the noise of a LiDAR (d0 of the paper)."""


def level_boxes(
    xyz: Tensor, group: Tensor, n_groups: int, n_angles: int = 60, backend: str | None = None
) -> Tensor:
    """Fit a box with a level base to each group of points.

    Args:
        xyz: (N, 3) float32 or float64, finite, metres, z up.
        group: (N,) int64, 0 .. n_groups - 1; points with -1 belong to none.
        n_groups: K.
        n_angles: headings that are tried, over a quarter turn.

    Returns:
        (K, 7) float64 on the device of ``xyz``: centre x, y, z, length along the heading, width (<= length), height,
        heading in radians counter-clockwise from x, in (-pi/2, pi/2]. NaN for a group without points. Every
        point lies in its box. O(N n_angles). No gradient.

    Raises:
        ValueError: a wrong shape, or a group out of range.
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3 or group.shape != xyz.shape[:1] or n_angles < 1:
        raise ValueError(
            f"needs (N, 3) points, (N,) groups and an angle, got {tuple(xyz.shape)}, {tuple(group.shape)}, {n_angles}"
        )
    if len(group) and not (int(group.min()) >= -1 and int(group.max()) < n_groups):
        raise ValueError(f"a group is outside -1 .. {n_groups - 1}")
    order = torch.argsort(group, stable=True)
    counts = torch.bincount(group + 1, minlength=n_groups + 1)
    starts = counts.cumsum(0)
    points = xyz.detach()[order].double()
    angles = torch.arange(n_angles, dtype=torch.float64, device=xyz.device) * (torch.pi / 2 / n_angles)
    if resolve(xyz.device, backend) == "numba":
        boxes = np.full((n_groups, 7), np.nan)
        _fit(points.numpy(), starts.numpy(), angles.numpy(), LEAST_DISTANCE_M, boxes)
        return torch.from_numpy(boxes)
    out = points.new_full((n_groups, 7), torch.nan)
    for k, (a, b) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
        if a < b:
            out[k] = _fit_torch(points[a:b], angles)
    return out


def _fit_torch(points: Tensor, angles: Tensor) -> Tensor:
    origin = points[0].clone()
    x, y, z = (points - origin).unbind(1)
    c, s = angles.cos()[:, None], angles.sin()[:, None]
    along, across = x * c + y * s, y * c - x * s
    distance = torch.minimum(_to_edge(along), _to_edge(across))
    score = (1 / distance.clamp(min=LEAST_DISTANCE_M)).sum(1)
    best = int(torch.nonzero(score == score.max())[0])
    u, v, angle = along[best], across[best], angles[best]
    middle_u, middle_v = (u.min() + u.max()) / 2, (v.min() + v.max()) / 2
    length, width = u.max() - u.min(), v.max() - v.min()
    c, s = angle.cos(), angle.sin()
    center = torch.stack([middle_u * c - middle_v * s, middle_u * s + middle_v * c, (z.min() + z.max()) / 2])
    if width > length:
        length, width, angle = width, length, angle + torch.pi / 2
    if angle > torch.pi / 2:
        angle = angle - torch.pi
    return torch.cat([center + origin, torch.stack([length, width, z.max() - z.min(), angle])])


def _to_edge(along: Tensor) -> Tensor:
    """Distance of (A, n) coordinates to the edge, at the least or the greatest, that is nearer in all."""
    low = along - along.amin(1, keepdim=True)
    high = along.amax(1, keepdim=True) - along
    return torch.where((low.square().sum(1) < high.square().sum(1))[:, None], low, high)


@njit(cache=True, nogil=True)
def _fit(points, starts, angles, least, boxes):  # type: ignore[no-untyped-def]
    along, across = np.empty(len(points)), np.empty(len(points))
    for k in range(len(boxes)):
        a, b = starts[k], starts[k + 1]
        if a == b:
            continue
        ox, oy = points[a, 0], points[a, 1]
        best, best_score = 0, -1.0
        for i in range(len(angles)):
            c, s = np.cos(angles[i]), np.sin(angles[i])
            for j in range(a, b):
                x, y = points[j, 0] - ox, points[j, 1] - oy
                along[j], across[j] = x * c + y * s, y * c - x * s
            u, v = along[a:b], across[a:b]
            u0, u1, v0, v1 = u.min(), u.max(), v.min(), v.max()
            low_u = low_v = high_u = high_v = 0.0
            for j in range(b - a):
                low_u += (u[j] - u0) ** 2
                high_u += (u1 - u[j]) ** 2
                low_v += (v[j] - v0) ** 2
                high_v += (v1 - v[j]) ** 2
            at_low_u, at_low_v = low_u < high_u, low_v < high_v
            score = 0.0
            for j in range(b - a):
                d = u[j] - u0 if at_low_u else u1 - u[j]
                e = v[j] - v0 if at_low_v else v1 - v[j]
                score += 1.0 / max(min(d, e), least)
            if score > best_score:
                best, best_score = i, score
                boxes[k, 3], boxes[k, 4] = u1 - u0, v1 - v0
                boxes[k, 0], boxes[k, 1] = (u0 + u1) / 2, (v0 + v1) / 2
        _finish(points[a:b], angles[best], boxes[k])


@njit(cache=True, nogil=True)
def _finish(points, angle, box):  # type: ignore[no-untyped-def]
    """Turn the middle back, add the height, and let the length be the longer side."""
    c, s = np.cos(angle), np.sin(angle)
    u, v = box[0], box[1]
    box[0], box[1] = u * c - v * s + points[0, 0], u * s + v * c + points[0, 1]
    z0, z1 = points[:, 2].min(), points[:, 2].max()
    box[2], box[5] = (z0 + z1) / 2, z1 - z0
    if box[4] > box[3]:
        box[3], box[4] = box[4], box[3]
        angle += np.pi / 2
    box[6] = angle - np.pi if angle > np.pi / 2 else angle
