# SPDX-License-Identifier: Apache-2.0
"""Watertight primitive meshes. Each is (vertices (V, 3) float32 metres, triangles (T, 3) int32).

Triangles wind counter-clockwise seen from outside. Several closed meshes joined stay watertight: every
edge still belongs to exactly two triangles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mesh = tuple[NDArray[np.float32], NDArray[np.int32]]

_BOX_CORNERS = np.array(
    [[x, y, z] for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)], dtype=np.float32
)
_BOX_TRIANGLES = np.array(
    [
        [0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4],
        [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6], [1, 3, 5], [3, 7, 5],
    ],
    dtype=np.int32,
)  # fmt: skip


def box(size: ArrayLike, center: ArrayLike = (0.0, 0.0, 0.0)) -> Mesh:
    """Make a box of ``size`` (x, y, z) about ``center``."""
    vertices = _BOX_CORNERS * np.asarray(size, np.float32) + np.asarray(center, np.float32)
    return vertices, _BOX_TRIANGLES


def boxes(sizes: ArrayLike, centers: ArrayLike) -> Mesh:
    """Make N boxes at once from (N, 3) sizes and (N, 3) centres, joined to one mesh."""
    sizes = np.asarray(sizes, np.float32).reshape(-1, 1, 3)
    vertices = _BOX_CORNERS * sizes + np.asarray(centers, np.float32).reshape(-1, 1, 3)
    offsets = 8 * np.arange(len(sizes), dtype=np.int32)[:, None, None]
    return vertices.reshape(-1, 3), (_BOX_TRIANGLES + offsets).reshape(-1, 3)


def join(meshes: Iterable[Mesh]) -> Mesh:
    """Put several meshes into one; an empty sequence gives an empty mesh."""
    meshes = list(meshes)
    if not meshes:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    counts = np.cumsum([0] + [len(v) for v, _ in meshes[:-1]])
    vertices = np.concatenate([v for v, _ in meshes]).astype(np.float32, copy=False)
    triangles = np.concatenate([t + np.int32(n) for (_, t), n in zip(meshes, counts, strict=True)])
    return vertices, triangles.astype(np.int32, copy=False)


def loft(rings: ArrayLike) -> Mesh:
    """Make the closed tube through (N, M, 3) rings, with flat fans over the two ends.

    The rings must be convex for the ends to be faithful. They turn counter-clockwise seen from the last
    ring looking back to the first.
    """
    rings = np.asarray(rings, np.float32)
    n, m = rings.shape[:2]
    vertices = np.concatenate([rings.reshape(-1, 3), rings[0].mean(0)[None], rings[-1].mean(0)[None]])
    return vertices, _loft_triangles(n, m)


def _loft_triangles(n: int, m: int) -> NDArray[np.int32]:
    i, j = (a.ravel() for a in np.mgrid[0 : n - 1, 0:m])
    a, b = i * m + j, i * m + (j + 1) % m
    sides = np.concatenate([np.stack([a, b, b + m], 1), np.stack([a, b + m, a + m], 1)])
    j = np.arange(m)
    k = (j + 1) % m
    first, last = n * m, n * m + 1
    bottom = np.stack([np.full(m, first), k, j], 1)
    top = np.stack([np.full(m, last), (n - 1) * m + j, (n - 1) * m + k], 1)
    return np.concatenate([sides, bottom, top]).astype(np.int32)


def circle(radius: float, n_sides: int) -> NDArray[np.float32]:
    """(n_sides, 2) points on a circle, counter-clockwise."""
    angle = np.arange(n_sides) * (2 * np.pi / n_sides)
    return (radius * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)


def tube(path: ArrayLike, radii: ArrayLike, n_sides: int = 8) -> Mesh:
    """Make a closed tube along a (N, 3) ``path`` with one radius, or one for each path point."""
    path = np.asarray(path, np.float64)
    radii = np.broadcast_to(np.asarray(radii, np.float64), len(path))
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # The reference axis is the one least along the whole path, so that frames do not flip on the way.
    reference = np.eye(3)[np.argmin(np.abs(tangent).max(0))]
    u = np.cross(tangent, reference)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(tangent, u)
    ring = circle(1.0, n_sides)
    offsets = ring[None, :, :1] * u[:, None] + ring[None, :, 1:] * v[:, None]
    return loft(path[:, None] + radii[:, None, None] * offsets)


def cylinder(radius: float, height: float, n_sides: int = 10, top_radius: float | None = None) -> Mesh:
    """Make a cylinder (or a truncated cone) standing on z = 0 about the z axis."""
    rings = np.zeros((2, n_sides, 3), np.float32)
    rings[0, :, :2] = circle(radius, n_sides)
    rings[1, :, :2] = circle(radius if top_radius is None else top_radius, n_sides)
    rings[1, :, 2] = height
    return loft(rings)


def cone(radius: float, height: float, n_sides: int = 10) -> Mesh:
    """Make a cone standing on z = 0 with its tip up (a hair wide, so that no triangle is degenerate)."""
    return cylinder(radius, height, n_sides, top_radius=1e-3 * radius)


def ellipsoid(
    radii: ArrayLike, center: ArrayLike = (0.0, 0.0, 0.0), n_sides: int = 8, n_rings: int = 5
) -> Mesh:
    """Make an ellipsoid with semi-axes ``radii`` (x, y, z)."""
    polar = np.linspace(-np.pi / 2, np.pi / 2, n_rings + 2)[1:-1]
    ring = circle(1.0, n_sides)
    rings = np.empty((n_rings, n_sides, 3), np.float32)
    rings[:, :, :2] = np.cos(polar)[:, None, None] * ring
    rings[:, :, 2] = np.sin(polar)[:, None]
    vertices, triangles = loft(rings)
    vertices[-2:] = [[0, 0, -1], [0, 0, 1]]
    return vertices * np.asarray(radii, np.float32) + np.asarray(center, np.float32), triangles


def sphere(radius: float, center: ArrayLike = (0.0, 0.0, 0.0), n_sides: int = 8) -> Mesh:
    """Make a sphere."""
    return ellipsoid((radius, radius, radius), center, n_sides, max(n_sides // 2, 3))


def frustum(low: Sequence[float], high: Sequence[float], z_low: float, z_high: float) -> Mesh:
    """Make the solid between two rectangles (x_min, x_max, y_min, y_max) at two heights."""
    rings = [
        [(r[0], r[2], z), (r[1], r[2], z), (r[1], r[3], z), (r[0], r[3], z)]
        for r, z in ((low, z_low), (high, z_high))
    ]
    return loft(rings)


def torus(radius: float, tube_radius: float, n_sides: int = 14, n_tube: int = 4) -> Mesh:
    """Make a torus about the y axis (a wheel that rolls along x), centred at the origin."""
    a = np.arange(n_sides) * (2 * np.pi / n_sides)
    b = np.arange(n_tube) * (2 * np.pi / n_tube)
    r = radius + tube_radius * np.cos(b)[None]
    vertices = np.stack(
        [
            r * np.cos(a)[:, None],
            np.broadcast_to(tube_radius * np.sin(b), (n_sides, n_tube)),
            r * np.sin(a)[:, None],
        ],
        axis=-1,
    )
    i, j = (x.ravel() for x in np.mgrid[0:n_sides, 0:n_tube])
    p, q = i * n_tube + j, i * n_tube + (j + 1) % n_tube
    s, t = (i + 1) % n_sides * n_tube + j, (i + 1) % n_sides * n_tube + (j + 1) % n_tube
    triangles = np.concatenate([np.stack([p, q, t], 1), np.stack([p, t, s], 1)])
    return vertices.reshape(-1, 3).astype(np.float32), triangles.astype(np.int32)


def grid_surface(points: NDArray) -> Mesh:
    """Make the open surface over an (N, M, 3) grid of points; up-facing when M turns left of N."""
    n, m = points.shape[:2]
    i, j = (x.ravel() for x in np.mgrid[0 : n - 1, 0 : m - 1])
    a = i * m + j
    triangles = np.concatenate([np.stack([a, a + m, a + m + 1], 1), np.stack([a, a + m + 1, a + 1], 1)])
    return np.asarray(points, np.float32).reshape(-1, 3), triangles.astype(np.int32)


def two_sided(mesh: Mesh) -> Mesh:
    """Close sheets of loose triangles by their backs: watertight, of no volume, and met by the same rays."""
    vertices, triangles = mesh
    return vertices, np.concatenate([triangles, triangles[:, ::-1]])


def one_sided(mesh: Mesh) -> Mesh:
    """Return the mesh without the backs that ``two_sided`` made."""
    vertices, triangles = mesh
    first = np.unique(np.sort(triangles, axis=1), axis=0, return_index=True)[1]
    return vertices, triangles[np.sort(first)]


def moved(mesh: Mesh, T: NDArray) -> Mesh:
    """Apply a (4, 4) transform to a mesh."""
    vertices, triangles = mesh
    return (vertices @ T[:3, :3].T + T[:3, 3]).astype(np.float32), triangles


def placed(mesh: Mesh, offset: ArrayLike) -> Mesh:
    """Shift a mesh by ``offset``."""
    return mesh[0] + np.asarray(offset, np.float32), mesh[1]


def is_watertight(mesh: Mesh) -> bool:
    """True where every edge belongs to exactly two triangles that run it in opposite directions."""
    triangles = np.asarray(mesh[1], np.int64)
    if not len(triangles):
        return False
    start, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    n = len(mesh[0])
    forward, backward = np.sort(start * n + end), np.sort(end * n + start)
    return bool((np.diff(forward) > 0).all() and np.array_equal(forward, backward))


def volume(mesh: Mesh) -> float:
    """Signed volume of a closed mesh in cubic metres; positive where triangles face outwards."""
    a, b, c = (mesh[0][mesh[1][:, k]].astype(np.float64) for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)
