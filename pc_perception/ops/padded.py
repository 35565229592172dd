# SPDX-License-Identifier: Apache-2.0
"""Operations on tensors of fixed capacity, of which the device alone knows how much is in use.

For CUDA graphs: shapes are fixed and nothing waits for the device. A row of -1 is nobody's, a point of NaN is left out.
By the kernels of Triton, thus on CUDA, or in its interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .grouping import Neighborhood


class PaddedVoxels(NamedTuple):
    """Voxels of at most M, in Z-order.

    Attributes:
        coords: (M, 3) int64, 0 beyond the voxels found.
        codes: (M,) int64, the largest integer beyond them.
        inverse: (N,) int64 voxel of every point, -1 where it has none.
        n_voxels: (1,) int64, voxels found; above M some are missing.
    """

    coords: Tensor
    codes: Tensor
    inverse: Tensor
    n_voxels: Tensor


def voxelize(xyz: Tensor, grid: float, capacity: int) -> PaddedVoxels:
    """Find the voxels of edge ``grid`` metres of (N, 3) float32 points as ``ops.voxelize`` does, up to ``capacity``."""
    from .gpu.voxelize import voxelize_into

    codes, first, inverse, status = (_integers(n, xyz) for n in (capacity, capacity, len(xyz), 2))
    coords = torch.empty(capacity, 3, dtype=torch.int64, device=xyz.device)
    voxelize_into(xyz, grid, coords, codes, inverse, first, status)
    return PaddedVoxels(coords, codes, inverse, status[:1])


def voxel_neighbors(coords: Tensor, in_use: Tensor) -> Neighborhood:
    """List the neighbours of (M, 3) int64 voxels as ``ops.voxel_neighbors`` does; the lists of other rows are empty.

    Args:
        in_use: (2,) int64, 0 and how many rows are voxels.
    """
    from .gpu.grouping import lists_into
    from .gpu.kernel_maps import neighbors_into

    table = torch.empty(27, len(coords), dtype=torch.int32, device=coords.device)
    starts, index = _integers(len(coords) + 1, coords), _integers(table.numel(), coords)
    neighbors_into(coords, in_use, table, torch.zeros(1, dtype=torch.int64, device=coords.device))
    lists_into(table, starts, index)
    return Neighborhood(starts, index)


def coarsen(codes: Tensor, centers: Tensor, in_use: Tensor, capacity: int) -> Any:
    """Return the voxels of twice the edge (``ops.gpu.coarsen.Coarse``)."""
    from .gpu.coarsen import coarsen as by_triton

    return by_triton(codes, centers, in_use, capacity)


def sum_rows(values: Tensor, row: Tensor, n_rows: int) -> Tensor:
    """Return the (n_rows, C) sums of the (N, C) float values that share a row of 0 .. n_rows - 1."""
    from .gpu.scatter import scatter_sum_into

    out = values.new_zeros(n_rows, values.shape[1])
    scatter_sum_into(values, row, out, _unread(row))
    return out


def mean_rows(values: Tensor, row: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """Return the means likewise, 0 where there is nothing, and (n_rows, 1), one by the number of values."""
    from .gpu.scatter import scatter_sum_into

    out = values.new_zeros(n_rows, values.shape[1])
    count = torch.zeros(n_rows, dtype=torch.int32, device=row.device)
    scatter_sum_into(values, row, out, _unread(row), count)
    share = count.clamp_(min=1)[:, None].reciprocal()
    return out.mul_(share), share


def relative_values(values: Tensor, used: Tensor, n_quantiles: int) -> tuple[Tensor, Tensor]:
    """Compare each value with the quantiles of those in use.

    Args:
        values: (N,) float32, finite.
        used: (N,) bool.
        n_quantiles: how many, evenly from the least value to the greatest; the last but one is the unit of the first
            result.

    Returns:
        (N, 2): value by unit, 0 .. 2, and share of the quantiles below it (equal ones count half); and () float32, 1,
        or 0 where the unit is not positive, and all columns with it.
    """
    # As np.linspace multiplies: torch's has other last bits, and half places then fall to the other side.
    shares = torch.arange(n_quantiles, dtype=torch.float64, device=values.device) * (1 / (n_quantiles - 1))
    ordered = values.masked_fill(~used, torch.inf).sort().values
    place = (shares * (used.sum() - 1).clamp(min=0)).round().to(torch.int64)
    steps = ordered[place]
    unit = steps[-2]
    present = ((unit > 0) & used.any()).to(values.dtype)
    relative = (values / torch.where(unit > 0, unit, 1)).clamp(0, 2)
    below = torch.searchsorted(steps, values) + torch.searchsorted(steps, values, right=True)
    return torch.stack([relative, below * (0.5 / n_quantiles)], 1) * present, present


def heights(
    xyz: Tensor, used: Tensor, cell: float, slopes: Sequence[float], n_cells: int, wrong: Tensor
) -> Tensor:
    """Return the (N, K) float32 heights of ``ops.height_above_ground``, 0 for points that are not ``used``.

    Args:
        xyz: (N, 3) float32, metres.
        used: (N,) bool.
        cell, slopes: as there.
        n_cells: room for cells.
        wrong: (1,) int64, becomes 1 where it does not suffice.
    """
    from .gpu.ground import heights_into, new_grid

    out = xyz.new_empty(len(xyz), len(slopes))
    heights_into(xyz, used, cell, tuple(slopes), new_grid(n_cells, len(slopes), xyz.device), out, wrong)
    return out


def column_top(xyz: Tensor, used: Tensor, height: Tensor, cell: float, n_cells: int, wrong: Tensor) -> Tensor:
    """Return the (N,) float32 tops of ``ops.column_top``, 0 for points that are not ``used``; arguments as above."""
    from .gpu.ground import column_top_into, new_grid

    out = torch.empty_like(height)
    column_top_into(xyz, used, height.contiguous(), cell, new_grid(n_cells, 1, xyz.device), out, wrong)
    return out


def classes_of(logits: Tensor, row: Tensor, none: int) -> tuple[Tensor, Tensor]:
    """Return the class of every point and its softmax (``ops.gpu.classes``)."""
    from .gpu.classes import classes_of as by_triton

    return by_triton(logits, row, none)


def _unread(row: Tensor) -> Tensor:
    """A flag that nobody looks at: rows of -1 are expected."""
    return torch.empty(1, dtype=torch.int32, device=row.device)


def _integers(n: int, like: Tensor) -> Tensor:
    return torch.empty(n, dtype=torch.int64, device=like.device)
