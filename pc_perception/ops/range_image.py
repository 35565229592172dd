# SPDX-License-Identifier: Apache-2.0
"""Spherical range image of a sweep: which point each pixel sees."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .columns import columns_of
from .packed import check_out

# atan(t) = t * polynomial(t^2) on 0 .. 1, within 2e-7 rad. Library arctangents differ in the last bit from one
# to the next; written out in float32 all backends give the same pixel.
LOW_TERMS = np.array([0.999999344, -0.333298594, 0.199465632, -0.139086202], np.float32)
HIGH_TERMS = np.array([0.096421726, -0.0559119917, 0.0218627304, -0.00405450491], np.float32)
ATAN = (*LOW_TERMS, *HIGH_TERMS)
HALF_PI, PI = np.float32(pi / 2), np.float32(pi)
TINY = np.float32(1e-30)


BLOCK = 1024
"""Points that go through all steps together: their columns stay in the nearest cache."""


@dataclass(frozen=True)
class RangeImage:
    """What each pixel sees; row 0 is the highest elevation (or ring 0), column 0 looks backwards.

    Azimuth falls from +pi to -pi over the columns: the image is as seen from the sensor, left on the left.

    Attributes:
        index: (H, W) int64, the nearest point of each pixel (the lowest index of equally near ones), -1 if empty.
        range: (H, W) float32, its distance from the origin in metres, 0 if empty.
    """

    index: Tensor
    range: Tensor


def range_image(
    xyz: Tensor,
    shape: tuple[int, int],
    elevation: tuple[float, float] = (-pi / 2, pi / 2),
    ring: Tensor | None = None,
    backend: str | None = None,
    out: RangeImage | None = None,
) -> RangeImage:
    """Project points onto a spherical image; the nearest point wins.

    After Milioto et al., "RangeNet++", 2019, eq. 1, which sorts by range and lets later points overwrite;
    here points beyond the limits are left out, not pressed into the border rows.

    Args:
        xyz: (N, 3) float32, metres, sensor frame, z up, any strides; float64 is rounded. NaN, Inf and points
            at the origin are left out. N = 0 gives an empty image.
        shape: rows H and columns W.
        elevation: lowest and highest elevation that the rows share evenly, radians.
        ring: (N,) integer row of each point instead, each in 0 .. H - 1.
        backend: ``torch``, ``numba``, ``triton`` or None for the choice by device.
        out: an image of this shape that takes the result: then nothing large is allocated on the CPU.

    Returns:
        ``RangeImage``; all backends give identical results. O(N + H W), no gradient.

    Raises:
        ValueError: a wrong shape, limits out of order, a ring out of range, or an ``out`` that does not fit.
    """
    height, width = shape
    low, high = elevation
    if xyz.ndim != 2 or xyz.shape[1] != 3 or height < 1 or width < 1:
        raise ValueError(f"points must be (N, 3) and the image not empty: {tuple(xyz.shape)}, {shape}")
    if not -pi / 2 <= low < high <= pi / 2:
        raise ValueError(f"elevations must rise within -pi/2 .. pi/2 radians, they are {elevation}")
    points = xyz.detach().to(torch.float32).contiguous()
    rows = None if ring is None else _checked(ring, len(points), height)
    scale = (np.float32(high), np.float32(height / (high - low)), np.float32(width / (2 * pi)))
    if (chosen := resolve(xyz.device, backend)) != "numba":
        image = _by_tensors(chosen, points, rows, shape, scale)
        if out is None:
            return image
        check_out(out.index, shape, torch.int64, xyz.device).copy_(image.index)
        check_out(out.range, shape, torch.float32, xyz.device).copy_(image.range)
        return out
    index = check_out(None if out is None else out.index, shape, torch.int64, xyz.device)
    near = check_out(None if out is None else out.range, shape, torch.float32, xyz.device)
    ring_of = None if rows is None else rows.numpy()
    _project(points.numpy(), ring_of, height, width, scale, index.view(-1).numpy(), near.view(-1).numpy())
    return out or RangeImage(index, near)


def _by_tensors(
    backend: str, points: Tensor, rows: Tensor | None, shape: tuple[int, int], scale: tuple[np.float32, ...]
) -> RangeImage:
    if backend == "torch":
        return _range_image_torch(points, rows, shape, scale)
    from .gpu.range_image import range_image as range_image_triton

    return RangeImage(*range_image_triton(points, rows, shape, scale))


def _checked(ring: Tensor, n: int, height: int) -> Tensor:
    if ring.shape != (n,) or ring.is_floating_point():
        raise ValueError(f"rings must be ({n},) integers, they are {tuple(ring.shape)} {ring.dtype}")
    rows = ring.to(torch.int32).contiguous()
    if n and not (int(rows.min()) >= 0 and int(rows.max()) < height):
        raise ValueError(
            f"rings must be in 0 .. {height - 1}, they reach {int(rows.min())}..{int(rows.max())}"
        )
    return rows


def _range_image_torch(
    points: Tensor, rows: Tensor | None, shape: tuple[int, int], scale: tuple[np.float32, ...]
) -> RangeImage:
    height, width = shape
    high, per_row, per_column = (float(s) for s in scale)
    x, y, z = points.unbind(1)
    flat = x * x + y * y
    square = flat + z * z
    seen = (square > 0) & (square < torch.inf)
    column = ((float(PI) - _atan2_torch(y, x)) * per_column).nan_to_num(0).to(torch.int64)
    column = torch.where(column >= width, 0, column)
    if rows is None:
        place = (high - _atan2_torch(z, _root_torch(flat))) * per_row
        seen &= (place >= 0) & (place <= height)
        rows = place.nan_to_num(0).to(torch.int64).clamp(max=height - 1)
    kept = seen.nonzero()[:, 0]
    pixel, square = (rows.to(torch.int64) * width + column)[kept], square[kept]
    near = square.new_full((height * width,), torch.inf).scatter_reduce_(0, pixel, square, "amin")
    wins = square == near[pixel]
    index = torch.full((height * width,), len(points), dtype=torch.int64, device=points.device)
    index.scatter_reduce_(0, pixel[wins], kept[wins], "amin")
    empty = index == len(points)
    return RangeImage(
        torch.where(empty, -1, index).view(shape), torch.where(empty, 0, _root_torch(near)).view(shape)
    )


def _root_torch(v: Tensor) -> Tensor:
    # torch's own root of a float32 may be off by its last bit.
    return v.double().sqrt().float()


def _atan2_torch(y: Tensor, x: Tensor) -> Tensor:
    a, b = x.abs(), y.abs()
    t = torch.minimum(a, b) / torch.maximum(a, b).clamp(min=float(TINY))
    s = t * t
    p = torch.full_like(s, float(ATAN[-1]))
    for c in ATAN[-2::-1]:
        p = p * s + float(c)
    p = p * t
    p = torch.where(b > a, float(HALF_PI) - p, p)
    p = torch.where(x < 0, float(PI) - p, p)
    return torch.where(y < 0, -p, p)


@njit(inline="always")
def _atan2(y: np.float32, x: np.float32) -> np.float32:
    a, b = abs(x), abs(y)
    t = min(a, b) / max(max(a, b), TINY)
    s = t * t
    p = ATAN[7] * s + ATAN[6]
    p = p * s + ATAN[5]
    p = p * s + ATAN[4]
    p = p * s + ATAN[3]
    p = p * s + ATAN[2]
    p = p * s + ATAN[1]
    p = (p * s + ATAN[0]) * t
    p = HALF_PI - p if b > a else p
    p = PI - p if x < 0 else p
    return -p if y < 0 else p


@njit(cache=True, nogil=True, error_model="numpy")
def _columns(x, y, z, scale, width, column, square):  # type: ignore[no-untyped-def]
    """Column and squared range of each point; what comes of NaN is left to ``_project``."""
    last = np.int32(width - 1)
    for i in range(len(x)):
        c = np.int32((PI - _atan2(y[i], x[i])) * scale)
        column[i] = np.int32(0) if c > last else c
        square[i] = x[i] * x[i] + y[i] * y[i] + z[i] * z[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _rows(x, y, z, high, scale, height, row):  # type: ignore[no-untyped-def]
    """Row of each point by its elevation, -1 beyond the limits."""
    last, end = np.int32(height - 1), np.float32(height)
    for i in range(len(x)):
        place = (high - _atan2(z[i], np.sqrt(x[i] * x[i] + y[i] * y[i]))) * scale
        r = min(np.int32(place), last)
        row[i] = r if (place >= 0) & (place <= end) else np.int32(-1)


@njit(cache=True, nogil=True)
def _project(points, rows, height, width, scale, index, near):  # type: ignore[no-untyped-def]
    """Keep the first of the nearest points of each pixel, then turn squared ranges into ranges."""
    index[:], near[:] = -1, np.float32(np.inf)
    columns, square = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    own_rows = np.empty(BLOCK, np.int32)
    for start in range(0, len(points), BLOCK):
        part = points[start : start + BLOCK]
        n = len(part)
        xyz = columns_of(part)
        _columns(xyz[0], xyz[1], xyz[2], scale[2], width, columns[:n], square[:n])
        if rows is None:
            row = own_rows[:n]
            _rows(xyz[0], xyz[1], xyz[2], scale[0], scale[1], height, row)
        else:
            row = rows[start : start + BLOCK]
        _pixels(row, columns[:n], width, square[:n])
        for i in range(n):
            r, p = square[i], np.uint32(columns[i])  # unsigned: no test for an index from the end
            if r < near[p]:
                near[p] = r
                index[p] = start + i
    for k in range(len(near)):
        near[k] = np.sqrt(near[k]) if near[k] < np.inf else np.float32(0)


@njit(cache=True, nogil=True)
def _pixels(row, column, width, square):  # type: ignore[no-untyped-def]
    """Turn columns into pixels; what no pixel sees moves infinitely far away."""
    wide, nowhere = np.int32(width), np.float32(np.inf)
    for i in range(len(row)):
        seen = (row[i] >= 0) & (square[i] > 0)  # not so for NaN
        column[i] = np.int32(row[i] * wide + column[i]) if seen else np.int32(0)
        square[i] = square[i] if seen else nowhere
