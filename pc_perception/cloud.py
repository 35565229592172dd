# SPDX-License-Identifier: Apache-2.0
"""The one type that all parts hand to each other: a point cloud with named per-point fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PointCloud:
    """Points of one scene in one frame.

    Attributes:
        xyz: (N, 3) float32, metres, in ``frame``. NaN and Inf mark invalid returns (REP-117) and are
            kept, so that outputs can have the input's size and order.
        fields: per-point arrays of length N. Names with a fixed meaning: ``intensity`` float32 (the
            sensor's own unit), ``rgb`` (N, 3) uint8, ``ring`` uint16, ``time`` float32 seconds after
            ``stamp_ns``, ``normal`` (N, 3) float32, ``label`` integer, ``instance`` integer.
        frame: name of the coordinate frame; one that ends in ``_optical`` or ``_optical_frame`` has
            z forward and y down (REP-103), every other is taken to have z up; what cameras send in other frames
            is found by its points (``inference.upright``).
        stamp_ns: nanoseconds since the epoch.
        grid_shape: (height, width) of an organised cloud, row-major, or None.

    Raises:
        ValueError: an array's shape does not fit.
    """

    xyz: NDArray[np.float32]
    fields: Mapping[str, NDArray] = field(default_factory=dict)
    frame: str = ""
    stamp_ns: int = 0
    grid_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        xyz = np.asarray(self.xyz, dtype=np.float32)
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ValueError(f"xyz must have shape (N, 3), got {xyz.shape}")
        object.__setattr__(self, "xyz", xyz)
        for name, values in self.fields.items():
            if len(values) != len(xyz):
                raise ValueError(f"field '{name}' has {len(values)} values for {len(xyz)} points")
        if self.grid_shape is not None and self.grid_shape[0] * self.grid_shape[1] != len(xyz):
            raise ValueError(f"grid_shape {self.grid_shape} does not hold {len(xyz)} points")

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def is_optical(self) -> bool:
        """True where the frame's name says z forward, y down."""
        return self.frame.endswith(("_optical", "_optical_frame"))

    def finite(self) -> NDArray[np.bool_]:
        """(N,) bool, True where x, y and z are all finite."""
        return np.isfinite(self.xyz).all(axis=1)

    def select(self, index: NDArray) -> PointCloud:
        """Return the points that ``index`` (integers or a mask) picks; no longer organised."""
        fields = {name: values[index] for name, values in self.fields.items()}
        return replace(self, xyz=self.xyz[index], fields=fields, grid_shape=None)

    def with_fields(self, **fields: NDArray) -> PointCloud:
        """Return the same points with further (or replaced) fields."""
        return replace(self, fields={**self.fields, **fields})
