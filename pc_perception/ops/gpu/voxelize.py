# SPDX-License-Identifier: Apache-2.0
"""Voxels of a cloud: codes by kernel, then groups of equal codes."""

from __future__ import annotations

from struct import pack

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..voxelize import ALIGNMENT
from .launch import launch
from .runs import LAST, coords_into, group_into
from .serialize import interleave

BLOCK = 512
LARGEST = tl.constexpr(2.0**52)
"""Voxels this far out still are integers in float64."""
TOP = tl.constexpr(2**52 + 1)
STEP = tl.constexpr(ALIGNMENT)


def voxelize_into(
    xyz: Tensor,
    grid: float,
    coords: Tensor,
    codes: Tensor,
    inverse: Tensor,
    first: Tensor,
    status: Tensor,
    n_points: Tensor | None = None,
) -> None:
    """Find the voxels of a cloud without waiting for the device: this can be captured in a CUDA graph.

    Take N and the capacity M from a few sizes, pad the points, and give how many there are in ``n_points``.

    Args:
        xyz: (N, 3) float32 or float64, metres, any strides.
        grid: voxel edge, metres.
        coords: (M, 3) int64, contiguous; 0 beyond the voxels found.
        codes: (M,) int64; the largest integer beyond the voxels found.
        inverse: (N,) int64; -1 for padding and for points of voxels beyond the capacity.
        first: (M,) int64; 0 beyond the voxels found.
        status: (2,) int64, receives the number of voxels (above M: the capacity was too small), and 1 where a point
            is NaN, Inf, further than 2^52 voxels out or beyond 2^20 voxels from the lowest one: those points
            are left out.
        n_points: (1,) int64 on the device, the number of points in use; None: all.
    """
    # As bits: a float argument would become float32.
    edge = int.from_bytes(pack("<d", grid), "little")
    status.zero_()
    lowest = torch.zeros(3, dtype=torch.int64, device=xyz.device)
    code = torch.empty(len(xyz), dtype=torch.int64, device=xyz.device)
    programs, sizes = (triton.cdiv(len(xyz), BLOCK),), (len(xyz), *xyz.stride())
    padded = n_points is not None
    given = status if n_points is None else n_points
    launch(_lowest, programs, xyz, given, lowest, status, edge, *sizes, padded, BLOCK)
    launch(_codes, programs, xyz, given, lowest, code, status, edge, *sizes, padded, BLOCK)
    group_into(code, inverse, first, codes, status[:1])
    coords_into(codes, first, status, coords)


def voxelize(xyz: Tensor, grid: float) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Return coords, codes, inverse and first of ``ops.Voxels``; None for points that cannot be voxelised."""
    n = len(xyz)
    coords, codes, inverse, first = (
        torch.empty(shape, dtype=torch.int64, device=xyz.device) for shape in ((n, 3), (n,), (n,), (n,))
    )
    status = torch.empty(2, dtype=torch.int64, device=xyz.device)
    voxelize_into(xyz, grid, coords, codes, inverse, first, status)
    m, failed = status.tolist()
    return None if failed else (coords[:m], codes[:m], inverse, first[:m])


@triton.jit
def _voxel(xyz, edge, i, used, stride_n, stride_c):
    """Voxel of one coordinate of each point as int64, and whether it has one."""
    at = tl.floor(tl.load(xyz + i * stride_n + stride_c, mask=used, other=0.0).to(tl.float64) / edge)
    good = tl.abs(at) <= LARGEST
    return tl.where(good, at, 0.0).to(tl.int64), used & good


@triton.jit
def _voxels(xyz, given, edge, n, stride_n, stride_c, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    used = i < n
    if PADDED:
        used = used & (i < tl.load(given))
    grid = edge.to(tl.float64, bitcast=True)
    x, x_good = _voxel(xyz, grid, i, used, stride_n, 0)
    y, y_good = _voxel(xyz, grid, i, used, stride_n, stride_c)
    z, z_good = _voxel(xyz, grid, i, used, stride_n, 2 * stride_c)
    return i, x, y, z, used, x_good & y_good & z_good


@triton.jit
def _lower(lowest, v, good, AXIS: tl.constexpr):
    # The largest distance below the highest voxel there can be: zero, as the memory is at first, is no point's.
    tl.atomic_max(lowest + AXIS, tl.max(tl.where(good, -v + TOP, 0), 0), sem="relaxed")


@triton.jit
def _origin(lowest, AXIS: tl.constexpr):
    # Clearing low bits rounds towards minus infinity: the origin is aligned, and not above any point.
    return (-tl.load(lowest + AXIS) + TOP) & -STEP


@triton.jit(do_not_specialize=["n", "edge"])
def _lowest(
    xyz, given, lowest, status, edge, n, stride_n, stride_c, PADDED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    i, x, y, z, used, good = _voxels(xyz, given, edge, n, stride_n, stride_c, PADDED, BLOCK)
    tl.store(status + 1 + tl.zeros_like(i), 1, mask=used & ~good)
    _lower(lowest, x, good, 0)
    _lower(lowest, y, good, 1)
    _lower(lowest, z, good, 2)


@triton.jit(do_not_specialize=["n", "edge"])
def _codes(
    xyz, given, lowest, codes, status, edge, n, stride_n, stride_c, PADDED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    i, x, y, z, _, good = _voxels(xyz, given, edge, n, stride_n, stride_c, PADDED, BLOCK)
    x, y, z = x - _origin(lowest, 0), y - _origin(lowest, 1), z - _origin(lowest, 2)
    near = ((x | y | z) >> 20) == 0
    tl.store(status + 1 + tl.zeros_like(i), 1, mask=good & ~near)
    tl.store(codes + i, tl.where(good & near, interleave(x, y, z), LAST), mask=i < n)
