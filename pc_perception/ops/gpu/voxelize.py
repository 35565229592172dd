# SPDX-License-Identifier: Apache-2.0
"""Voxels of a cloud: codes by kernel, then groups of equal codes."""

from __future__ import annotations

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
    device = xyz.device
    given = torch.full((1,), len(xyz), dtype=torch.int64, device=device) if n_points is None else n_points
    edge = torch.full((1,), grid, dtype=torch.float64, device=device)  # an argument would become float32
    ends = torch.empty(6, dtype=torch.int64, device=device)
    ends[:3].fill_(torch.iinfo(torch.int64).max)
    ends[3:].fill_(torch.iinfo(torch.int64).min)
    status.zero_()
    code = torch.empty(len(xyz), dtype=torch.int64, device=device)
    programs, sizes = (triton.cdiv(len(xyz), BLOCK),), (len(xyz), *xyz.stride())
    launch(_ends, programs, xyz, edge, given, ends, status, *sizes, BLOCK)
    launch(_codes, programs, xyz, edge, given, ends, code, status, *sizes, BLOCK)
    group_into(code, inverse, first, codes, status[:1])
    coords_into(codes, coords)


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
def _voxels(xyz, edge, given, n, stride_n, stride_c, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    used = (i < n) & (i < tl.load(given))
    g = tl.load(edge)
    x, x_good = _voxel(xyz, g, i, used, stride_n, 0)
    y, y_good = _voxel(xyz, g, i, used, stride_n, stride_c)
    z, z_good = _voxel(xyz, g, i, used, stride_n, 2 * stride_c)
    return i, x, y, z, used, x_good & y_good & z_good


@triton.jit
def _extend(ends, v, good, AXIS: tl.constexpr):
    top = 0x7FFFFFFFFFFFFFFF
    tl.atomic_min(ends + AXIS, tl.min(tl.where(good, v, top), 0), sem="relaxed")
    tl.atomic_max(ends + 3 + AXIS, tl.max(tl.where(good, v, -top), 0), sem="relaxed")


@triton.jit(do_not_specialize=["n"])
def _ends(xyz, edge, given, ends, status, n, stride_n, stride_c, BLOCK: tl.constexpr):
    i, x, y, z, used, good = _voxels(xyz, edge, given, n, stride_n, stride_c, BLOCK)
    tl.store(status + 1 + tl.zeros_like(i), 1, mask=used & ~good)
    _extend(ends, x, good, 0)
    _extend(ends, y, good, 1)
    _extend(ends, z, good, 2)


@triton.jit(do_not_specialize=["n"])
def _codes(xyz, edge, given, ends, codes, status, n, stride_n, stride_c, BLOCK: tl.constexpr):
    i, x, y, z, _, good = _voxels(xyz, edge, given, n, stride_n, stride_c, BLOCK)
    # Clearing low bits rounds towards minus infinity: the origin is aligned, and not above any point.
    x -= tl.load(ends) & -STEP
    y -= tl.load(ends + 1) & -STEP
    z -= tl.load(ends + 2) & -STEP
    near = ((x | y | z) >> 20) == 0
    tl.store(status + 1 + tl.zeros_like(i), 1, mask=good & ~near)
    tl.store(codes + i, tl.where(good & near, interleave(x, y, z), LAST), mask=i < n)
