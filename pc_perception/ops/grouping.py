# SPDX-License-Identifier: Apache-2.0
"""Neighbourhoods of voxels and the maximum over them, with gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .nine_rows import OFFSET_BITS, list_neighbors
from .parallel import run_blocks
from .row_maximum import highest


@dataclass(frozen=True)
class Neighborhood:
    """Ragged neighbour lists (compressed rows).

    Attributes:
        starts: (M + 1,) int64; row i's neighbours are ``index[starts[i]:starts[i + 1]]``.
        index: (E,) int64, rows of the feature matrix that the lists point into.
    """

    starts: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    def to(self, device: torch.device) -> Neighborhood:
        """Return the lists on ``device``."""
        return Neighborhood(self.starts.to(device), self.index.to(device))

    @staticmethod
    def of_runs(row_of: Tensor, n_rows: int) -> Neighborhood:
        """Return the lists of the members of each row, given the ascending (N,) row of each member."""
        starts = torch.zeros(n_rows + 1, dtype=torch.int64, device=row_of.device)
        starts[1:] = torch.bincount(row_of, minlength=n_rows).cumsum(0)
        return Neighborhood(starts, torch.arange(len(row_of), device=row_of.device))


def voxel_neighbors(coords: Tensor, backend: str | None = None) -> Neighborhood:
    """List, for every voxel, the occupied ones among itself and its 26 neighbours.

    Args:
        coords: (M, 3) int64, distinct, each in 0 .. 2^20 - 1 (``Voxels.coords``).

    Returns:
        ``Neighborhood`` with each list in the order of the offsets (z outermost, x innermost); the
        voxel itself is always in its list. Identical on all backends. O(M) on the CPU, O(27 M) by Triton, else
        O(27 M log M).
    """
    chosen = resolve(coords.device, backend)
    if chosen == "triton":
        from .gpu.grouping import voxel_neighbors as voxel_neighbors_triton

        return Neighborhood(*voxel_neighbors_triton(coords))
    if chosen == "numba":
        lists, count = np.empty((len(coords), 27), np.uint32), np.empty(len(coords), np.int32)
        list_neighbors(coords.numpy(), lists, count)
        compressed = _compress(lists, count)
        return Neighborhood(torch.from_numpy(compressed[0]), torch.from_numpy(compressed[1]))
    key = _pack(coords)
    ordered, order = torch.sort(key)
    step = torch.arange(-1, 2, device=coords.device)
    dz, dy, dx = torch.meshgrid(step, step, step, indexing="ij")
    offsets = torch.stack([dx, dy, dz], -1).reshape(-1, 3)
    wanted = key[:, None] + (_pack(offsets) - _pack(torch.zeros_like(offsets[:1])))
    place = torch.searchsorted(ordered, wanted).clamp_(max=max(len(key) - 1, 0))
    found = ordered[place] == wanted
    starts = torch.zeros(len(key) + 1, dtype=torch.int64, device=coords.device)
    starts[1:] = found.sum(1).cumsum(0)
    return Neighborhood(starts, order[place[found]])


def _pack(coords: Tensor) -> Tensor:
    """One integer per voxel whose differences add up like coordinates' (no carry into the next axis)."""
    c = coords + 1
    return c[:, 0] + (c[:, 1] << 21) + (c[:, 2] << 42)


@njit(cache=True, nogil=True)
def _compress(lists: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.zeros(len(count) + 1, np.int64)
    for i in range(len(count)):
        starts[i + 1] = starts[i] + count[i]
    index = np.empty(starts[-1], np.int64)
    for i in range(len(count)):
        for e in range(count[i]):
            index[starts[i] + e] = lists[i, e] >> OFFSET_BITS
    return starts, index


def neighbor_max(features: Tensor, neighborhood: Neighborhood, backend: str | None = None) -> Tensor:
    """Take the elementwise maximum of the features over each neighbour list.

    Args:
        features: (N, C) float.
        neighborhood: lists into the rows of ``features``; every list must hold at least one row.

    Returns:
        (M, C). The gradient goes to the first row that reached the maximum. O(E C).
    """
    chosen = resolve(features.device, backend)
    if chosen == "triton":
        from .gpu.grouping import neighbor_max as neighbor_max_triton

        return neighbor_max_triton(features, neighborhood.starts, neighborhood.index)
    if chosen == "numba" and features.dtype == torch.float32:
        return _NeighborMax.apply(features, neighborhood.starts, neighborhood.index)
    lengths = neighborhood.starts.diff()
    row = torch.repeat_interleave(torch.arange(len(lengths), device=features.device), lengths)
    gathered = features[neighborhood.index]
    out = features.new_full((len(lengths), features.shape[1]), -torch.inf)
    return out.scatter_reduce(0, row[:, None].expand_as(gathered), gathered, "amax")


class _NeighborMax(torch.autograd.Function):
    """The Numba maximum over lists with its gradient, float32 on the CPU; shapes as in ``neighbor_max``."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, starts: Tensor, index: Tensor) -> Tensor:
        """Return the (M, C) maxima; where a gradient is wanted, remember which row won."""
        values = np.ascontiguousarray(features.detach().numpy())
        if not features.requires_grad:
            first, rows = starts.numpy(), index.numpy()
            best = np.empty((len(first) - 1, values.shape[1]), np.float32)
            run_blocks(lambda a, b: _max(values, first[a : b + 1], rows, best[a:b]), len(best))
            return torch.from_numpy(best)
        out, winner = _max_with_winner(values, starts.numpy(), index.numpy())
        ctx.winner, ctx.n_rows = winner, len(features)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Give each (M, C) gradient to the row that won; (N, C) for the features, none for the lists."""
        grad = np.ascontiguousarray(grads[0].numpy())
        return torch.from_numpy(_max_backward(grad, ctx.winner, ctx.n_rows)), None, None


@njit(cache=True, nogil=True)
def _max(features: np.ndarray, starts: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(out)):
        highest(features, index, starts[i], starts[i + 1], out[i])


@njit(cache=True, nogil=True)
def _max_with_winner(
    features: np.ndarray, starts: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    width = features.shape[1]
    out = np.empty((len(starts) - 1, width), features.dtype)
    winner = np.empty((len(starts) - 1, width), np.int32)
    for i in range(len(starts) - 1):
        j = np.int32(index[starts[i]])
        for c in range(width):
            out[i, c] = features[j, c]
            winner[i, c] = j
        for e in range(starts[i] + 1, starts[i + 1]):
            j = np.int32(index[e])
            for c in range(width):
                better = features[j, c] > out[i, c]
                out[i, c] = features[j, c] if better else out[i, c]
                winner[i, c] = j if better else winner[i, c]
    return out, winner


@njit(cache=True, nogil=True)
def _max_backward(grad: np.ndarray, winner: np.ndarray, n_rows: int) -> np.ndarray:
    out = np.zeros((n_rows, grad.shape[1]), grad.dtype)
    for i in range(len(grad)):
        for c in range(grad.shape[1]):
            out[winner[i, c], c] += grad[i, c]
    return out
