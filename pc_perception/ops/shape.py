# SPDX-License-Identifier: Apache-2.0
"""Second moments of points around each voxel: how flat, how thin, how upright the place is.

Covariance features after Demantké et al., "Dimensionality based scale selection in 3D LiDAR point
clouds", 2011: they hand the network in its first layer what it would otherwise learn in thousands of steps.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .cells import cells_of
from .grouping import Neighborhood
from .parallel import run_blocks
from .scatter import scatter_sum

N_SHAPE = 5
"""Columns of ``shape_features``."""
FINE = 4.0
"""Lengths are told in quarters of an edge: the centimetres of a lawn would drown among shares of one."""


def moments(xyz: Tensor, row: Tensor, n_rows: int, backend: str | None = None) -> Tensor:
    """Sum 1, x, y, z, xx, xy, xz, yy, yz, zz over the points of each row.

    Args:
        xyz: (N, 3) float, metres.
        row: (N,) int64 in 0 .. n_rows - 1.

    Returns:
        (n_rows, 10) float64; sums of sums are the moments of coarser rows. O(N).
    """
    chosen = resolve(xyz.device, backend)
    if chosen == "triton":
        from .gpu.shape import moments as moments_triton

        return moments_triton(xyz, row, n_rows)
    if chosen == "numba":
        sums = np.zeros((n_rows, 10))
        _moments(xyz.numpy(), row.numpy(), sums)
        return torch.from_numpy(sums)
    x, y, z = xyz.double().unbind(1)
    columns = torch.stack([torch.ones_like(x), x, y, z, x * x, x * y, x * z, y * y, y * z, z * z], 1)
    return scatter_sum(columns, row, n_rows, backend)


@njit(cache=True, nogil=True)
def _moments(xyz: np.ndarray, row: np.ndarray, sums: np.ndarray) -> None:
    for i in range(len(xyz)):
        x, y, z = np.float64(xyz[i, 0]), np.float64(xyz[i, 1]), np.float64(xyz[i, 2])
        s = sums[row[i]]
        s[0] += 1.0
        s[1] += x
        s[2] += y
        s[3] += z
        s[4] += x * x
        s[5] += x * y
        s[6] += x * z
        s[7] += y * y
        s[8] += y * z
        s[9] += z * z


def shape_features(
    sums: Tensor, neighborhood: Neighborhood, edge: float, backend: str | None = None
) -> Tensor:
    """Describe the points of each neighbourhood by the eigenvalues l1 >= l2 >= l3 of their covariance.

    Args:
        sums: (M, 10) float64, ``moments`` of each voxel.
        neighborhood: lists over the M voxels.
        edge: voxel edge, metres.

    Returns:
        (M, 5) float32: linearity (l1 - l2) / l1, planarity (l2 - l3) / l1, thickness sqrt(l3), |z| of the
        normal (1 on flat ground), standard deviation of z; lengths in edge / ``FINE``. Zero where fewer than three
        points lie. O(E). No gradient.
    """
    chosen = resolve(sums.device, backend)
    if chosen == "triton":
        from .gpu.shape import shape_features as shape_features_triton

        return shape_features_triton(sums, neighborhood.starts, neighborhood.index, FINE / edge)
    if chosen == "numba":
        starts, index = neighborhood.starts.numpy(), neighborhood.index.numpy()
        found = np.zeros((len(starts) - 1, N_SHAPE), np.float32)
        run_blocks(
            lambda a, b: _shape(sums.numpy(), starts[a : b + 1], index, FINE / edge, found[a:b]), len(found)
        )
        return torch.from_numpy(found)
    lengths = neighborhood.starts.diff()
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=sums.device), lengths)
    total = torch.zeros_like(sums).index_add_(0, owner, sums[neighborhood.index])
    n = total[:, :1].clamp(min=1)
    mean = total[:, 1:4] / n
    xx, xy, xz, yy, yz, zz = (total[:, 4:] / n).unbind(1)
    square = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], 1).reshape(-1, 3, 3)
    covariance = square - mean[:, :, None] * mean[:, None, :]
    values, vectors = torch.linalg.eigh(covariance)
    low, middle, high = values.clamp(min=0).unbind(1)
    safe = high.clamp(min=1e-12)
    out = torch.stack(
        [
            (high - middle) / safe,
            (middle - low) / safe,
            low.sqrt() * FINE / edge,
            vectors[:, 2, 0].abs(),
            covariance[:, 2, 2].clamp(min=0).sqrt() * FINE / edge,
        ],
        1,
    )
    return torch.where((total[:, :1] >= 3) & (high[:, None] > 1e-12), out, 0.0).float()


@njit(cache=True, nogil=True, error_model="numpy")
def _shape(sums: np.ndarray, starts: np.ndarray, index: np.ndarray, scale: float, out: np.ndarray) -> None:
    for i in range(len(out)):
        n = x = y = z = xx = xy = xz = yy = yz = zz = 0.0
        for e in range(starts[i], starts[i + 1]):
            s = sums[index[e]]  # a view: only then are the sums kept in registers
            n += s[0]
            x += s[1]
            y += s[2]
            z += s[3]
            xx += s[4]
            xy += s[5]
            xz += s[6]
            yy += s[7]
            yz += s[8]
            zz += s[9]
        if n < 3:
            continue
        share = 1 / n
        x, y, z = x * share, y * share, z * share
        a, d, f = xx * share - x * x, yy * share - y * y, zz * share - z * z
        b, c, e_ = xy * share - x * y, xz * share - x * z, yz * share - y * z
        high, middle, low = _eigenvalues(a, b, c, d, e_, f)
        if high <= 1e-12:
            continue
        share = 1 / high
        out[i, 0] = (high - middle) * share
        out[i, 1] = (middle - low) * share
        out[i, 2] = np.sqrt(low) * scale
        out[i, 3] = _normal_z(a - low, b, c, d - low, e_, f - low)
        out[i, 4] = np.sqrt(max(f, 0.0)) * scale


@njit(cache=True, nogil=True, error_model="numpy")
def _eigenvalues(a: float, b: float, c: float, d: float, e: float, f: float) -> tuple[float, float, float]:
    """Eigenvalues of the symmetric [[a b c] [b d e] [c e f]], descending, >= 0 (Smith, 1961)."""
    q = (a + d + f) / 3
    off = b * b + c * c + e * e
    p = np.sqrt(max(((a - q) ** 2 + (d - q) ** 2 + (f - q) ** 2 + 2 * off) / 6, 0.0))
    if p < 1e-15:
        return q, q, max(q, 0.0)
    a, d, f = a - q, d - q, f - q
    half_det = (a * (d * f - e * e) - b * (b * f - e * c) + c * (b * e - d * c)) / (2 * p * p * p)
    angle = np.arccos(min(max(half_det, -1.0), 1.0)) / 3
    cosine, sine = np.cos(angle), np.sin(angle)
    high = q + 2 * p * cosine
    low = q - p * (cosine + np.sqrt(3.0) * sine)
    return high, max(3 * q - high - low, 0.0), max(low, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _normal_z(a: float, b: float, c: float, d: float, e: float, f: float) -> float:
    """|z| of the unit null vector of a singular symmetric matrix: the longest cross product of its rows."""
    best, share = 0.0, 0.0
    for k in range(3):
        if k == 0:
            x, y, z = b * e - c * d, c * b - a * e, a * d - b * b
        elif k == 1:
            x, y, z = b * f - c * e, c * c - a * f, a * e - b * c
        else:
            x, y, z = d * f - e * e, e * c - b * f, b * e - d * c
        length = x * x + y * y + z * z
        if length > best:
            best, share = length, abs(z) / np.sqrt(length)
    return share


def column_top(xyz: Tensor, height: Tensor, cell: float, backend: str | None = None) -> Tensor:
    """Return the greatest ``height`` in the vertical column of edge ``cell`` that each point stands in.

    Args:
        xyz: (N, 3) float32, finite, metres, z up.
        height: (N,) float32.
        cell: metres; enlarged where the cloud would need over 4 million columns.

    Returns:
        (N,) float32, identical on both backends. O(N + columns). No gradient.
    """
    if len(xyz) == 0:
        return height
    chosen = resolve(xyz.device, backend)
    if chosen == "triton":
        from .gpu.ground import column_top as column_top_triton

        if (found := column_top_triton(xyz, height, cell)) is not None:
            return found
    flat, shape, _ = cells_of(xyz, cell, backend)
    if chosen == "numba":
        return torch.from_numpy(_column_top(height.numpy(), flat.numpy(), shape[0] * shape[1]))
    top = height.new_full((shape[0] * shape[1],), -torch.inf).scatter_reduce_(0, flat, height, "amax")
    return top[flat]


@njit(cache=True, nogil=True)
def _column_top(height: np.ndarray, flat: np.ndarray, n_cells: int) -> np.ndarray:
    top = np.full(n_cells, -np.inf, np.float32)
    for i in range(len(height)):
        top[flat[i]] = max(top[flat[i]], height[i])
    out = np.empty(len(height), np.float32)
    for i in range(len(height)):
        out[i] = top[flat[i]]
    return out
