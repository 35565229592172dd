# SPDX-License-Identifier: Apache-2.0
"""Euclidean clustering: points that chains of short steps connect.

Rusu, "Semantic 3D object maps for everyday manipulation in human living environments", 2009, section 6.2.
Cells are so small that the points of one always belong together: the work does not grow with their density.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .voxel_table import build_table, find, pack
from .voxelize import voxelize

REACH = 2
"""Cells further apart than this along an axis cannot hold points within the distance."""


def euclidean_clusters(
    xyz: Tensor, distance: float, min_points: int = 1, backend: str | None = None
) -> Tensor:
    """Label the connected components of the graph that joins points at most ``distance`` apart.

    Args:
        xyz: (N, 3) float32, metres, any strides; float64 is rounded; N = 0 is allowed. Duplicates belong together.
        distance: metres.
        min_points: smaller components are no clusters.

    Returns:
        (N,) int64: clusters numbered from 0 by their lowest point index, -1 for points in none and for NaN and
        Inf. Identical on all backends. About O(N) on the CPU, O(N^2) a sweep by blocks with torch. No gradient.

    Raises:
        ValueError: a wrong shape, a distance that is not positive, or a cloud of over 2^20 distances across.
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ValueError(f"points must be (N, 3), they are {tuple(xyz.shape)}")
    if not 0 < distance < float("inf"):
        raise ValueError(f"the distance must be positive, it is {distance}")
    finite = torch.isfinite(xyz).all(1).nonzero()[:, 0]
    points = xyz.detach()[finite].to(torch.float32).contiguous()
    component = _components(points, distance, resolve(xyz.device, backend))
    labels = torch.full((len(xyz),), -1, dtype=torch.int64, device=xyz.device)
    labels[finite] = _number(component, min_points)
    return labels


def _components(points: Tensor, distance: float, backend: str) -> Tensor:
    """(N,) int64, the lowest point index of each point's component."""
    limit = np.float32(distance) * np.float32(distance)
    if backend == "torch":
        return _components_torch(points, float(limit))
    if backend == "triton":
        from .gpu.clusters import components

        parent = torch.empty(len(points), dtype=torch.int64, device=points.device)
        components(points, float(limit), parent)
        return parent
    # A little less than distance / sqrt(3), so that rounding cannot part two points of one cell.
    cells = voxelize(points, 0.999 * distance / sqrt(3), backend)
    order = torch.argsort(cells.inverse, stable=True)
    starts = torch.zeros(len(cells) + 1, dtype=torch.int64)
    starts[1:] = torch.bincount(cells.inverse, minlength=len(cells)).cumsum(0)
    root = _join_cells(points[order].numpy(), starts.numpy(), cells.coords.numpy(), limit)
    first = order[starts[:-1]]
    lowest = torch.full_like(first, len(points)).scatter_reduce_(0, torch.from_numpy(root), first, "amin")
    return lowest[torch.from_numpy(root)][cells.inverse]


def _number(component: Tensor, min_points: int) -> Tensor:
    """Number components of at least ``min_points`` points in the order of their lowest index, others -1."""
    _, inverse, counts = torch.unique(component, return_inverse=True, return_counts=True)
    kept = counts >= min_points
    return torch.where(kept, kept.cumsum(0) - 1, -1)[inverse]


def _components_torch(points: Tensor, limit: float) -> Tensor:
    """Take the lowest label in reach, then the label of that label, until nothing changes."""
    n = len(points)
    label = torch.arange(n, device=points.device)
    rows = max(1, (1 << 22) // max(n, 1))
    x, y, z = points.unbind(1)
    while n:
        parts = []
        for part in points.split(rows):
            u, v, w = (t[:, None] for t in part.unbind(1))
            near = (u - x).square() + (v - y).square() + (w - z).square() <= limit
            parts.append(torch.where(near, label, n).amin(1))
        lower = torch.cat(parts)
        lower = torch.minimum(lower, lower[lower])
        if torch.equal(lower, label):
            break
        label = lower
    return label


@njit(cache=True, nogil=True)
def _root(parent, cell):  # type: ignore[no-untyped-def]
    while parent[cell] != cell:
        parent[cell] = parent[parent[cell]]
        cell = parent[cell]
    return cell


@njit(cache=True, nogil=True)
def _join_cells(points: np.ndarray, starts: np.ndarray, coords: np.ndarray, limit: np.float32) -> np.ndarray:
    """Union-find over cells, whose points lie behind each other; returns the root of each cell."""
    parent = np.arange(len(coords))
    keys, rows, shift = build_table(coords)
    for cell in range(len(coords)):
        key = pack(coords[cell, 0], coords[cell, 1], coords[cell, 2])
        for dz in range(-REACH, 1):
            for dy in range(-REACH, REACH + 1):
                for dx in range(-REACH, REACH + 1):
                    if dz == 0 and (dy > 0 or (dy == 0 and dx >= 0)):
                        break  # the other half of the neighbours finds this cell itself
                    other = find(keys, rows, shift, key + dx + (dy << 21) + (dz << 42))
                    if other < 0:
                        continue
                    a, b = _root(parent, cell), _root(parent, other)
                    if a != b and _touch(points, starts, cell, other, limit):
                        parent[max(a, b)] = min(a, b)
    for cell in range(len(coords)):
        parent[cell] = _root(parent, cell)
    return parent


@njit(cache=True, nogil=True)
def _touch(points, starts, a, b, limit):  # type: ignore[no-untyped-def]
    for i in range(starts[a], starts[a + 1]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for j in range(starts[b], starts[b + 1]):
            dx, dy, dz = x - points[j, 0], y - points[j, 1], z - points[j, 2]
            if dx * dx + dy * dy + dz * dz <= limit:
                return True
    return False
