# SPDX-License-Identifier: Apache-2.0
"""The input features of scenes: columns of numbers per voxel, of one cloud alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from pc_perception.models.pyramid import Pyramid
from pc_perception.ops.ranks import ranks
from pc_perception.ops.scatter import scatter_mean, scatter_sum
from pc_perception.ops.shape import N_SHAPE, column_top, moments, shape_features

SHAPE_LEVELS = 3
RELIEF_SLOPE = 0.03
"""Steepest ground below ``relief``, metres per metre."""
RANKS = np.linspace(0, 1, 21)
"""Quantiles between which intensities are ranked; the last but one is what "bright" means."""


@dataclass(frozen=True)
class VoxelizedCloud:
    """A cloud and its voxels.

    Attributes:
        cloud: as it came, for its fields.
        kept: rows of ``cloud`` that have a voxel.
        points: (K, 3) float32 places of those, level.
        row: (K,) int64 voxel of each.
        pyramid: the M voxels, ``grid_m`` wide, and those above them.
        height: (K,) metres above the local ground; ``relief`` (K,), above one that hardly rises, or None.
    """

    cloud: PointCloud
    kept: NDArray[np.int64] | slice
    points: Tensor
    row: Tensor
    pyramid: Pyramid
    grid_m: float
    height: Tensor
    relief: Tensor | None = None

    @property
    def center(self) -> Tensor:
        """(M, 3) mean place of each voxel's points."""
        return self.pyramid.levels[0].xyz

    def mean(self, values: Tensor) -> Tensor:
        """Return the (M, F) means over voxels of (K, F) values of points."""
        return scatter_mean(values.to(self.row.device), self.row, len(self.center))


class Feature(NamedTuple):
    """``width`` columns, and what computes them: (M, width) float32 of a voxelised cloud."""

    width: int
    of: Callable[[VoxelizedCloud], Tensor]


def _offset(scene: VoxelizedCloud) -> Tensor:
    scaled = scene.center / scene.grid_m
    return scaled - scaled.floor() - 0.5


def _height(scene: VoxelizedCloud) -> Tensor:
    mean = scene.mean(scene.height[:, None])
    return torch.cat([mean.clamp(-10, 40) / 4, mean.clamp(-0.5, 1.5)], 1)


def _column(scene: VoxelizedCloud) -> Tensor:
    top = column_top(scene.points, scene.height, 4 * scene.grid_m)
    return scene.mean(torch.stack([top, top - scene.height], 1)).clamp(-10, 40) / 4


def _relief(scene: VoxelizedCloud) -> Tensor:
    assert scene.relief is not None
    return scene.mean(scene.relief[:, None]).clamp(-0.25, 1) * 4


def _shape(scene: VoxelizedCloud) -> Tensor:
    """Shape features of each finest voxel and of its parent and grandparent."""
    levels = scene.pyramid.levels
    level = levels[0]
    sums = moments(scene.points, scene.row, len(level))
    ancestor = torch.arange(len(level), device=scene.row.device)
    columns = []
    for depth in range(SHAPE_LEVELS):
        level = levels[min(depth, len(levels) - 1)]
        columns.append(shape_features(sums, level.neighbors, level.edge).index_select(0, ancestor))
        if level.parent is not None and depth + 1 < SHAPE_LEVELS:
            sums = scatter_sum(sums, level.parent, len(levels[depth + 1]))
            ancestor = level.parent.index_select(0, ancestor)
    return torch.cat(columns, 1)


def _range(scene: VoxelizedCloud) -> Tensor:
    return scene.center[:, :2].norm(dim=1, keepdim=True) / 50


def _intensity(scene: VoxelizedCloud) -> Tensor:
    """Relative to the cloud's own bright returns, and as a rank.

    Sensors give 0..1, 0..255 or 16 bits, with and without range correction: only the order of
    magnitude inside one cloud is comparable.
    """
    values = _field(scene, "intensity")
    if values is None or not len(values):
        return _missing(scene, 2)
    # All of them, not a sample: which ones a sample takes would depend on the order of the points.
    steps = np.sort(values)[np.rint(RANKS * (len(values) - 1)).astype(np.int64)]
    bright = float(steps[-2])
    if bright <= 0:
        return _missing(scene, 2)
    relative = (torch.from_numpy(values) / bright).clamp_(0, 2)
    return _and_present(scene.mean(torch.stack([relative, ranks(values, steps)], 1)))


def _own_intensity(scene: VoxelizedCloud, unit: float) -> Tensor:
    values = _field(scene, "intensity")
    if values is None:
        values = np.zeros(len(scene.points), np.float32)
    return scene.mean(torch.from_numpy(values)[:, None] / unit)


def _color(scene: VoxelizedCloud) -> Tensor:
    if "rgb" not in scene.cloud.fields:
        return _missing(scene, 3)
    rgb = scene.cloud.fields["rgb"][scene.kept].astype(np.float32)
    return _and_present(scene.mean(torch.from_numpy(rgb / 255 - 0.5)))


def _field(scene: VoxelizedCloud, name: str) -> NDArray[np.float32] | None:
    """(K,) float32 finite values of a field of numbers, or None."""
    values = scene.cloud.fields.get(name)
    if values is None or values.ndim != 1:
        return None
    return np.nan_to_num(np.asarray(values, np.float32)[scene.kept], posinf=0.0, neginf=0.0)


def _missing(scene: VoxelizedCloud, width: int) -> Tensor:
    return scene.center.new_zeros(len(scene.center), width + 1)


def _and_present(columns: Tensor) -> Tensor:
    return torch.cat([columns, columns.new_ones(len(columns), 1)], 1)


FEATURES = {
    "offset": Feature(3, _offset),
    "height": Feature(2, _height),
    "column": Feature(2, _column),
    "relief": Feature(1, _relief),
    "shape": Feature(SHAPE_LEVELS * N_SHAPE, _shape),
    "range": Feature(1, _range),
    "intensity": Feature(3, _intensity),
    "intensity_255": Feature(1, partial(_own_intensity, unit=255)),
    "intensity_raw": Feature(1, partial(_own_intensity, unit=1)),
    "color": Feature(4, _color),
}
"""Input features by name.

``offset``: mean position inside the voxel, -0.5 .. 0.5 of its edge.
``height``: above the local ground, once coarse (m / 4) and once fine (m, clipped to -0.5 .. 1.5).
``column``: height of the highest point of the vertical column (four voxels wide) that the voxel stands in,
m / 4, and how far below it the voxel is.
``relief``: height above a ground that hardly rises, -1 .. 4 quarters of a metre: kerbs and banks lift all
that lies behind them.
``shape``: ``ops.shape.shape_features`` of the three finest levels.
``range``: horizontal distance to the sensor / 50 m.
``intensity``: divided by the cloud's own 95th percentile, clipped to 2; its rank in the cloud, 0 .. 1, which
no sensor's gain or curve changes; and 1 where the field exists.
``intensity_255``, ``intensity_raw``: the mean of the sensor's own values, divided by 255 (CMCR) or not (SLidR), 0 where
the field is missing. The names differ because a network that was trained on one is useless on the other.
``color``: rgb -0.5 .. 0.5, and 1 where the field exists.
"""
