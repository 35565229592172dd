# SPDX-License-Identifier: Apache-2.0
"""Voxels of a cloud, in Z-order, with the index that leads every point back to its voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .columns import columns_of
from .parallel import run_blocks
from .radix_sort import sort_codes
from .scatter import scatter_max, scatter_mean
from .serialize import BITS, gather_scalar, spread_scalar, z_order

ALIGNMENT = 32
"""The origin is a multiple of this many voxels, so that five poolings by two keep one lattice."""


@dataclass(frozen=True)
class Voxels:
    """Occupied voxels of one cloud, sorted along the Z-order curve.

    Attributes:
        coords: (M, 3) int64, voxel coordinates relative to an aligned origin, all >= 0.
        codes: (M,) int64, ascending Z-order codes of ``coords``.
        inverse: (N,) int64, the voxel of every input point.
        first: (M,) int64, the lowest index of the points in each voxel.
    """

    coords: Tensor
    codes: Tensor
    inverse: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.codes)


def voxelize(xyz: Tensor, grid: float, backend: str | None = None) -> Voxels:
    """Find the occupied voxels of edge ``grid`` and the voxel of every point.

    Args:
        xyz: (N, 3) float32, metres, any strides; float64 keeps its precision, on torch. N = 0 is allowed.
        grid: voxel edge, metres.
        backend: ``torch``, ``numba``, ``triton`` or None for the choice by device.

    Returns:
        ``Voxels``; all backends give identical results. Sorted by radix on the CPU: O(N), else O(N log N); no
        gradient. ``ops.gpu.voxelize.voxelize_into`` is the form for CUDA graphs, with buffers of fixed size.

    Raises:
        ValueError: ``grid`` is not positive, NaN or Inf among the points, or the cloud spans more than 2^20
            voxels on an axis. Where it lies does not matter.
    """
    if not grid > 0:
        raise ValueError(f"the voxel edge must be positive, got {grid}")
    if len(xyz) == 0:
        empty = torch.zeros(0, dtype=torch.int64, device=xyz.device)
        return Voxels(empty.reshape(0, 3), empty, empty, empty)
    xyz = xyz.detach()
    chosen = resolve(xyz.device, backend)
    if chosen == "triton" and xyz.dtype in (torch.float32, torch.float64):
        from .gpu.voxelize import voxelize as voxelize_triton

        if (found := voxelize_triton(xyz, grid)) is not None:
            return Voxels(*found)  # else the reference says what is wrong
    if chosen == "numba" and xyz.dtype == torch.float32:
        columns = columns_of(xyz.contiguous().numpy())
        ends = np.stack([columns.min(1), columns.max(1)])
        origin, bits = _span(ends.astype(np.float64), grid)
        codes = np.empty(len(xyz), np.int64)
        x, y, z = columns
        run_blocks(lambda a, b: _codes(x[a:b], y[a:b], z[a:b], grid, origin, codes[a:b]), len(codes))
        return group_codes(codes, 3 * bits)
    origin, _ = _span(torch.stack(torch.aminmax(xyz, dim=0)).double().cpu().numpy(), grid)
    low = torch.from_numpy(origin).to(xyz.device)
    coords = (torch.floor(xyz.double() / grid) - low).to(torch.int64)
    unique, inverse = torch.unique(z_order(coords, backend="torch"), sorted=True, return_inverse=True)
    first = torch.full_like(unique, len(xyz)).scatter_reduce_(
        0, inverse, torch.arange(len(xyz), device=xyz.device), "amin"
    )
    return Voxels(coords[first], unique, inverse, first)


def group_codes(codes: np.ndarray, n_bits: int) -> Voxels:
    """Return the voxels of (N,) int64 Z-order codes of at most ``n_bits`` bits, which are used up. O(N)."""
    return Voxels(*(torch.from_numpy(a) for a in _runs(*sort_codes(codes, n_bits))))


def pool_features(
    features: Tensor, voxels: Voxels, reduce: str = "mean", backend: str | None = None
) -> Tensor:
    """Bring the features of points to their voxels.

    Args:
        features: (N, C) float32 or float64, rows in the order of the points.
        reduce: ``mean``, ``max``, or ``first``: those of the voxel's point of lowest index.

    Returns:
        (M, C), with gradient (``ops.scatter``). O(N C).

    Raises:
        ValueError: an unknown ``reduce``, or features that do not fit the voxels.
    """
    if len(features) != len(voxels.inverse):
        raise ValueError(f"{len(features)} rows of features for {len(voxels.inverse)} points")
    if reduce == "first":
        return features[voxels.first]
    if reduce not in ("mean", "max"):
        raise ValueError(f"reduce '{reduce}' is unknown; choose mean, max or first")
    scatter = scatter_mean if reduce == "mean" else scatter_max
    return scatter(features, voxels.inverse, len(voxels), backend)


def _span(ends: np.ndarray, grid: float) -> tuple[np.ndarray, int]:
    """Aligned origin (3,) float64 in voxels, and how many bits the coordinates relative to it take."""
    if not np.isfinite(ends).all():
        raise ValueError("the cloud holds NaN or Inf; leave those points out first")
    voxel = np.floor(ends / grid)
    low = np.floor(voxel[0] / ALIGNMENT) * ALIGNMENT
    size = float((voxel[1] - low).max())
    if size >= 2**BITS:
        extent = (ends[1] - ends[0]).tolist()
        raise ValueError(f"the cloud spans {extent} m: more than 2^{BITS} voxels of {grid} m; crop it first")
    return low, int(size).bit_length()


@njit(cache=True, nogil=True, error_model="numpy")
def _codes(x, y, z, grid, low, codes):  # type: ignore[no-untyped-def]
    """Z-order codes (N,) of the voxels of points given by columns (N,)."""
    u, v, w = low[0], low[1], low[2]
    # By way of int32: there is a vector instruction for that.
    for i in range(len(x)):
        a = np.int64(np.int32(np.floor(np.float64(x[i]) / grid) - u))
        b = np.int64(np.int32(np.floor(np.float64(y[i]) / grid) - v))
        c = np.int64(np.int32(np.floor(np.float64(z[i]) / grid) - w))
        codes[i] = spread_scalar(a) | spread_scalar(b) << 1 | spread_scalar(c) << 2


@njit(cache=True, nogil=True)
def _runs(codes: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates, code, run of every element and first element of runs of equal codes.

    ``codes`` ascend; they are overwritten with those of the runs.
    """
    n = len(codes)
    first, inverse = np.empty(n, np.int64), np.empty(n, np.int64)
    m = -1
    last = np.int64(-1)
    for i in range(n):
        if codes[i] != last:
            m += 1
            last = codes[i]
            codes[m], first[m] = last, order[i]
        inverse[order[i]] = m
    coords = np.empty((m + 1, 3), np.int64)
    for j in range(m + 1):
        code = codes[j]
        coords[j, 0], coords[j, 1] = gather_scalar(code), gather_scalar(code >> 1)
        coords[j, 2] = gather_scalar(code >> 2)
    return coords, codes[: m + 1], inverse, first[: m + 1]
