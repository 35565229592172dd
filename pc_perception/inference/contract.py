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
from pc_perception.ops.repeats import first_equal

from .features import FEATURES, RELIEF_SLOPE, VoxelizedCloud, columns_of, fields_of
from .upright import upright

UNLABELED_BITS = int(np.uint16(UNLABELED).view(np.int16))
"""``UNLABELED`` as an int16 of the same bits."""


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
        features: names out of ``features.FEATURES``, in the order of the network's columns.
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
        unknown = set(self.features) - set(FEATURES)
        if unknown or len(set(self.features)) != len(self.features) or not self.features:
            raise ValueError(f"the contract's features {self.features} must be names of {list(FEATURES)}")

        if self.voxels not in ("cartesian", "cylindrical"):
            raise ValueError(f"the contract's voxels must be cartesian or cylindrical, not '{self.voxels}'")
        if self.voxels == "cylindrical" and (flat := {"offset", "shape"} & set(self.features)):
            raise ValueError(f"the contract's features {sorted(flat)} are not defined for cylindrical voxels")

    @property
    def n_features(self) -> int:
        """Number of input columns."""
        return sum(FEATURES[name].width for name in self.features)

    @property
    def slopes(self) -> tuple[float, ...]:
        """Steepest ground below each of the heights that the features ask for."""
        return (self.ground_slope, RELIEF_SLOPE) if "relief" in self.features else (self.ground_slope,)

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
        height, *relief = height_above_ground(points, self.ground_cell_m, self.slopes).unbind(1)
        values = fields_of(cloud, self.features, slice(None) if everything else kept.cpu().numpy())
        scene = VoxelizedCloud(values, points, row, pyramid, self.grid_m, height, *relief)
        inverse = row
        if not everything:
            inverse = torch.full((len(xyz),), -1, dtype=torch.int64, device=xyz.device)
            inverse[kept] = row
        if repeats is not None:
            inverse = inverse[torch.from_numpy(repeats).to(device)]
        return Prepared(columns_of(scene, self.features), pyramid, inverse)

    def finish(self, logits: Tensor, inverse: Tensor) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
        """Carry (M, C) voxel logits back to the points.

        Returns:
            labels (N,) uint16 and confidence (N,) float32 (softmax of the label) in input order;
            ``UNLABELED`` and 0 where ``inverse`` is -1.
        """
        labels, confidence = self.label(logits, inverse)
        return labels.cpu().numpy().view(np.uint16), confidence.cpu().numpy()

    @staticmethod
    def label(logits: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same on the device; the labels as int16 of the same bits, since devices cannot gather uint16."""
        logits = logits.float()
        highest, label = logits.max(1)
        confidence = 1 / (logits - highest[:, None]).exp_().sum(1)  # the softmax of the highest alone
        row = torch.where(inverse < 0, len(label), inverse)  # one more, for the points of no voxel
        none = label.new_full((1,), UNLABELED_BITS, dtype=torch.int16)
        labels = torch.cat([label.to(torch.int16), none]).index_select(0, row)
        return labels, torch.cat([confidence, confidence.new_zeros(1)]).index_select(0, row)

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
