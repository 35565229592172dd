# SPDX-License-Identifier: Apache-2.0
"""How the points around each voxel lie: one kernel from moments and neighbour lists to eigenvalues."""

from __future__ import annotations

from struct import pack

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

BLOCK = 128
NEWTON_STEPS = tl.constexpr(40)
"""From the safe side, so none is lost; a double root, where each step only halves the error, is found to 1e-12."""


def shape_features_into(sums: Tensor, starts: Tensor, index: Tensor, scale: float, out: Tensor) -> None:
    """Describe every neighbourhood; never waits for the device.

    Args:
        sums: (M, 10) float64, contiguous, ``ops.shape.moments`` of the voxels.
        starts, index: as ``Neighborhood``; for rows beyond those in use repeat the last start.
        scale: factor of lengths, per metre.
        out: (M, 5) float32, contiguous, receives ``ops.shape_features``.
    """
    # As bits: a float argument would become float32.
    bits = int.from_bytes(pack("<d", scale), "little")
    launch(_shape, (triton.cdiv(len(out), BLOCK),), sums, starts, index, out, bits, len(out), BLOCK)


def shape_features(sums: Tensor, starts: Tensor, index: Tensor, scale: float) -> Tensor:
    """Return what ``shape_features_into`` writes."""
    out = torch.empty(len(starts) - 1, 5, dtype=torch.float32, device=sums.device)
    shape_features_into(sums.contiguous(), starts.contiguous(), index.contiguous(), scale, out)
    return out


def moments(xyz: Tensor, row: Tensor, n_rows: int) -> Tensor:
    """Return ``ops.shape.moments`` of (N, 3) float points; those of row -1 are left out, and may be NaN."""
    sums = torch.zeros(n_rows, 10, dtype=torch.float64, device=xyz.device)
    launch(
        _sum_moments, (triton.cdiv(len(xyz), BLOCK),), xyz.contiguous(), row, sums, len(xyz), n_rows, BLOCK
    )
    return sums


@triton.jit(do_not_specialize=["n", "n_rows"])
def _sum_moments(xyz, row, sums, n, n_rows, BLOCK: tl.constexpr):
    point = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    to = tl.load(row + point, point < n, -1)
    there = (to >= 0) & (to < n_rows)
    x = tl.load(xyz + 3 * point, there, 0.0).to(tl.float64)
    y = tl.load(xyz + 3 * point + 1, there, 0.0).to(tl.float64)
    z = tl.load(xyz + 3 * point + 2, there, 0.0).to(tl.float64)
    own = sums + 10 * to
    tl.atomic_add(own, tl.full((BLOCK,), 1.0, tl.float64), there, sem="relaxed")
    tl.atomic_add(own + 1, x, there, sem="relaxed")
    tl.atomic_add(own + 2, y, there, sem="relaxed")
    tl.atomic_add(own + 3, z, there, sem="relaxed")
    tl.atomic_add(own + 4, x * x, there, sem="relaxed")
    tl.atomic_add(own + 5, x * y, there, sem="relaxed")
    tl.atomic_add(own + 6, x * z, there, sem="relaxed")
    tl.atomic_add(own + 7, y * y, there, sem="relaxed")
    tl.atomic_add(own + 8, y * z, there, sem="relaxed")
    tl.atomic_add(own + 9, z * z, there, sem="relaxed")


@triton.jit
def _moment(sums, j, there, COLUMN: tl.constexpr):
    return tl.load(sums + 10 * j + COLUMN, mask=there, other=0.0)


@triton.jit
def _eigenvalues(a, b, c, d, e, f):
    """Eigenvalues of the symmetric [[a b c] [b d e] [c e f]], descending, >= 0, as ``ops.shape`` has them.

    2 cos(angle) is the largest root of t^3 - 3 t = 2 cos(3 angle), which Newton's method comes down to from 2: there is
    no arc cosine in Triton.
    """
    q = (a + d + f) / 3
    off = b * b + c * c + e * e
    a, d, f = a - q, d - q, f - q
    p = tl.sqrt(tl.maximum((a * a + d * d + f * f + 2 * off) / 6, 0.0))
    alike = p < 1e-15
    safe = tl.where(alike, 1.0, p)
    twice = (a * (d * f - e * e) - b * (b * f - e * c) + c * (b * e - d * c)) / (safe * safe * safe)
    twice = tl.minimum(tl.maximum(twice, -2.0), 2.0)
    t = twice * 0 + 2.0
    for _ in range(NEWTON_STEPS):
        rise = 3 * t * t - 3
        t = tl.maximum(t - (t * t * t - 3 * t - twice) / tl.where(rise > 1e-12, rise, 1.0), 1.0)
    sine = tl.sqrt(tl.maximum(1 - t * t / 4, 0.0))
    high = q + p * t
    low = q - p * (t / 2 + sine * 1.7320508075688772)
    high, low = tl.where(alike, q, high), tl.where(alike, q, low)
    return high, tl.maximum(3 * q - high - low, 0.0), tl.maximum(low, 0.0)


@triton.jit
def _longer(best, share, x, y, z):
    """Squared length of the longer of two vectors, and |z| of its unit vector."""
    length = x * x + y * y + z * z
    longer = length > best
    return tl.where(longer, length, best), tl.where(
        longer, tl.abs(z) / tl.sqrt(tl.where(longer, length, 1.0)), share
    )


@triton.jit(do_not_specialize=["m", "scale_bits"])
def _shape(sums, starts, index, out, scale_bits, m, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(starts + row, mask=row < m, other=0)
    length = tl.load(starts + row + 1, mask=row < m, other=0) - first
    zero = tl.zeros((BLOCK,), tl.float64)
    n, x, y, z, xx, xy, xz, yy, yz, zz = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    for k in range(tl.max(length, 0)):
        there = k < length
        j = tl.load(index + first + k, mask=there, other=0)
        n += _moment(sums, j, there, 0)
        x += _moment(sums, j, there, 1)
        y += _moment(sums, j, there, 2)
        z += _moment(sums, j, there, 3)
        xx += _moment(sums, j, there, 4)
        xy += _moment(sums, j, there, 5)
        xz += _moment(sums, j, there, 6)
        yy += _moment(sums, j, there, 7)
        yz += _moment(sums, j, there, 8)
        zz += _moment(sums, j, there, 9)
    share = 1 / tl.maximum(n, 1.0)
    x, y, z = x * share, y * share, z * share
    a, d, f = xx * share - x * x, yy * share - y * y, zz * share - z * z
    b, c, e = xy * share - x * y, xz * share - x * z, yz * share - y * z
    high, middle, low = _eigenvalues(a, b, c, d, e, f)
    told = (n >= 3) & (high > 1e-12)
    part = 1 / tl.where(told, high, 1.0)
    u, v, w = a - low, d - low, f - low
    best, upright = _longer(zero, zero, b * e - c * v, c * b - u * e, u * v - b * b)
    best, upright = _longer(best, upright, b * w - c * e, c * c - u * w, u * e - b * c)
    best, upright = _longer(best, upright, v * w - e * e, e * c - b * w, b * e - v * c)
    scale = scale_bits.to(tl.float64, bitcast=True)
    place = out + 5 * row
    tl.store(place, tl.where(told, (high - middle) * part, 0.0).to(tl.float32), mask=row < m)
    tl.store(place + 1, tl.where(told, (middle - low) * part, 0.0).to(tl.float32), mask=row < m)
    tl.store(place + 2, tl.where(told, tl.sqrt(low) * scale, 0.0).to(tl.float32), mask=row < m)
    tl.store(place + 3, tl.where(told, upright, 0.0).to(tl.float32), mask=row < m)
    tl.store(place + 4, tl.where(told, tl.sqrt(tl.maximum(f, 0.0)) * scale, 0.0).to(tl.float32), mask=row < m)
