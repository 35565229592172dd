# SPDX-License-Identifier: Apache-2.0
"""The pyramid of one scene in tensors of fixed capacity: how many voxels there are stays on the device.

Nothing here waits for the device, so that a whole sweep can be captured in a CUDA graph. Nobody has a row beyond those
in use for a neighbour or a parent; what a network computes for it goes nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pc_perception.ops.grouping import Neighborhood
from pc_perception.ops.padded import coarsen, mean_rows, voxel_neighbors, voxelize

from .pyramid import Level, Pyramid


class PaddedPyramid(NamedTuple):
    """A pyramid of which rows are in use.

    Attributes:
        pyramid: levels of as many rows as were asked for.
        inverse: (N,) int64 row in level 0 of every point, -1 where it has none.
        share: (M, 1) float32, 1 by the number of points of each voxel of level 0.
        counts: (levels,) int64, voxels of each level; above its capacity some are missing.
    """

    pyramid: Pyramid
    inverse: Tensor
    share: Tensor
    counts: Tensor


def build_padded_pyramid(xyz: Tensor, grid: float, capacities: Sequence[int]) -> PaddedPyramid:
    """Voxelise one scene at as many scales as there are ``capacities``, by the kernels of Triton.

    Args:
        xyz: (N, 3) float32, metres; points that are NaN have no voxel.
        grid: voxel edge of level 0, metres.
        capacities: rows of each level, fine to coarse.

    Returns:
        Voxels, order and lists as of ``build_pyramid``.
    """
    coords, codes, inverse, count = voxelize(xyz, grid, capacities[0])
    centers, share = mean_rows(xyz, inverse, capacities[0])
    in_use = torch.cat([torch.zeros_like(count), count.clamp(max=capacities[0])])
    levels: list[Level] = []
    counts, children = [count], None
    for depth, following in enumerate((*capacities[1:], None)):
        coarse = None if following is None else coarsen(codes, centers, in_use, following)
        levels.append(
            Level(
                edge=grid * 2**depth,
                xyz=centers,
                neighbors=voxel_neighbors(coords, in_use),
                children=children,
                parent=None if coarse is None else coarse.parent,
                coords=coords,
                offsets=(),
                in_use=in_use,
            )
        )
        if coarse is not None:
            children = Neighborhood(coarse.starts, coarse.index)
            coords, codes, centers, in_use = coarse.coords, coarse.codes, coarse.centers, coarse.in_use
            counts.append(coarse.count)
    return PaddedPyramid(Pyramid(tuple(levels)), inverse, share, torch.cat(counts))
