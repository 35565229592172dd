# SPDX-License-Identifier: Apache-2.0
"""Spheres, boxes and tori in the cube [-1, 1]^3 whose inside and surface are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from pc_perception.geometry import pose
from pc_perception.io.meshes import Mesh
from pc_perception.simulation import shapes

KINDS = ("sphere", "box", "torus")


@dataclass(frozen=True)
class AnalyticShape:
    """One solid.

    Attributes:
        kind: one of ``KINDS``.
        size: (radius,) of a sphere, (x, y, z) half sides of a box, (ring, tube) radii of a torus about its y axis.
        T: (4, 4) pose of the shape in the cube.
    """

    kind: str
    size: tuple[float, ...]
    T: NDArray[np.float64]

    def contains(self, xyz: ArrayLike) -> NDArray[np.bool_]:
        """(N,) bool, True for (N, 3) places inside or on the surface."""
        local = (np.asarray(xyz, np.float64).reshape(-1, 3) - self.T[:3, 3]) @ self.T[:3, :3]
        if self.kind == "sphere":
            return np.linalg.norm(local, axis=1) <= self.size[0]
        if self.kind == "box":
            return (np.abs(local) <= self.size).all(1)
        away = np.hypot(local[:, 0], local[:, 2]) - self.size[0]
        return np.hypot(away, local[:, 1]) <= self.size[1]

    def surface(self, n: int, rng: Generator) -> NDArray[np.float64]:
        """Draw (n, 3) points evenly over the surface."""
        return _SURFACES[self.kind](self.size, n, rng) @ self.T[:3, :3].T + self.T[:3, 3]

    def mesh(self) -> Mesh:
        """Return a fine mesh that lies within the shape (spheres and tori by at most 0.2 % of their radii)."""
        if self.kind == "sphere":
            local = shapes.ellipsoid([self.size[0]] * 3, n_sides=96, n_rings=95)
        elif self.kind == "box":
            local = shapes.box(2 * np.array(self.size))
        else:
            ring, tube = self.size
            local = shapes.torus(ring, tube, n_sides=96, n_tube=64)
        return Mesh(*shapes.moved(local, self.T))


def random_analytic(kind: str, seed: int) -> AnalyticShape:
    """Draw a shape of random size, turn and place that lies within the cube.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no analytic shape '{kind}'; choose from {', '.join(KINDS)}")
    rng = np.random.default_rng([20261127, seed, KINDS.index(kind)])
    if kind == "sphere":
        size: tuple[float, ...] = (float(rng.uniform(0.35, 0.9)),)
        reach = size[0]
    elif kind == "box":
        size = tuple(rng.uniform(0.15, 0.55, 3).tolist())
        reach = float(np.linalg.norm(size))
    else:
        ring = float(rng.uniform(0.4, 0.7))
        size = (ring, float(rng.uniform(0.1, 0.28)))
        reach = sum(size)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn[:, 0] *= np.linalg.det(turn)
    return AnalyticShape(kind, size, pose(rng.uniform(-1, 1, 3) * (0.99 - reach), turn))


def _sphere(size: tuple[float, ...], n: int, rng: Generator) -> NDArray[np.float64]:
    v = rng.normal(size=(n, 3))
    return size[0] * v / np.linalg.norm(v, axis=1, keepdims=True)


def _box(size: tuple[float, ...], n: int, rng: Generator) -> NDArray[np.float64]:
    half = np.array(size)
    area = half.prod() / half  # of the faces across each axis, up to a factor
    axis = rng.choice(3, n, p=area / area.sum())
    xyz = rng.uniform(-1, 1, (n, 3))
    xyz[np.arange(n), axis] = rng.choice([-1.0, 1.0], n)
    return xyz * half


def _torus(size: tuple[float, ...], n: int, rng: Generator) -> NDArray[np.float64]:
    ring, tube = size
    # The area at angle b round the tube is as its distance from the axis: draw evenly, then keep that share.
    b = np.zeros(0)
    while len(b) < n:
        more = rng.uniform(0, 2 * np.pi, 2 * n)
        b = np.concatenate([b, more[rng.random(2 * n) < (ring + tube * np.cos(more)) / (ring + tube)]])
    a, b = rng.uniform(0, 2 * np.pi, n), b[:n]
    r = ring + tube * np.cos(b)
    return np.stack([r * np.cos(a), tube * np.sin(b), r * np.sin(a)], 1)


_SURFACES = {"sphere": _sphere, "box": _box, "torus": _torus}
