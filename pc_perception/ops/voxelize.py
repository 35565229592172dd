# SPDX-License-Identifier: Apache-2.0
"""Voxels of a cloud, in Z-order, with the index that leads every point back to its voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .serialize import BITS, z_order

ALIGNMENT = 32
"""The origin is a multiple of this many voxels, so that five poolings by two keep one lattice."""


@dataclass(frozen=True)
class Voxels:
    """Occupied voxels of one cloud, sorted along the Z-order curve.

    Attributes:
        coords: (M, 3) int64, voxel coordinates relative to an aligned origin, all >= 0.
        codes: (M,) int64, ascending Z-order codes of ``coords``.
        inverse: (N,) int64, the voxel of every input point.
    """

    coords: Tensor
    codes: Tensor
    inverse: Tensor

    def __len__(self) -> int:
        return len(self.codes)


def voxelize(xyz: Tensor, grid: float, backend: str | None = None) -> Voxels:
    """Find the occupied voxels of edge ``grid`` and the voxel of every point.

    Args:
        xyz: (N, 3) float32, finite, metres.
        grid: voxel edge, metres.
        backend: ``torch``, ``numba`` or None for the choice by device.

    Returns:
        ``Voxels``; both backends give identical results. O(N log N); no gradient.

    Raises:
        ValueError: ``grid`` is not positive, or the cloud spans more than 2^20 voxels on an axis.
    """
    if not grid > 0:
        raise ValueError(f"the voxel edge must be positive, got {grid}")
    if len(xyz) == 0:
        empty = torch.zeros(0, dtype=torch.int64, device=xyz.device)
        return Voxels(empty.reshape(0, 3), empty, empty)
    ends = torch.floor(torch.stack(torch.aminmax(xyz, dim=0)).double() / grid)
    low = torch.floor(ends[0] / ALIGNMENT) * ALIGNMENT
    if float((ends[1] - low).max()) >= 2**BITS:
        extent = (xyz.amax(0) - xyz.amin(0)).tolist()
        raise ValueError(f"the cloud spans {extent} m: more than 2^{BITS} voxels of {grid} m; crop it first")
    if resolve(xyz.device, backend) == "numba" and xyz.dtype == torch.float32:
        lattice, keys = _lattice(xyz.numpy(), grid, low.numpy())
        heads, voxel = _runs(keys, np.argsort(keys, kind="stable"))
        return Voxels(*(torch.from_numpy(a) for a in (lattice[heads], keys[heads], voxel)))
    coords = (torch.floor(xyz.double() / grid) - low).to(torch.int64)
    codes = z_order(coords)
    unique, inverse = torch.unique(codes, sorted=True, return_inverse=True)
    first = torch.full_like(unique, len(xyz)).scatter_reduce_(
        0, inverse, torch.arange(len(xyz), device=xyz.device), "amin"
    )
    return Voxels(coords[first], unique, inverse)


@njit(cache=True, nogil=True)
def _lattice(xyz: np.ndarray, grid: float, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxel coordinates (N, 3) of points and their Z-order codes (N,), int64."""
    coords = np.empty(xyz.shape, np.int64)
    codes = np.empty(len(xyz), np.int64)
    for i in range(len(xyz)):
        code = np.int64(0)
        for k in range(3):
            v = np.int64(np.floor(np.float64(xyz[i, k]) / grid) - low[k])
            coords[i, k] = v
            # As ``serialize.z_order``: two zero bits before each bit.
            v = (v | v << 32) & 0x1F00000000FFFF
            v = (v | v << 16) & 0x1F0000FF0000FF
            v = (v | v << 8) & 0x100F00F00F00F00F
            v = (v | v << 4) & 0x10C30C30C30C30C3
            v = (v | v << 2) & 0x1249249249249249
            code |= v << k
        codes[i] = code
    return coords, codes


@njit(cache=True, nogil=True)
def _runs(codes: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First index of each run of equal codes along ``order``, and the run of every element."""
    n = len(order)
    first = np.empty(n, np.int64)
    inverse = np.empty(n, np.int64)
    m = -1
    last = np.int64(-1)
    for i in range(n):
        point = order[i]
        if codes[point] != last:
            m += 1
            last = codes[point]
            first[m] = point
        inverse[point] = m
    return first[: m + 1], inverse


def segment_mean(values: Tensor, index: Tensor, n_segments: int, backend: str | None = None) -> Tensor:
    """Average the rows of ``values`` (N, C) that share an ``index`` (N,) in 0 .. n_segments - 1.

    Returns:
        (n_segments, C), zero for an empty segment. Sums run in input order on the CPU. No gradient on
        the numba backend. O(N C).
    """
    if resolve(values.device, backend) == "numba":
        return torch.from_numpy(_segment_mean(values.detach().numpy(), index.numpy(), n_segments))
    total = values.new_zeros(n_segments, values.shape[1]).index_add_(0, index, values)
    count = torch.bincount(index, minlength=n_segments).clamp_(min=1)
    return total / count[:, None].to(values.dtype)


@njit(cache=True, nogil=True)
def _segment_mean(values: np.ndarray, index: np.ndarray, n_segments: int) -> np.ndarray:
    width = values.shape[1]
    out = np.zeros((n_segments, width), values.dtype)
    count = np.zeros(n_segments, values.dtype)
    for i in range(len(values)):
        s = index[i]
        count[s] += 1
        for c in range(width):
            out[s, c] += values[i, c]
    for s in range(n_segments):
        if count[s] > 1:
            for c in range(width):
                out[s, c] /= count[s]
    return out
