# SPDX-License-Identifier: Apache-2.0
"""Voxels of a cloud, in Z-order or as they come, with the index that leads every point back to its voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .columns import ends_of, to_columns
from .parallel import run_blocks
from .radix_sort import sort_codes
from .scatter import scatter_max, scatter_mean
from .serialize import BITS, gather_scalar, spread_scalar, z_order
from .voxel_table import number_codes

MANY = 32_768
"""Codes of fewer points are made sooner than another thread wakes."""
ALIGNMENT = 32
"""The origin is a multiple of this many voxels, so that five poolings by two keep one lattice."""
ORDERS = ("z", "first")
"""How voxels may be sorted: along the Z-order curve, or by their first points, which is quicker on the CPU."""


@dataclass(frozen=True)
class Voxels:
    """Occupied voxels of one cloud, sorted along the Z-order curve or by their first points.

    Attributes:
        coords: (M, 3) int64, voxel coordinates relative to an aligned origin, all >= 0.
        codes: (M,) int64, Z-order codes of ``coords``; ascending, or else ``first`` is.
        inverse: (N,) int64, the voxel of every input point.
        first: (M,) int64, the lowest index of the points in each voxel.
    """

    coords: Tensor
    codes: Tensor
    inverse: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def room(cls, n_points: int, device: torch.device | str = "cpu") -> Voxels:
        """Return memory for the voxels of up to ``n_points`` points, to be the ``out`` of ``voxelize``."""
        shapes = (n_points, 3), (n_points,), (n_points,), (n_points,)
        return cls(*(torch.empty(shape, dtype=torch.int64, device=device) for shape in shapes))

    def rows(self, n_voxels: int, n_points: int) -> Voxels:
        """Return views of the first voxels and points."""
        return Voxels(
            self.coords[:n_voxels], self.codes[:n_voxels], self.inverse[:n_points], self.first[:n_voxels]
        )


def voxelize(
    xyz: Tensor, grid: float, backend: str | None = None, out: Voxels | None = None, order: str = "z"
) -> Voxels:
    """Find the occupied voxels of edge ``grid`` and the voxel of every point.

    Args:
        xyz: (N, 3) float32, metres, any strides; float64 keeps its precision, on torch. N = 0 is allowed.
        grid: voxel edge, metres.
        backend: ``torch``, ``numba``, ``triton`` or None for the choice by device.
        out: ``Voxels.room`` for at least N points, which takes the result: then nothing large is allocated on the CPU.
        order: ``z``, the order of the encoders, or ``first``, that of the voxels' first points, where only the groups
            matter.

    Returns:
        ``Voxels``, views of ``out`` if it is given; all backends give identical results. Sorted by radix, or hashed, on
        the CPU: O(N), else O(N log N); no gradient. ``ops.gpu.voxelize.voxelize_into`` is the form for CUDA graphs,
        with buffers of fixed size.

    Raises:
        ValueError: ``grid`` is not positive, an unknown ``order``, NaN or Inf among the points, or the cloud spans more
            than 2^20 voxels on an axis; where it lies does not matter. Or ``out`` has too little room.
    """
    if not grid > 0:
        raise ValueError(f"the voxel edge must be positive, got {grid}")
    if order not in ORDERS:
        raise ValueError(f"order '{order}' is unknown; choose one of {', '.join(ORDERS)}")
    n = len(xyz)
    if out is not None and (len(out.inverse) < n or len(out) < n or out.codes.device != xyz.device):
        room = f"{min(len(out.inverse), len(out))} on {out.codes.device}"
        raise ValueError(
            f"out must have room for {n} points on {xyz.device}, it has for {room}; use Voxels.room"
        )
    if n == 0:
        return (out or Voxels.room(0, xyz.device)).rows(0, 0)
    xyz = xyz.detach()
    chosen = resolve(xyz.device, backend)
    if chosen == "numba" and xyz.dtype == torch.float32:
        return _voxelize_numba(xyz.contiguous().numpy(), grid, out or Voxels.room(n), order)
    voxels = _voxelize_on_device(xyz, grid, chosen)
    if order == "first":
        voxels = _by_first_point(voxels)
    if out is None:
        return voxels
    taken = out.rows(len(voxels), n)
    for name in ("coords", "codes", "inverse", "first"):
        getattr(taken, name).copy_(getattr(voxels, name))
    return taken


def _voxelize_on_device(xyz: Tensor, grid: float, chosen: str) -> Voxels:
    """Voxels by Triton, or by the reference."""
    if chosen == "triton" and xyz.dtype in (torch.float32, torch.float64):
        from .gpu.voxelize import voxelize as voxelize_triton

        if (found := voxelize_triton(xyz, grid)) is not None:
            return Voxels(*found)  # else the reference says what is wrong
    origin, _ = _span(torch.stack(torch.aminmax(xyz, dim=0)).double().cpu().numpy(), grid)
    low = torch.from_numpy(origin).to(xyz.device)
    coords = (torch.floor(xyz.double() / grid) - low).to(torch.int64)
    unique, inverse = torch.unique(z_order(coords, backend="torch"), sorted=True, return_inverse=True)
    first = torch.full_like(unique, len(xyz)).scatter_reduce_(
        0, inverse, torch.arange(len(xyz), device=xyz.device), "amin"
    )
    return Voxels(coords[first], unique, inverse, first)


def _by_first_point(voxels: Voxels) -> Voxels:
    """Voxels in the order of their first points."""
    first, order = torch.sort(voxels.first)
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order), device=order.device)
    return Voxels(voxels.coords[order], voxels.codes[order], number[voxels.inverse], first)


def group_codes(codes: np.ndarray, n_bits: int, room: Voxels | None = None) -> Voxels:
    """Return the voxels of (N,) int64 Z-order codes of at most ``n_bits`` bits, which are used up. O(N)."""
    n = len(codes)
    room = room or Voxels.room(n)
    coords, *rest = (array.numpy() for array in (room.coords, room.codes, room.inverse, room.first))
    codes, order = sort_codes(codes, n_bits, coords[:n].reshape(3, n)[1])
    m = _runs(codes, order, *rest) if n else 0
    return _with_coords(room.rows(m, n))


def _with_coords(voxels: Voxels) -> Voxels:
    """Write the coordinates that follow from the codes."""
    codes, flat = voxels.codes.numpy(), voxels.coords.numpy().reshape(-1)
    run_blocks(lambda a, b: _coords(codes[a:b], flat[3 * a : 3 * b]), len(codes), MANY)
    return voxels


def _voxelize_numba(xyz: np.ndarray, grid: float, room: Voxels, order: str) -> Voxels:
    n = len(xyz)
    # The coordinates are known at the very end only, so that until then their memory serves to work in.
    memory = room.coords.numpy()[:n].reshape(-1)
    codes, columns = memory[:n], memory[n:].view(np.float32)[: 3 * n].reshape(3, n)
    to_columns(xyz.reshape(-1), columns)
    origin, n_bits = _span(ends_of(columns).astype(np.float64), grid)
    x, y, z = columns
    run_blocks(lambda a, b: _codes(x[a:b], y[a:b], z[a:b], grid, origin, codes[a:b]), n, MANY)
    if order == "z":
        return group_codes(codes, n_bits, room)
    unique, inverse, first = (array.numpy() for array in (room.codes, room.inverse, room.first))
    m = number_codes(codes, memory[n:].view(np.int32), unique, first, inverse)
    return _with_coords(room.rows(m, n))


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
    """Aligned origin (3,) float64 in voxels, and how many bits the codes of coordinates relative to it take."""
    if not np.isfinite(ends).all():
        raise ValueError("the cloud holds NaN or Inf; leave those points out first")
    voxel = np.floor(ends / grid)
    low = np.floor(voxel[0] / ALIGNMENT) * ALIGNMENT
    size = voxel[1] - low
    if size.max() >= 2**BITS:
        extent = (ends[1] - ends[0]).tolist()
        raise ValueError(f"the cloud spans {extent} m: more than 2^{BITS} voxels of {grid} m; crop it first")
    return low, max(3 * int(s).bit_length() + axis - 2 if s else 0 for axis, s in enumerate(size))


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
def _runs(codes, order, unique, inverse, first):  # type: ignore[no-untyped-def]
    """Write code and first element of every run of equal, ascending codes, and the run of every element.

    Returns:
        How many runs there are. Backwards the first element of a run is the last to be written: no branches.
    """
    n_runs = 1
    for i in range(1, len(codes)):
        n_runs += codes[i] != codes[i - 1]
    run = np.uint64(n_runs)
    next_code = np.int64(-1)
    for place in range(len(codes) - 1, -1, -1):
        code, element = codes[place], order[place]
        run -= np.uint64(code != next_code)
        next_code = code
        unique[run], first[run], inverse[element] = code, element, run
    return n_runs


@njit(cache=True, nogil=True)
def _coords(codes: np.ndarray, coords: np.ndarray) -> None:
    """Write x, y, z of every code one after the other: flat, and read before it is written, for vectors' sake."""
    for i in range(len(codes)):
        code, to = codes[i], np.uint64(3 * i)
        x, y, z = gather_scalar(code), gather_scalar(code >> 1), gather_scalar(code >> 2)
        coords[to], coords[to + np.uint64(1)], coords[to + np.uint64(2)] = x, y, z
