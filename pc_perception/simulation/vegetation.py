# SPDX-License-Identifier: Apache-2.0
"""Trees, bushes and hedges: thousands of small leaves between which a beam finds its way inside."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation.shapes import Mesh, box, ellipsoid, join, tube, two_sided
from pc_perception.simulation.template import Piece, Template

N_TREES, N_BUSHES, N_HEDGES = 64, 32, 24
_CROWN, _TRUNK, _BUSH = 5, 6, 7


def leaves(centers: NDArray, sizes: NDArray, rng: np.random.Generator) -> Mesh:
    """Make one randomly turned sheet, a triangle and its back, per row of (N, 3) ``centers``."""
    n = len(centers)
    u = rng.normal(size=(n, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(u, rng.normal(size=(n, 3)))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    reach = 0.7 * sizes[:, None]
    corners = np.stack([-u * reach, 0.5 * u * reach + v * reach, 0.5 * u * reach - v * reach], 1)
    vertices = (centers[:, None] + corners).reshape(-1, 3).astype(np.float32)
    return two_sided((vertices, np.arange(3 * n, dtype=np.int32).reshape(-1, 3)))


def _clumped(
    n: int, n_clumps: int, radii: NDArray, center: NDArray, shell: float, rng: np.random.Generator
) -> NDArray:
    """(n, 3) points in clumps that fill an ellipsoid, denser towards its shell."""
    direction = rng.normal(size=(n_clumps, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    clumps = direction * rng.random((n_clumps, 1)) ** shell
    spread = rng.uniform(0.16, 0.38)
    points = clumps[rng.integers(0, n_clumps, n)] + spread * rng.normal(size=(n, 3)) * rng.uniform(0.5, 1.0)
    return center + points * radii


@cache
def tree(number: int) -> Template:
    """Make tree ``number`` of ``N_TREES``: broad, columnar, conical, palm-like or bare."""
    rng = np.random.default_rng([5, number])
    form = ("broad", "broad", "broad", "column", "cone", "broad", "young", "bare", "broad", "palm")[
        number % 10
    ]
    height = rng.uniform(4.5, 13) if form != "young" else rng.uniform(2.6, 4.5)
    clear = {"column": 0.12, "cone": 0.08, "palm": 0.8}.get(form, rng.uniform(0.2, 0.42)) * height
    width = height * {"column": 0.14, "cone": 0.24, "palm": 0.22, "young": 0.25}.get(
        form, rng.uniform(0.28, 0.48)
    )
    trunk_radius = np.clip(height * rng.uniform(0.012, 0.028), 0.04, 0.32)
    bend = rng.normal(0, 0.05, 2) * height
    middle = (clear + height) / 2
    stem_top = np.array([bend[0], bend[1], clear + 0.55 * (height - clear)])
    path = [(0, 0, -0.3), (0.3 * bend[0], 0.3 * bend[1], clear * 0.6), tuple(stem_top)]
    trunk = [tube(path, [trunk_radius * 1.25, trunk_radius, trunk_radius * 0.4], 7)]
    n = int({"bare": 150, "palm": 400, "young": 350}.get(form, rng.integers(600, 1500)))
    center = np.array([bend[0], bend[1], middle])
    radii = np.array([width, width * rng.uniform(0.8, 1.2), (height - clear) / 2])
    points = _clumped(n, int(rng.integers(10, 40)), radii, center, rng.uniform(0.25, 0.6), rng)
    if form == "cone":
        share = np.clip((height - points[:, 2]) / (height - clear), 0.05, 1.1)
        points[:, :2] = bend + (points[:, :2] - bend) * share[:, None]
    sizes = rng.uniform(0.08, 0.42, n)
    # Seen from the side, the leaves' mean projected area (0.37 size^2) covers the crown 0.8 to 3 times.
    cover = rng.uniform(0.8, 3.0) if form not in ("bare", "young") else rng.uniform(0.15, 0.9)
    sizes *= np.clip(np.sqrt(cover * np.pi * radii[0] * radii[2] / (0.37 * (sizes**2).sum())), 0.5, 2.2)
    for _ in range(int(rng.integers(3, 9))):
        end = points[int(rng.integers(n))]
        start = np.array([0.6 * bend[0], 0.6 * bend[1], rng.uniform(0.7, 1.1) * clear + 0.1])
        kink = (start + end) / 2 + rng.normal(0, 0.2, 3)
        trunk.append(tube([start, kink, end], [trunk_radius * 0.5, trunk_radius * 0.3, 0.015], 4))
    return Template(
        [
            Piece("trunk", "bark", join(trunk), _TRUNK),
            Piece("crown", "leaf", leaves(points, sizes, rng), _CROWN),
        ]
    )


@cache
def bush(number: int) -> Template:
    """Make bush ``number`` of ``N_BUSHES``: a loose or dense heap of leaves on the ground, about 1 m."""
    rng = np.random.default_rng([7, number])
    n = int(rng.integers(180, 560))
    radii = np.array([rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.75)])
    points = _clumped(n, int(rng.integers(5, 25)), radii, np.array([0, 0, radii[2] * 0.8]), 0.45, rng)
    points[:, 2] = np.abs(points[:, 2])
    # Dense plants hide a core that no beam gets through.
    core = ellipsoid(radii * rng.uniform(0.3, 0.8), (0, 0, radii[2] * 0.8), 7, 4)
    mesh = leaves(points, rng.uniform(0.06, 0.26, n), rng)
    return Template([Piece("crown", "leaf", join([mesh, core] if number % 3 else [mesh]), _BUSH)])


@cache
def hedge(number: int) -> Template:
    """Make hedge ``number`` of ``N_HEDGES``: 4 m long, cut to a box with a rough face."""
    rng = np.random.default_rng([77, number])
    n = int(rng.integers(500, 1000))
    size = np.array([4.0, rng.uniform(0.5, 1.2), rng.uniform(0.7, 2.2)])
    points = rng.uniform(-0.5, 0.5, (n, 3))
    # Leaves sit near the cut faces, a few of them inside.
    axis = rng.integers(1, 3, n)
    near = rng.random(n) < 0.8
    face = np.sign(points[np.arange(n), axis]) * 0.5
    points[near, axis[near]] = face[near] + rng.normal(0, 0.05, int(near.sum()))
    points[:, 2] = np.abs(points[:, 2] + 0.5)
    mesh = leaves(points * size, rng.uniform(0.1, 0.3, n), rng)
    core = box(size * [1, rng.uniform(0.4, 0.85), 0.9], (0, 0, 0.45 * size[2]))
    return Template([Piece("crown", "leaf", join([mesh, core] if number % 4 else [mesh]), _BUSH)])
