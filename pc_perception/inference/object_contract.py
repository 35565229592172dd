# SPDX-License-Identifier: Apache-2.0
"""What a model of single objects expects: points in z-up axes, so many at most, on the unit sphere."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL
from pc_perception.ops.sampling import farthest_point_sampling

MAX_POINTS = 65_536
MIN_POINTS = 5
"""Of fewer points no shape is seen; scenes take no fewer for an object either (``InstanceOptions``)."""


@dataclass(frozen=True)
class ObjectContract:
    """The input that an object model was trained for; stored in its file and enforced at run time.

    Attributes:
        n_points: larger objects are thinned to this many points, farthest first; smaller ones stay as they are.
    """

    n_points: int = 1024

    def __post_init__(self) -> None:
        if type(self.n_points) is not int or not 1 <= self.n_points <= MAX_POINTS:
            raise ValueError(f"the contract's n_points must be 1 .. {MAX_POINTS}, it is {self.n_points}")

    def prepare(self, cloud: PointCloud) -> Tensor | None:
        """Turn one object into the network's input.

        The first point is the one farthest from the centroid, so that sampling, which starts there, does not
        depend on the order of the points.

        Returns:
            (n, 3) float32, n <= n_points; None where the object has fewer than ``MIN_POINTS`` finite points, or
            no extent: all are equal.
        """
        found = object_points(cloud)
        points = on_unit_sphere(found) if len(found) >= MIN_POINTS else None
        if points is None:
            return None
        xyz = torch.from_numpy(points)
        start = int(xyz.square().sum(1).argmax())
        if len(xyz) <= self.n_points:
            return torch.cat([xyz[start : start + 1], xyz[:start], xyz[start + 1 :]])
        chosen = farthest_point_sampling(xyz, self.n_points, start=start)
        thinned = on_unit_sphere(points[chosen.numpy()])
        return None if thinned is None else torch.from_numpy(thinned)

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that a model file's header holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> ObjectContract:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: a key is missing, unknown, or its value has the wrong form.
        """
        known = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or set(data) != known:
            raise ValueError(f"the contract of an object model must have the keys {sorted(known)}")
        return cls(**data)


def object_points(cloud: PointCloud) -> NDArray[np.float32]:
    """Return the finite points of an object, (n, 3) float32, in z-up axes also where the frame is optical."""
    xyz = cloud.xyz[cloud.finite()]
    return xyz @ R_BODY_OPTICAL.T.astype(np.float32) if cloud.is_optical else xyz


def on_unit_sphere(xyz: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return (n, 3) points about their centroid, the outermost at distance 1; None where they have no extent."""
    if not len(xyz):
        return None
    centered = xyz - xyz.mean(0, dtype=np.float64)
    radius = np.sqrt(np.square(centered).sum(1).max())
    # Equal points differ from their mean by rounding only.
    if not radius > 1e-6 * max(float(np.abs(xyz).max()), 1e-30):
        return None
    return (centered / radius).astype(np.float32)
