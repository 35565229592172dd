# SPDX-License-Identifier: Apache-2.0
"""Height above the local ground: the one quantity that makes sensors of different mounting alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional

from .backend import resolve
from .cells import cells_of


def height_above_ground(
    xyz: Tensor, cell: float = 1.0, slopes: Sequence[float] = (0.25,), backend: str | None = None
) -> Tensor:
    """Return the height of every point above lower envelopes of the cloud.

    The ground of a cell is the largest height that no cell's lowest point contradicts, where ground
    may rise by ``slope`` per metre: ``ground(c) = min over c' of low(c') + slope * distance(c, c')``
    (the lower envelope of cones, computed as two chamfer sweeps of Borgefors' 3-4 distance). A cell's
    lowest point counts only when the same cell holds a second one within 0.3 m above it (else the second
    lowest counts), so single reflections under the road do not dig holes; where no cell of the whole
    cloud holds two points, single ones count.

    Args:
        xyz: (N, 3) float32, finite, metres, z up.
        cell: edge of a ground cell, metres; enlarged where the cloud would need over 4 million cells.
        slopes: steepest ground of each of K envelopes, metres per metre. A steep one follows hills and
            kerbs alike; above a gentle one, what lies a step higher than its surroundings stands out.

    Returns:
        (N, K) float32, metres; may be slightly negative at stray points. O(K (N + cells)). No gradient.
    """
    if len(xyz) == 0:
        return xyz.new_zeros(0, len(slopes))
    chosen = resolve(xyz.device, backend)
    if chosen == "triton":
        from .gpu.ground import heights

        if (found := heights(xyz, cell, slopes)) is not None:
            return found
    flat, shape, cell = cells_of(xyz, cell, backend)
    n_cells = shape[0] * shape[1]
    if chosen == "numba":
        z = np.ascontiguousarray(xyz[:, 2].numpy())
        lowest = torch.from_numpy(_lowest_supported(z, flat.numpy(), n_cells)).reshape(shape)
    else:
        lowest = _lowest_supported_torch(xyz[:, 2], flat, n_cells).reshape(shape)
    if chosen == "torch":
        envelopes = [_relax_torch(lowest, slope * cell) for slope in slopes]
    else:  # on a GPU too, where a side has more cells than a program holds
        host = lowest.cpu()
        envelopes = [_envelope(host, slope * cell).to(xyz.device) for slope in slopes]
    return torch.stack([xyz[:, 2] - envelope.reshape(-1).index_select(0, flat) for envelope in envelopes], 1)


def _envelope(lowest: Tensor, rise: float) -> Tensor:
    envelope = lowest.clone()
    _sweep(envelope.numpy(), rise)
    return envelope


@njit(cache=True, nogil=True)
def _lowest_supported(z: np.ndarray, flat: np.ndarray, n_cells: int) -> np.ndarray:
    lowest = np.full(n_cells, np.inf, np.float32)
    second = np.full(n_cells, np.inf, np.float32)
    for i in range(len(z)):
        c = flat[i]
        if z[i] < lowest[c]:
            second[c] = lowest[c]
            lowest[c] = z[i]
        elif z[i] < second[c]:
            second[c] = z[i]
    supported = False
    for c in range(n_cells):
        supported |= second[c] < np.inf
    if supported:
        for c in range(n_cells):
            if not second[c] - lowest[c] <= np.float32(0.3):
                lowest[c] = second[c]
    return lowest


@njit(cache=True, nogil=True)
def _sweep(grid: np.ndarray, rise: float) -> None:
    height, width = grid.shape
    straight, diagonal = np.float32(rise), np.float32(rise * 4 / 3)
    for i in range(height):
        for j in range(width):
            v = grid[i, j]
            if i > 0:
                v = min(v, grid[i - 1, j] + straight)
                if j > 0:
                    v = min(v, grid[i - 1, j - 1] + diagonal)
                if j + 1 < width:
                    v = min(v, grid[i - 1, j + 1] + diagonal)
            if j > 0:
                v = min(v, grid[i, j - 1] + straight)
            grid[i, j] = v
    for i in range(height - 1, -1, -1):
        for j in range(width - 1, -1, -1):
            v = grid[i, j]
            if i + 1 < height:
                v = min(v, grid[i + 1, j] + straight)
                if j > 0:
                    v = min(v, grid[i + 1, j - 1] + diagonal)
                if j + 1 < width:
                    v = min(v, grid[i + 1, j + 1] + diagonal)
            if j + 1 < width:
                v = min(v, grid[i, j + 1] + straight)
            grid[i, j] = v


def _lowest_supported_torch(z: Tensor, flat: Tensor, n_cells: int) -> Tensor:
    order = torch.argsort(z, stable=True)
    order = order[torch.argsort(flat[order], stable=True)]
    cells, counts = torch.unique_consecutive(flat[order], return_counts=True)
    start = counts.cumsum(0) - counts
    lowest = z[order[start]]
    second = torch.where(counts > 1, z[order[(start + 1).clamp(max=len(z) - 1)]], torch.inf)
    grid = z.new_full((n_cells,), torch.inf)
    if bool((counts > 1).any()):
        lowest = torch.where(second - lowest <= 0.3, lowest, second)
    grid[cells] = lowest
    return grid


def _relax_torch(grid: Tensor, rise: float) -> Tensor:
    """Repeat one-cell relaxations until nothing changes: the same envelope as the two sweeps."""
    cost = grid.new_tensor([[4 / 3, 1, 4 / 3], [1, 0, 1], [4 / 3, 1, 4 / 3]]) * rise
    while True:
        padded = functional.pad(grid[None, None], (1, 1, 1, 1), value=torch.inf)[0, 0]
        windows = padded.unfold(0, 3, 1).unfold(1, 3, 1) + cost
        relaxed = windows.amin((-1, -2))
        if torch.equal(relaxed, grid):
            return grid
        grid = relaxed
