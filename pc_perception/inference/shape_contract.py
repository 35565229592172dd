# SPDX-License-Identifier: Apache-2.0
"""What a model of shapes expects: whole objects in z-up axes, their bounding box in the middle of the cube -1 .. 1."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_z

from .object_contract import MAX_POINTS, object_points


@dataclass(frozen=True)
class Placement:
    """Where a shape's cube lies: x_cloud = R_z(yaw) x_cube scale + middle, in z-up axes.

    Attributes:
        middle: (3,) float64, metres.
        scale: half the cube's edge, metres.
        yaw: radians about z from the shape's front (+x) to where it faces in the cloud.
    """

    middle: NDArray[np.float64]
    scale: float
    yaw: float = 0.0

    def into_cube(self, xyz: NDArray) -> NDArray[np.float32]:
        """Return (n, 3) points of the cloud in the cube's coordinates."""
        return ((xyz - self.middle) @ rotation_z(self.yaw) / self.scale).astype(np.float32)

    def out_of_cube(self, xyz: NDArray) -> NDArray[np.float32]:
        """Return (n, 3) points of the cube in the cloud's coordinates."""
        return (xyz * self.scale @ rotation_z(self.yaw).T + self.middle).astype(np.float32)


@dataclass(frozen=True)
class ShapeContract:
    """The input that a model of shapes was trained for; stored in its file and enforced at run time.

    Attributes:
        n_points: points of a whole shape; a part of one is thinned to what such a cloud has there.
    """

    n_points: int = 2048

    def __post_init__(self) -> None:
        if type(self.n_points) is not int or not 1 <= self.n_points <= MAX_POINTS:
            raise ValueError(f"the contract's n_points must be 1 .. {MAX_POINTS}, it is {self.n_points}")

    def points(self, cloud: PointCloud, least: int) -> NDArray[np.float32]:
        """Return the finite points of a cloud that is (a part of) one object, (n, 3) float32, metres, z up.

        Raises:
            ValueError: there are fewer than ``least``, or they have no extent.
        """
        points = object_points(cloud)
        if len(points) < least:
            raise ValueError(
                f"the cloud has {len(points)} finite points; a shape is completed from at least {least}"
            )
        size = np.ptp(points, axis=0)
        if not size.max() > 1e-6 * max(float(np.abs(points).max()), 1e-30):
            raise ValueError("all points of the cloud are equal; an object needs an extent")
        return points

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that a model file's header holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> ShapeContract:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: a key is missing, unknown, or its value has the wrong form.
        """
        known = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or set(data) != known:
            raise ValueError(f"the contract of a shape model must have the keys {sorted(known)}")
        return cls(**data)


def box_placement(xyz: NDArray, yaw: float = 0.0) -> Placement:
    """Return the cube of a whole shape (n, 3) that faces ``yaw``: about its bounding box, as wide as that is."""
    turned = xyz.astype(np.float64) @ rotation_z(yaw)
    low, high = turned.min(0), turned.max(0)
    return Placement(rotation_z(yaw) @ ((low + high) / 2), float((high - low).max()) / 2, yaw)
