# SPDX-License-Identifier: Apache-2.0
"""Encoder of single objects on voxels: the way down of the scene encoder, for PointCSP's classification.

PointCSP's paper does not say what it classifies with. Ours has three stages of 96, 192 and 384 channels on about
1,024, 256 and 64 samples (``scene_encoder.SIZES["objects"]``): on the unit sphere, voxels of 0.05, 0.1 and 0.2 give
about as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from .pyramid import Level, build_pyramid, pack
from .scene_encoder import SceneEncoder
from .walks import Walk, along_curves

N_FEATURES = 6
"""Of a voxel: the mean of its points, and where that lies in the voxel."""


class VoxelObjectEncoder(SceneEncoder):
    """Points of an object in, features of its coarsest voxels out; no object sees another.

    Args:
        grid: edge of the finest voxels, in radii of the object.
        arguments: of ``SceneEncoder``, whose tensors it shares by name as far as the way down.
    """

    def __init__(self, grid: float = 0.05, **arguments: Any) -> None:
        super().__init__(N_FEATURES, **arguments)
        self.grid, self.width = grid, self.widths[-1]
        del self.up, self.refine  # nothing comes up again

    @property
    def n_described(self) -> int:
        """Length of ``describe``."""
        return 2 * self.width

    def pooled(self, points: Tensor, offsets: Sequence[int] | None = None) -> Tensor:
        """Encode objects, (B, N, 3) or packed (N, 3) with offsets, on the unit sphere, to (B, 2 C)."""
        return self.pool(*self.levels_of(points, offsets)[-1])

    def levels_of(
        self, points: Tensor, offsets: Sequence[int] | None = None, walk: Walk = along_curves
    ) -> list[tuple[Tensor, Level]]:
        """Return (M_l, C_l) features of each level's voxels; no object sees another unless ``walk`` joins them."""
        if offsets is None:
            offsets = [0, *accumulate([points.shape[1]] * len(points))]
            points = points.flatten(0, 1)
        objects = [points[a:b] for a, b in pairwise(offsets)]
        pyramid = pack([build_pyramid(xyz, self.grid, self.n_levels)[0] for xyz in objects])
        finest = pyramid.levels[0]
        place = finest.xyz / self.grid
        features = torch.cat([finest.xyz, place - place.floor() - 0.5], 1)
        return list(zip(self.encode(features, pyramid, walk), pyramid.levels, strict=True))

    @staticmethod
    def pool(x: Tensor, level: Level) -> Tensor:
        """Return (B, 2 C), mean and maximum over each object's voxels."""
        each = [x[a:b] for a, b in pairwise(level.offsets)]
        return torch.stack([torch.cat([rows.mean(0), rows.amax(0)]) for rows in each])

    def describe(self, points: Tensor, offsets: Sequence[int] | None = None) -> Tensor:
        """Return (B, 2 C) features for probes."""
        return self.pooled(points, offsets)
