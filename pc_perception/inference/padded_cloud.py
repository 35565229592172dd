# SPDX-License-Identifier: Apache-2.0
"""A cloud as the network's input in tensors of fixed capacity: what ``InputContract.prepare`` does, for CUDA graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pc_perception.models.padded_pyramid import build_padded_pyramid
from pc_perception.models.pyramid import Pyramid
from pc_perception.ops import padded
from pc_perception.ops.shape import moments

from .contract import InputContract
from .features import COLUMN_VOXELS, RANKS, VoxelizedCloud, columns_of

GROUND_CELLS = 1 << 17
"""Cells of ground, and columns, that there is room for: a square of 362 m a side at cells of 1 m."""


class PaddedInput(NamedTuple):
    """One scene as the network takes it.

    Attributes:
        features: (M, F) float32, one row per voxel and more.
        pyramid: the voxels and their relations, in as many rows as were asked for.
        inverse: (N,) int64 voxel row of every point, -1 where the network does not see it.
        status: (1 + levels,) int64: above 0 where this scene must be prepared the ordinary way, and the voxels of each
            level, which must be so where they are more than there is room for.
    """

    features: Tensor
    pyramid: Pyramid
    inverse: Tensor
    status: Tensor


def fits(status: Sequence[int], capacities: Sequence[int]) -> bool:
    """Say whether ``PaddedInput.status`` is that of a scene that may be used."""
    return not status[0] and all(n <= room for n, room in zip(status[1:], capacities, strict=True))


@dataclass(frozen=True, kw_only=True)
class PaddedCloud(VoxelizedCloud):
    """A cloud and its voxels, not all of whose rows are in use.

    Attributes:
        share: (M, 1), one by the number of points of each voxel.
        used: (K,) bool, the points that are; the others have row -1.
        wrong: (1,) int64, becomes 1 where the columns do not fit.
    """

    share: Tensor
    used: Tensor
    wrong: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Return the (M, F) means over voxels of (K, F) values of points."""
        return padded.sum_rows(values, self.row, len(self.center)).mul_(self.share)

    def moments(self) -> Tensor:
        """Return the (M, 10) float64 moments of each voxel's points."""
        return moments(self.points, self.row, len(self.center), "triton")

    def of_parents(self, sums: Tensor, depth: int) -> Tensor:
        """Add up (M_depth, F) sums of a level's voxels to those of the next coarser one."""
        level, above = self.pyramid.levels[depth : depth + 2]
        # Rows beyond those in use hold nothing: where they go does not matter.
        assert level.parent is not None
        return padded.sum_rows(sums, level.parent, len(above))

    def column_top(self) -> Tensor:
        """Return the (K,) height of the highest point in the column of each point."""
        cell = COLUMN_VOXELS * self.grid_m
        return padded.column_top(self.points, self.used, self.height, cell, GROUND_CELLS, self.wrong)

    def compared(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return (K, 2), ``values`` by the cloud's bright ones and as ranks, and 1; zeros where none is bright."""
        return padded.relative_values(values, self.used, len(RANKS))


def prepare_padded(
    contract: InputContract, xyz: Tensor, fields: Mapping[str, Tensor], capacities: Sequence[int]
) -> PaddedInput:
    """Prepare one scene of Cartesian voxels; never waits for the device.

    Args:
        xyz: (N, 3) float32, level where the contract asks for it; NaN for points to leave out.
        fields: by name, as ``features.fields_of``, N rows each.
        capacities: voxels of each level, fine to coarse, that there is room for.
    """
    used = torch.isfinite(xyz).all(1)
    far = used.new_zeros(1)
    if contract.max_range_m:
        near = used & (xyz[:, :2].square().sum(1) <= contract.max_range_m**2)
        far = (2 * near.sum() < used.sum())[None]
        used = near
    points = xyz.masked_fill(~used[:, None], torch.nan)
    pyramid, inverse, share, counts = build_padded_pyramid(points, contract.grid_m, capacities)
    wrong = ((used & (inverse < 0)).any() | far).to(torch.int64)
    ground = (contract.ground_cell_m, contract.slopes, GROUND_CELLS, wrong)
    heights = padded.heights(points, used, *ground)
    scene = PaddedCloud(
        fields=fields,
        points=points,
        row=inverse,
        pyramid=pyramid,
        grid_m=contract.grid_m,
        height=heights[:, 0],
        relief=heights[:, -1],
        share=share,
        used=used,
        wrong=wrong,
    )
    return PaddedInput(columns_of(scene, contract.features), pyramid, inverse, torch.cat([wrong, counts]))
