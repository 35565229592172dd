# SPDX-License-Identifier: Apache-2.0
"""What a model expects of a cloud, and the one way a cloud becomes tensors and labels come back.

PointCloud -> prepare -> Prepared -> network -> finish -> labels, confidence per input point
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from pc_perception.labels import UNLABELED
from pc_perception.models.pyramid import Pyramid, build_pyramid
from pc_perception.ops.ground import height_above_ground
from pc_perception.ops.ranks import ranks
from pc_perception.ops.repeats import first_equal
from pc_perception.ops.scatter import scatter_mean, scatter_sum
from pc_perception.ops.shape import N_SHAPE, column_top, moments, shape_features

from .upright import upright

SHAPE_LEVELS = 3
FEATURE_WIDTHS = {
    "offset": 3,
    "height": 2,
    "column": 2,
    "relief": 1,
    "shape": SHAPE_LEVELS * N_SHAPE,
    "range": 1,
    "intensity": 3,
    "intensity_255": 1,
    "intensity_raw": 1,
    "color": 4,
}
"""Input features by name and how many columns each has.

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


RELIEF_SLOPE = 0.03
"""Steepest ground below ``relief``, metres per metre."""
RANKS = np.linspace(0, 1, 21)
"""Quantiles between which intensities are ranked; the last but one is what "bright" means."""


@dataclass(frozen=True)
class Prepared:
    """One scene as the network takes it.

    Attributes:
        features: (M, F) float32, one row per voxel.
        pyramid: the voxels and their relations.
        inverse: (N,) int64 voxel row of every input point, -1 where the network does not see it.
    """

    features: Tensor
    pyramid: Pyramid
    inverse: Tensor


@dataclass(frozen=True)
class InputContract:
    """The input that a model was trained for; stored in its file and enforced at run time.

    Attributes:
        grid_m: voxel edge.
        features: names out of ``FEATURE_WIDTHS``, in the order of the network's columns.
        max_range_m: points further from the origin (horizontally) stay unlabeled; 0 keeps all. Where
            less than half of a cloud lies in range, its origin is no sensor's (a map, an airborne
            tile): distances then count from the median point.
        ground_cell_m, ground_slope: see ``ops.ground.height_above_ground``.
        voxels: ``cartesian``, or ``cylindrical``: distance from the z axis, one degree of azimuth for each
            voxel, and height (SLidR, Cylinder3D); then without ``offset`` and ``shape``.
        level_camera: turn views of cameras upright and level them by their dominant plane.
        seen: percentiles of the training clouds (``inference/sensor_check.py``), empty when unknown.
    """

    grid_m: float
    features: tuple[str, ...]
    max_range_m: float = 0.0
    ground_cell_m: float = 1.0
    ground_slope: float = 0.25
    voxels: str = "cartesian"
    level_camera: bool = False
    seen: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        for name in ("grid_m", "ground_cell_m", "ground_slope"):
            if not 0 < getattr(self, name) < 1e4:
                raise ValueError(f"the contract's {name} must be positive, it is {getattr(self, name)}")
        if not 0 <= self.max_range_m < 1e6:
            raise ValueError(f"the contract's max_range_m must not be negative, it is {self.max_range_m}")
        unknown = set(self.features) - set(FEATURE_WIDTHS)
        if unknown or len(set(self.features)) != len(self.features) or not self.features:
            raise ValueError(
                f"the contract's features {self.features} must be names of {list(FEATURE_WIDTHS)}"
            )

        if self.voxels not in ("cartesian", "cylindrical"):
            raise ValueError(f"the contract's voxels must be cartesian or cylindrical, not '{self.voxels}'")
        if self.voxels == "cylindrical" and (flat := {"offset", "shape"} & set(self.features)):
            raise ValueError(f"the contract's features {sorted(flat)} are not defined for cylindrical voxels")

    @property
    def n_features(self) -> int:
        """Number of input columns."""
        return sum(FEATURE_WIDTHS[name] for name in self.features)

    def prepare(self, cloud: PointCloud, n_levels: int, device: torch.device | str = "cpu") -> Prepared:
        """Turn one cloud into the network's input; every other cloud is out of reach.

        Args:
            cloud: any size; NaN, Inf and points out of range are left out (``inverse`` = -1). A point that comes
                again, as in dual return mode, counts once.
            n_levels: depth of the network's pyramid.
            device: where the work is done and the result lies.

        Raises:
            ValueError: the finite points span too many voxels (``ops.voxelize``).
        """
        xyz = torch.from_numpy(upright(cloud) if self.level_camera else cloud.xyz).to(device)
        seen = torch.isfinite(xyz).all(1)
        if (repeats := first_equal(cloud.xyz)) is not None:
            seen &= torch.from_numpy(repeats == np.arange(len(xyz))).to(device)
        if self.max_range_m:
            near = seen & (xyz[:, :2].square().sum(1) <= self.max_range_m**2)
            if 2 * int(near.sum()) < int(seen.sum()):
                xyz = xyz - torch.cat([xyz[seen][:, :2].median(0).values, xyz.new_zeros(1)])
                near = seen & (xyz[:, :2].square().sum(1) <= self.max_range_m**2)
            seen = near
        kept = seen.nonzero()[:, 0]
        everything = len(kept) == len(xyz)
        points = xyz if everything else xyz.index_select(0, kept)
        lattice = cylindrical(points, self.grid_m) if self.voxels == "cylindrical" else None
        pyramid, row = build_pyramid(points, self.grid_m, n_levels, lattice)
        columns = self._columns(
            cloud, points, slice(None) if everything else kept.cpu().numpy(), pyramid, row
        )
        inverse = row
        if not everything:
            inverse = torch.full((len(xyz),), -1, dtype=torch.int64, device=xyz.device)
            inverse[kept] = row
        if repeats is not None:
            inverse = inverse[torch.from_numpy(repeats).to(device)]
        return Prepared(columns, pyramid, inverse)

    def _columns(
        self, cloud: PointCloud, points: Tensor, kept: NDArray | slice, pyramid: Pyramid, row: Tensor
    ) -> Tensor:
        """Average per-point features over voxels and add those of the voxels themselves."""
        center = pyramid.levels[0].xyz
        parts: dict[str, Tensor] = {}
        slopes = (self.ground_slope, RELIEF_SLOPE) if "relief" in self.features else (self.ground_slope,)
        heights = height_above_ground(points, self.ground_cell_m, slopes)
        height = heights[:, 0]
        for name in self.features:
            if name == "offset":
                scaled = center / self.grid_m
                parts[name] = scaled - scaled.floor() - 0.5
            elif name == "range":
                parts[name] = center[:, :2].norm(dim=1, keepdim=True) / 50
            elif name == "height":
                mean = scatter_mean(height[:, None], row, len(center))
                parts[name] = torch.cat([mean.clamp(-10, 40) / 4, mean.clamp(-0.5, 1.5)], 1)
            elif name == "column":
                top = column_top(points, height, 4 * self.grid_m)
                both = scatter_mean(torch.stack([top, top - height], 1), row, len(center))
                parts[name] = both.clamp(-10, 40) / 4
            elif name == "relief":
                parts[name] = scatter_mean(heights[:, 1:], row, len(center)).clamp(-0.25, 1) * 4
            elif name == "shape":
                parts[name] = _shape_columns(points, row, pyramid)
            elif name == "intensity":
                parts[name] = _mean_or_missing(_intensity(cloud, kept), 2, row, len(center))
            elif name in ("intensity_255", "intensity_raw"):
                values = _own_intensity(cloud, kept, 255 if name == "intensity_255" else 1)
                parts[name] = scatter_mean(values.to(row.device), row, len(center))
            elif name == "color":
                parts[name] = _mean_or_missing(_color(cloud, kept), 3, row, len(center))
        return torch.cat([parts[name] for name in self.features], 1)

    def finish(self, logits: Tensor, inverse: Tensor) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
        """Carry (M, C) voxel logits back to the points.

        Returns:
            labels (N,) uint16 and confidence (N,) float32 (softmax of the label) in input order;
            ``UNLABELED`` and 0 where ``inverse`` is -1.
        """
        logits = logits.float()
        highest, label = logits.max(1)
        confidence = 1 / (logits - highest[:, None]).exp_().sum(1)  # the softmax of the highest alone
        row = torch.where(inverse < 0, len(label), inverse)  # one more, for the points of no voxel
        none = label.new_full((1,), int(np.uint16(UNLABELED).view(np.int16)), dtype=torch.int16)
        # As int16: devices cannot gather uint16.
        labels = torch.cat([label.to(torch.int16), none]).index_select(0, row)
        confidence = torch.cat([confidence, confidence.new_zeros(1)]).index_select(0, row)
        return labels.cpu().numpy().view(np.uint16), confidence.cpu().numpy()

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that a model file's header holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> InputContract:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: a key is missing, unknown, or its value has the wrong form.
        """
        if not isinstance(data, dict):
            raise ValueError(f"the input contract must be an object, it is {type(data).__name__}")
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"the input contract has unknown keys {sorted(unknown)}; update pc_perception")
        try:
            numbers = ("grid_m", "max_range_m", "ground_cell_m", "ground_slope")
            values: dict[str, Any] = {k: float(data[k]) for k in numbers if k in data}
            seen = {str(k): tuple(float(p) for p in v) for k, v in dict(data.get("seen", {})).items()}
            features = tuple(str(name) for name in data["features"])
            values["voxels"] = str(data.get("voxels", "cartesian"))
            return cls(features=features, level_camera=bool(data.get("level_camera")), seen=seen, **values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the input contract cannot be read: {error!r}") from error


def cylindrical(xyz: Tensor, grid: float) -> Tensor:
    """Return (N, 3) places whose voxels of edge ``grid`` are cylindrical ones: one degree of azimuth fills an edge."""
    azimuth = torch.rad2deg(torch.atan2(xyz[:, 1], xyz[:, 0]))
    return torch.stack([xyz[:, :2].norm(dim=1), azimuth * grid, xyz[:, 2]], 1)


def _shape_columns(points: Tensor, row: Tensor, pyramid: Pyramid) -> Tensor:
    """Return (M, 15) shape features of each finest voxel and of its parent and grandparent."""
    level = pyramid.levels[0]
    sums, ancestor = moments(points, row, len(level)), torch.arange(len(level), device=row.device)
    columns = []
    for depth in range(SHAPE_LEVELS):
        level = pyramid.levels[min(depth, len(pyramid.levels) - 1)]
        columns.append(shape_features(sums, level.neighbors, level.edge).index_select(0, ancestor))
        if level.parent is not None and depth + 1 < SHAPE_LEVELS:
            n_parents = len(pyramid.levels[depth + 1])
            sums = scatter_sum(sums, level.parent, n_parents)
            ancestor = level.parent.index_select(0, ancestor)
    return torch.cat(columns, 1)


def _mean_or_missing(values: Tensor | None, width: int, row: Tensor, n_voxels: int) -> Tensor:
    if values is None:
        return torch.zeros(n_voxels, width + 1, device=row.device)
    mean = scatter_mean(values.to(row.device), row, n_voxels)
    return torch.cat([mean, mean.new_ones(n_voxels, 1)], 1)


def _intensity(cloud: PointCloud, kept: NDArray | slice) -> Tensor | None:
    """Return (K, 2) intensity relative to the cloud's own bright returns and as a rank, or None.

    Sensors give 0..1, 0..255 or 16 bits, with and without range correction: only the order of
    magnitude inside one cloud is comparable.
    """
    if "intensity" not in cloud.fields:
        return None
    values = np.nan_to_num(np.asarray(cloud.fields["intensity"], np.float32)[kept], posinf=0.0, neginf=0.0)
    if values.ndim != 1 or not len(values):
        return None
    # All of them, not a sample: which ones a sample takes would depend on the order of the points.
    steps = np.sort(values)[np.rint(RANKS * (len(values) - 1)).astype(np.int64)]
    bright = float(steps[-2])
    if bright <= 0:
        return None
    return torch.stack([(torch.from_numpy(values) / bright).clamp_(0, 2), ranks(values, steps)], 1)


def _own_intensity(cloud: PointCloud, kept: NDArray | slice, scale: float) -> Tensor:
    """Return (K, 1) intensity in the sensor's unit / ``scale``."""
    values = cloud.fields.get("intensity", np.zeros(len(cloud)))
    values = np.nan_to_num(np.asarray(values, np.float32)[kept], posinf=0.0, neginf=0.0)
    return torch.from_numpy(values)[:, None] / scale


def _color(cloud: PointCloud, kept: NDArray | slice) -> Tensor | None:
    if "rgb" not in cloud.fields:
        return None
    return torch.from_numpy(cloud.fields["rgb"][kept].astype(np.float32) / 255 - 0.5)
