# SPDX-License-Identifier: Apache-2.0
"""The input features of scenes: columns of numbers per voxel, of one cloud alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from pc_perception.models.pyramid import Pyramid
from pc_perception.ops.radix_sort import sort_floats
from pc_perception.ops.ranks import ranks
from pc_perception.ops.scatter import scatter_mean, scatter_sum
from pc_perception.ops.shape import N_SHAPE, column_top, moments, shape_features

SHAPE_LEVELS = 3
RELIEF_SLOPE = 0.03
"""Steepest ground below ``relief``, metres per metre."""
COLUMN_VOXELS = 4
"""Width of the columns whose highest point is told."""
RANKS = np.linspace(0, 1, 21)
"""Quantiles between which intensities are ranked; the last but one is what "bright" means."""


@dataclass(frozen=True)
class VoxelizedCloud:
    """A cloud and its voxels.

    Attributes:
        fields: by name what came with the points (``fields_of``), K rows each.
        points: (K, 3) float32 places of the points that have a voxel, level.
        row: (K,) int64 voxel of each.
        pyramid: the M voxels, ``grid_m`` wide, and those above them.
        height: (K,) metres above the local ground; ``relief`` (K,), above one that hardly rises, or None.
    """

    fields: Mapping[str, Tensor]
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

    def moments(self) -> Tensor:
        """Return the (M, 10) float64 moments of each voxel's points."""
        return moments(self.points, self.row, len(self.center))

    def of_parents(self, sums: Tensor, depth: int) -> Tensor:
        """Add up (M_depth, F) sums of a level's voxels to those of the next coarser one."""
        level, above = self.pyramid.levels[depth : depth + 2]
        assert level.parent is not None
        return scatter_sum(sums, level.parent, len(above))

    def column_top(self) -> Tensor:
        """Return the (K,) height of the highest point in the column, four voxels wide, of each point."""
        return column_top(self.points, self.height, COLUMN_VOXELS * self.grid_m)

    def compared(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return (K, 2), ``values`` by the cloud's bright ones and as ranks, and 1; zeros where none is bright."""
        own = values.numpy()
        # All of them, not a sample: which ones a sample takes would depend on the order of the points.
        places = np.rint(RANKS * (len(own) - 1)).astype(np.int64)
        steps = sort_floats(own)[places] if len(own) else np.zeros(2)
        bright = float(steps[-2])
        if bright <= 0:
            return values.new_zeros(len(own), 2), values.new_zeros(1)
        relative = (values / bright).clamp_(0, 2)
        return torch.stack([relative, ranks(own, steps)], 1), values.new_ones(1)


class Feature(NamedTuple):
    """``width`` columns, what computes them, (M, width) float32 of a voxelised cloud, and of which of its fields."""

    width: int
    of: Callable[[VoxelizedCloud], Tensor]
    field: str | None = None


def _offset(scene: VoxelizedCloud) -> Tensor:
    scaled = scene.center / scene.grid_m
    return scaled - scaled.floor() - 0.5


def _height(scene: VoxelizedCloud) -> Tensor:
    mean = scene.mean(scene.height[:, None])
    return torch.cat([mean.clamp(-10, 40) / 4, mean.clamp(-0.5, 1.5)], 1)


def _column(scene: VoxelizedCloud) -> Tensor:
    top = scene.column_top()
    return scene.mean(torch.stack([top, top - scene.height], 1)).clamp(-10, 40) / 4


def _relief(scene: VoxelizedCloud) -> Tensor:
    assert scene.relief is not None
    return scene.mean(scene.relief[:, None]).clamp(-0.25, 1) * 4


def _shape(scene: VoxelizedCloud) -> Tensor:
    """Shape features of each finest voxel and of its parent and grandparent."""
    levels = scene.pyramid.levels
    level, sums = levels[0], scene.moments()
    ancestor = torch.arange(len(level), device=scene.row.device)
    columns = []
    for depth in range(SHAPE_LEVELS):
        level = levels[min(depth, len(levels) - 1)]
        columns.append(shape_features(sums, level.neighbors, level.edge).index_select(0, ancestor))
        if level.parent is not None and depth + 1 < SHAPE_LEVELS:
            sums = scene.of_parents(sums, depth)
            ancestor = level.parent.index_select(0, ancestor)
    return torch.cat(columns, 1)


def _range(scene: VoxelizedCloud) -> Tensor:
    return scene.center[:, :2].norm(dim=1, keepdim=True) / 50


def _intensity(scene: VoxelizedCloud) -> Tensor:
    """Relative to the cloud's own bright returns, and as a rank.

    Sensors give 0..1, 0..255 or 16 bits, with and without range correction: only the order of
    magnitude inside one cloud is comparable.
    """
    values = scene.fields.get("intensity")
    if values is None:
        return _missing(scene, 2)
    columns, present = scene.compared(values)
    return _and_present(scene.mean(columns), present)


def _own_intensity(scene: VoxelizedCloud, unit: float) -> Tensor:
    values = scene.fields.get("intensity")
    return _missing(scene, 0) if values is None else scene.mean(values[:, None] / unit)


def _color(scene: VoxelizedCloud) -> Tensor:
    rgb = scene.fields.get("rgb")
    if rgb is None:
        return _missing(scene, 3)
    return _and_present(scene.mean(rgb / 255 - 0.5), rgb.new_ones(1))


def _missing(scene: VoxelizedCloud, width: int) -> Tensor:
    return scene.center.new_zeros(len(scene.center), width + 1)


def _and_present(columns: Tensor, present: Tensor) -> Tensor:
    return torch.cat([columns, present.to(columns.device).expand(len(columns), 1)], 1)


def fields_of(cloud: PointCloud, names: Iterable[str], rows: NDArray[np.int64] | slice) -> dict[str, Tensor]:
    """Return the fields that features read, where the cloud has them: (K,) or, of ``rgb``, (K, 3) float32, finite.

    Args:
        names: of features.
        rows: the K points that are wanted.
    """
    found = {}
    for name in {FEATURES[feature].field for feature in names} - {None}:
        values = cloud.fields.get(str(name))
        if values is not None and values.ndim == (2 if name == "rgb" else 1):
            numbers = np.nan_to_num(np.asarray(values, np.float32)[rows], posinf=0.0, neginf=0.0)
            found[str(name)] = torch.from_numpy(numbers)
    return found


FEATURES = {
    "offset": Feature(3, _offset),
    "height": Feature(2, _height),
    "column": Feature(2, _column),
    "relief": Feature(1, _relief),
    "shape": Feature(SHAPE_LEVELS * N_SHAPE, _shape),
    "range": Feature(1, _range),
    "intensity": Feature(3, _intensity, "intensity"),
    "intensity_255": Feature(1, partial(_own_intensity, unit=255), "intensity"),
    "intensity_raw": Feature(1, partial(_own_intensity, unit=1), "intensity"),
    "color": Feature(4, _color, "rgb"),
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
FIELDS = frozenset(f.field for f in FEATURES.values() if f.field is not None)
"""Fields of a cloud that features are made of: who labels a cloud needs no others."""


def columns_of(scene: VoxelizedCloud, names: Iterable[str]) -> Tensor:
    """Return the (M, F) columns of features, in their order."""
    return torch.cat([FEATURES[name].of(scene) for name in names], 1)
