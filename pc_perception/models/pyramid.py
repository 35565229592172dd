# SPDX-License-Identifier: Apache-2.0
"""A cloud as voxels at several scales, with everything that says who is whose neighbour or parent.

Built once per scene, outside the network, from coordinates alone; scenes are then packed one behind the
other. A network that only follows these indices cannot mix scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from pc_perception.ops.grouping import Neighborhood, voxel_neighbors
from pc_perception.ops.scatter import scatter_mean
from pc_perception.ops.serialize import z_order
from pc_perception.ops.voxelize import voxelize

CURVES = ((0, 1, 2), (1, 0, 2))
"""Axis orders of the Z-curves that sequence blocks walk along; the first is the storage order."""


@dataclass(frozen=True)
class Level:
    """The voxels of one scale, Z-ordered inside each scene.

    Attributes:
        edge: voxel edge, metres.
        xyz: (M, 3) float32, metres, mean of the points in each voxel.
        neighbors: lists over this level's voxels.
        children: lists of the next finer level's voxels (at level 0: of nothing, None).
        parent: (M,) int64 row in the next coarser level (at the coarsest: None).
        coords: (M, 3) int64, voxel coordinates, each scene's own.
        offsets: scene s owns the rows offsets[s] .. offsets[s + 1].
        in_use: None, or of one scene in tensors of fixed capacity (``padded_pyramid``) instead of offsets: (2,) int64
            on the device, 0 and the number of rows that are voxels.
    """

    edge: float
    xyz: Tensor
    neighbors: Neighborhood
    children: Neighborhood | None
    parent: Tensor | None
    coords: Tensor
    offsets: tuple[int, ...]
    in_use: Tensor | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    def order(self, curve: int) -> Tensor:
        """Return the permutation (M,) int64 that lists rows along one of ``CURVES``; it never leaves a scene."""
        if curve == 0:
            return torch.arange(len(self), device=self.coords.device)
        codes = z_order(self.coords, CURVES[curve])
        if self.in_use is not None:
            row = torch.arange(len(self), device=codes.device)
            return torch.argsort(codes.masked_fill(row >= self.in_use[-1], torch.iinfo(torch.int64).max))
        scenes = pairwise(self.offsets)
        return torch.cat([torch.argsort(codes[a:b]) + a for a, b in scenes])


@dataclass(frozen=True)
class Pyramid:
    """Levels from fine to coarse, each with twice the voxel edge of the one before."""

    levels: tuple[Level, ...]

    def to(self, device: torch.device) -> Pyramid:
        """Return the pyramid with all tensors on ``device``."""

        def move(level: Level) -> Level:
            return replace(
                level,
                xyz=level.xyz.to(device),
                neighbors=level.neighbors.to(device),
                children=None if level.children is None else level.children.to(device),
                parent=None if level.parent is None else level.parent.to(device),
                coords=level.coords.to(device),
            )

        return Pyramid(tuple(move(level) for level in self.levels))


def build_pyramid(
    xyz: Tensor, grid: float, n_levels: int, lattice: Tensor | None = None
) -> tuple[Pyramid, Tensor]:
    """Voxelise one scene at ``n_levels`` scales.

    Args:
        xyz: (N, 3) float32, finite, metres.
        grid: voxel edge of level 0, metres.
        lattice: (N, 3) float32, places that are voxelised instead, such as cylindrical coordinates.

    Returns:
        The pyramid and the (N,) int64 row in level 0 of every point. O(N log N).

    Raises:
        ValueError: as ``voxelize``.
    """
    voxels = voxelize(xyz if lattice is None else lattice, grid)
    coords, codes = voxels.coords, voxels.codes
    centers = scatter_mean(xyz, voxels.inverse, len(voxels))
    levels: list[Level] = []
    children: Neighborhood | None = None
    for depth in range(n_levels):
        parent = None
        if depth + 1 < n_levels:
            parent = torch.zeros_like(codes)
            parent[1:] = (codes[1:] >> 3 != codes[:-1] >> 3).cumsum(0)
        levels.append(
            Level(
                edge=grid * 2**depth,
                xyz=centers,
                neighbors=voxel_neighbors(coords),
                children=children,
                parent=parent,
                coords=coords,
                offsets=(0, len(coords)),
            )
        )
        if parent is None:
            break
        n_parents = int(parent[-1]) + 1 if len(parent) else 0
        children = Neighborhood.of_runs(parent, n_parents)
        first = children.starts[:-1]
        centers = scatter_mean(centers, parent, n_parents)
        coords, codes = coords[first] >> 1, codes[first] >> 3
    return Pyramid(tuple(levels)), voxels.inverse


def pack(pyramids: Sequence[Pyramid]) -> Pyramid:
    """Lay several scenes behind each other; no index crosses from one to another.

    Raises:
        ValueError: no scene is given, or the scenes differ in their number of levels.
    """
    if len(pyramids) == 1:
        return pyramids[0]
    return Pyramid(tuple(_pack_level(levels) for levels in zip(*(p.levels for p in pyramids), strict=True)))


def _pack_level(levels: Sequence[Level]) -> Level:
    offsets = [0]
    for level in levels:
        offsets.append(offsets[-1] + len(level))
    first = levels[0]
    return Level(
        edge=first.edge,
        xyz=torch.cat([level.xyz for level in levels]),
        neighbors=_pack_lists([level.neighbors for level in levels]),
        children=None if first.children is None else _pack_lists([_known(v.children) for v in levels]),
        parent=None if first.parent is None else _pack_parents([_known(v.parent) for v in levels]),
        coords=torch.cat([level.coords for level in levels]),
        offsets=tuple(offsets),
    )


def _known(value):  # type: ignore[no-untyped-def]
    assert value is not None, "pyramids of different depth"
    return value


def _pack_parents(parents: Sequence[Tensor]) -> Tensor:
    start, out = 0, []
    for parent in parents:
        out.append(parent + start)
        start += int(parent[-1]) + 1 if len(parent) else 0
    return torch.cat(out)


def _pack_lists(lists: Sequence[Neighborhood]) -> Neighborhood:
    """Concatenate lists that each point into rows 0 .. n of their own scene."""
    starts, index, end, row = [torch.zeros(1, dtype=torch.int64)], [], 0, 0
    for item in lists:
        starts.append(item.starts[1:] + end)
        index.append(item.index + row)
        end += len(item.index)
        # A scene's rows are 0 .. max(index): every row is its own neighbour or somebody's child.
        row += int(item.index.max()) + 1 if len(item.index) else 0
    return Neighborhood(torch.cat(starts), torch.cat(index))
