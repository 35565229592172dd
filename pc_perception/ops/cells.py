# SPDX-License-Identifier: Apache-2.0
"""A grid of vertical columns over the ground, and which of them every point stands in."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .columns import columns_of

MAX_CELLS = 4_000_000
MAX_SIDE = 20_000
"""Edges that the cloud's extent may hold along an axis."""


def cells_of(xyz: Tensor, cell: float, backend: str | None = None) -> tuple[Tensor, tuple[int, int], float]:
    """Number the columns of edge ``cell`` row by row, from the least x and y of the cloud.

    Args:
        xyz: (N, 3) float32, finite, metres, N > 0.
        cell: metres; enlarged where the cloud would need over ``MAX_CELLS`` columns or be over ``MAX_SIDE`` long.

    Returns:
        (N,) int64 column of every point, how many columns there are along x and y, and their edge. Identical
        on both backends. O(N).
    """
    if resolve(xyz.device, backend) == "numba" and xyz.dtype == torch.float32:
        x, y, _ = columns_of(xyz.numpy())
        low = np.array([x.min(), y.min()])
        extent = np.array([x.max(), y.max()]) - low
        edge = np.float32(large_enough(cell, extent.astype(np.float64)))
        height, width = (int(np.floor(e / edge)) + 1 for e in extent)
        flat = np.empty(len(xyz), np.int64)
        _flat(x, y, low[0], low[1], edge, width, flat)
        return torch.from_numpy(flat), (height, width), float(edge)
    low_xy = xyz.amin(0)[:2]
    extent_xy = xyz.amax(0)[:2] - low_xy
    step = xyz.new_tensor(large_enough(cell, extent_xy.double().cpu().numpy()))
    ij = ((xyz[:, :2] - low_xy) / step).floor().to(torch.int64)
    height, width = ((extent_xy / step).floor().to(torch.int64) + 1).tolist()
    return ij[:, 0] * width + ij[:, 1], (height, width), float(step)


def large_enough(cell: float, extent: np.ndarray) -> float:
    """Return the edge, at least ``cell``, that keeps (2,) float64 ``extent`` within the limits; metres."""
    return max(cell, float(np.sqrt(extent[0] * extent[1] / MAX_CELLS)), float(extent.max()) / MAX_SIDE)


@njit(cache=True, nogil=True)
def _flat(x, y, low_x, low_y, cell, width, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = np.int64(np.floor((x[i] - low_x) / cell)) * width + np.int64(np.floor((y[i] - low_y) / cell))
