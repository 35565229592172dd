# SPDX-License-Identifier: Apache-2.0
"""Points and occupancy queries of one solid, drawn as 3DILG's data: on the surface, in the cube, near the surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.inference.meshing import sample_triangles
from pc_perception.io.meshes import Mesh
from pc_perception.simulation.occupancy import Solid

NEAR_SIGMAS = (0.05, 0.015)
"""PROPOSED: half of the near queries each lie so far (one sigma) from the surface; 3DILG does not say how far."""
SKIN = 1e-3
"""A point of the surface is hidden where its outer side is within another part, this far out."""
MAX_TRIES = 50


@dataclass(frozen=True)
class Sizes:
    """How many rows of each kind are kept for a shape (3DILG keeps 500,000 queries and found 100,000 enough)."""

    surface: int = 4096
    vol: int = 8192
    near: int = 8192

    def validate(self) -> Sizes:
        """Return self, or raise ValueError where a number is not positive."""
        if min(self.surface, self.vol, self.near) < 1:
            raise ValueError(
                f"surface, vol and near must be at least 1, got {self.surface}, {self.vol}, {self.near}"
            )
        return self


@dataclass(frozen=True)
class FieldArrays:
    """What is kept of one shape, in the cube [-1, 1]^3.

    Attributes:
        surface: (S, 3) float32.
        vol, near: (Q, 3) float32, evenly in the cube and near the surface.
        vol_inside, near_inside: (Q,) bool.
    """

    surface: NDArray[np.float32]
    vol: NDArray[np.float32]
    vol_inside: NDArray[np.bool_]
    near: NDArray[np.float32]
    near_inside: NDArray[np.bool_]

    def checked(self) -> FieldArrays:
        """Return self.

        Raises:
            ValueError: a number is not finite, or no query at all is inside. (All may be: of a box that is the cube.)
        """
        if not all(np.isfinite(a).all() for a in (self.surface, self.vol, self.near)):
            raise ValueError("its points or queries hold NaN or Inf")
        inside = np.concatenate([self.vol_inside, self.near_inside])
        if not inside.any():
            raise ValueError(f"its field is empty: none of {len(inside)} queries is inside")
        return self


def draw_arrays(
    surface: Callable[[int], NDArray], contains: Callable[[NDArray], NDArray], sizes: Sizes, rng: Generator
) -> FieldArrays:
    """Draw a shape's points and queries, and ask where the queries are.

    Args:
        surface: gives (n, 3) points drawn evenly over the surface.
        contains: gives (N,) bool for (N, 3) places.

    Raises:
        ValueError: the field is empty, or its surface is not in the cube.
    """
    vol = rng.uniform(-1, 1, (sizes.vol, 3)).astype(np.float32)
    sigma = np.resize(NEAR_SIGMAS, sizes.near)[:, None]
    near = np.zeros((0, 3), np.float32)
    for _ in range(MAX_TRIES):
        left = sizes.near - len(near)
        if not left:
            break
        around = surface(left) + sigma[len(near) :] * rng.normal(size=(left, 3))
        near = np.concatenate([near, around[(np.abs(around) < 1).all(1)].astype(np.float32)])
    else:
        raise ValueError("hardly any place near its surface is in the cube [-1, 1]^3")
    # Queries are rounded first and asked for after, so that their answers are exact.
    return FieldArrays(
        surface(sizes.surface).astype(np.float32), vol, contains(vol), near, contains(near)
    ).checked()


def outer_surface(mesh: Mesh, rng: Generator) -> Callable[[int], NDArray[np.float64]]:
    """Return what draws (n, 3) points evenly over a closed mesh in the cube, less what lies within its own parts.

    The drawing raises ValueError where hardly anything is left.
    """
    solid = Solid(mesh)

    def draw(n: int) -> NDArray[np.float64]:
        found = np.zeros((0, 3))
        for _ in range(MAX_TRIES):
            points, normals, _ = sample_triangles(mesh, 2 * n, rng)
            found = np.concatenate([found, points[~solid.contains(points + SKIN * normals)]])
            if len(found) >= n:
                return found[:n]
        raise ValueError("hardly any of its surface is outside its own parts")

    return draw


def arrays_of_mesh(mesh: Mesh, sizes: Sizes, rng: Generator) -> FieldArrays:
    """Draw points and queries of a closed mesh in the cube; of parts that overlap, those of their union.

    Raises:
        ValueError: as ``draw_arrays``, or hardly any of its surface is outside its own parts.
    """
    return draw_arrays(outer_surface(mesh, rng), Solid(mesh).contains, sizes, rng)
