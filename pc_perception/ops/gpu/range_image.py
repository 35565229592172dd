# SPDX-License-Identifier: Apache-2.0
"""Spherical range image: one atomic minimum a point decides who is nearest, ties included."""

from __future__ import annotations

from typing import SupportsFloat

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..range_image import ATAN
from .launch import launch

BLOCK = 256
C0, C1, C2, C3, C4, C5, C6, C7 = (tl.constexpr(float(c)) for c in ATAN)
# As float32 rounds them: the reference computes with these.
HALF_PI, PI = tl.constexpr(1.5707963705062866), tl.constexpr(3.1415927410125732)
TINY = tl.constexpr(1.0000000031710769e-30)
FAR = torch.iinfo(torch.int64).max


def range_image_into(
    points: Tensor,
    rows: Tensor | None,
    high: float,
    per_row: float,
    per_column: float,
    nearest: Tensor,
    index: Tensor,
    near: Tensor,
) -> None:
    """Project points and keep the nearest of each pixel; never waits for the device.

    Args:
        points: (N, 3) float32, contiguous, metres; rows of NaN, such as those beyond the ones in use, are left out.
        rows: (N,) int32 image row of each point, or None to find it by elevation; -1 leaves a point out.
        high, per_row, per_column: greatest elevation, radians; rows and columns per radian. Rounded to float32.
        nearest: (H, W) int64, for use within: squared range, then index, in one integer.
        index: (H, W) int64, receives the nearest point, -1 for none.
        near: (H, W) float32, receives its range, 0 for none.
    """
    height, width = index.shape
    nearest.fill_(FAR)
    given = points if rows is None else rows
    scale, sizes = (high, per_row, per_column), (len(points), height, width)
    # Fused multiply-adds would round otherwise than the reference does.
    exact = {"enable_fp_fusion": False}
    grid = (triton.cdiv(len(points), BLOCK),)
    launch(_project, grid, points, given, nearest, *scale, *sizes, rows is None, BLOCK, **exact)
    launch(_unpack, (triton.cdiv(index.numel(), BLOCK),), nearest, index, near, index.numel(), BLOCK)


def range_image(
    points: Tensor, rows: Tensor | None, shape: tuple[int, int], scale: tuple[SupportsFloat, ...]
) -> tuple[Tensor, Tensor]:
    """Return index (H, W) int64 and range (H, W) float32 of ``ops.range_image``."""
    nearest = torch.empty(shape, dtype=torch.int64, device=points.device)
    index, near = torch.empty_like(nearest), torch.empty(shape, device=points.device)
    high, per_row, per_column = (float(s) for s in scale)
    range_image_into(points, rows, high, per_row, per_column, nearest, index, near)
    return index, near


@triton.jit
def _atan2(y, x):
    a, b = tl.abs(x), tl.abs(y)
    t = tl.div_rn(tl.minimum(a, b), tl.maximum(tl.maximum(a, b), TINY))
    s = t * t
    p = s * C7 + C6
    p = p * s + C5
    p = p * s + C4
    p = p * s + C3
    p = p * s + C2
    p = p * s + C1
    p = (p * s + C0) * t
    p = tl.where(b > a, -p + HALF_PI, p)
    p = tl.where(x < 0, -p + PI, p)
    return tl.where(y < 0, -p, p)


@triton.jit(do_not_specialize=["n", "height", "width"])
def _project(
    points, rows, nearest, high, per_row, per_column, n, height, width,
    BY_ELEVATION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(points + 3 * i, mask=i < n, other=0.0)
    y = tl.load(points + 3 * i + 1, mask=i < n, other=0.0)
    z = tl.load(points + 3 * i + 2, mask=i < n, other=0.0)
    flat = x * x + y * y
    square = flat + z * z
    seen = (square > 0) & (square < float("inf"))
    # Points that are not seen must not reach a conversion to an integer as NaN.
    x, y, z = tl.where(seen, x, 1.0), tl.where(seen, y, 0.0), tl.where(seen, z, 0.0)
    column = ((-_atan2(y, x) + PI) * per_column).to(tl.int64)
    column = tl.where(column >= width, 0, column)
    if BY_ELEVATION:
        place = (high - _atan2(z, tl.sqrt_rn(tl.where(seen, flat, 1.0)))) * per_row
        seen = seen & (place >= 0) & (place <= height)
        row = tl.minimum(tl.where(seen, place, 0.0).to(tl.int64), (height - 1).to(tl.int64))
    else:
        row = tl.load(rows + i, mask=i < n, other=-1).to(tl.int64)
        seen = seen & (row >= 0) & (row < height)
    # The bits of floats above zero rise with them.
    key = (square.to(tl.int32, bitcast=True).to(tl.int64) << 32) | i
    tl.atomic_min(nearest + row * width + column, key, mask=seen, sem="relaxed")


@triton.jit(do_not_specialize=["n"])
def _unpack(nearest, index, near, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(nearest + i, mask=i < n, other=0)
    empty = key == 0x7FFFFFFFFFFFFFFF
    square = (key >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    tl.store(index + i, tl.where(empty, -1, key & 0xFFFFFFFF), mask=i < n)
    tl.store(near + i, tl.sqrt_rn(tl.where(empty, 0.0, square)), mask=i < n)
