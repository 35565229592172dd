# SPDX-License-Identifier: Apache-2.0
"""From a field to a mesh: marching cubes over the cube [-1, 1]^3, evaluated only where the surface is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.io.meshes import Mesh

Field = Callable[[Tensor], Any]
"""(M, 3) float32 places to (M,) logits, a tensor or an array; occupied where at least ``level``."""

BLOCK = 4
"""Cells along a block's edge: blocks that the surface does not touch are never evaluated inside."""
CHUNK = 1 << 16
"""Places that a field is asked for at a time."""


def extract_mesh(
    field: Field, resolution: int = 64, level: float = 0.0, *, full: bool = False, chunk: int = CHUNK
) -> Mesh:
    """Return the surface where a field over [-1, 1]^3 crosses ``level``, closed also at the cube's faces.

    The field is asked at the corners of blocks of 4^3 cells, then inside the blocks whose corners differ, and from
    there on in every neighbour that the surface reaches, until there is none. A piece that is attached to none of
    these and slips between the corners (spacing 8 / resolution) is not found; ``full`` asks everywhere.

    Args:
        field: called with at most ``chunk`` places, (M, 3) float32 on the CPU.
        resolution: cells along each axis, a multiple of 4; (resolution + 1)^3 corners.
        level: of the surface, in logits.

    Returns:
        The mesh, facing from occupied to free, within the cube; without vertices where the field is nowhere
        occupied.

    Raises:
        ValueError: ``resolution`` does not fit, the field gives other than one finite logit a place.
        ImportError: scikit-image is not installed.
    """
    if resolution < BLOCK or resolution % BLOCK:
        raise ValueError(f"resolution must be a positive multiple of {BLOCK}, got {resolution}")
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise ImportError(
            "extracting a mesh needs scikit-image: pip install 'pc_perception[shapes]'"
        ) from error

    values = _Grid(field, resolution, level, chunk).values(full)
    if not (values >= 0).any():
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    # A free border closes what the cube cuts; its vertices are then drawn onto the cube's faces.
    padded = np.pad(values, 1, constant_values=-1.0)
    # Exactly 0 counts as occupied here, and would give marching cubes empty triangles.
    padded[padded == 0] = 1e-6
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="ascent")
    vertices = (vertices - 1) * (2 / resolution) - 1
    return Mesh(np.clip(vertices, -1, 1).astype(np.float32), faces.astype(np.int32))


class _Grid:
    """Values of a field minus the level at the corners of all cells, found block by block."""

    def __init__(self, field: Field, resolution: int, level: float, chunk: int) -> None:
        self.field, self.n, self.level, self.chunk = field, resolution, level, chunk
        self.axis = np.linspace(-1, 1, resolution + 1, dtype=np.float32)

    def values(self, full: bool) -> NDArray[np.float32]:
        """(n + 1, n + 1, n + 1) float32, axes x, y, z; where nothing was asked only the sign is right."""
        if full:
            every = np.stack(np.meshgrid(*[np.arange(self.n + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
            return self._ask(every).reshape([self.n + 1] * 3)
        m = self.n // BLOCK
        corners = np.stack(np.meshgrid(*[np.arange(m + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        coarse = self._ask(corners * BLOCK).reshape([m + 1] * 3)
        # All corners of a block that is never opened agree, so that any of them tells its sign.
        sign = np.where(coarse >= 0, 1.0, -1.0).astype(np.float32)
        out = sign[np.ix_(*[np.arange(self.n + 1) // BLOCK] * 3)]
        known = np.zeros(out.shape, bool)
        inside = sign > 0
        eight = [inside[x : m + x, y : m + y, z : m + z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
        wanted = np.logical_or.reduce(eight) & ~np.logical_and.reduce(eight)
        opened = np.zeros([m] * 3, bool)
        while (wanted & ~opened).any():
            fresh = np.argwhere(wanted & ~opened)
            opened |= wanted
            places = self._corners_of(fresh, known)
            out[tuple(places.T)] = self._ask(places)
            known[tuple(places.T)] = True
            wanted |= _reached(fresh, out >= 0, m)
        return out

    def _corners_of(self, blocks: NDArray, known: NDArray[np.bool_]) -> NDArray:
        """(K, 3) grid corners of blocks that were not asked yet."""
        offsets = np.stack(np.meshgrid(*[np.arange(BLOCK + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        new = np.zeros(known.shape, bool)
        new[tuple((blocks[:, None] * BLOCK + offsets).reshape(-1, 3).T)] = True
        return np.argwhere(new & ~known)

    def _ask(self, corners: NDArray) -> NDArray[np.float32]:
        """(K,) values at (K, 3) grid corners."""
        places = torch.from_numpy(self.axis[corners])
        parts = [self.field(part) for part in places.split(self.chunk)]
        arrays = [np.asarray(p.detach().cpu() if isinstance(p, Tensor) else p, np.float32) for p in parts]
        for part, array in zip(places.split(self.chunk), arrays, strict=True):
            if array.shape != (len(part),):
                raise ValueError(
                    f"the field gives {array.shape} for {len(part)} places; one logit each is needed"
                )
        found = np.concatenate(arrays) - np.float32(self.level)
        n_bad = int((~np.isfinite(found)).sum())
        if n_bad:
            raise ValueError(f"the field gives NaN or Inf at {n_bad} of {len(found)} places")
        return found


def _reached(blocks: NDArray, inside: NDArray[np.bool_], m: int) -> NDArray[np.bool_]:
    """(m, m, m) bool: neighbours across those faces of ``blocks`` on which both signs are."""
    reached = np.zeros([m] * 3, bool)
    span = np.arange(BLOCK + 1)
    for axis in range(3):
        for side in (0, 1):
            neighbours = blocks.copy()
            neighbours[:, axis] += 2 * side - 1
            there = (neighbours[:, axis] >= 0) & (neighbours[:, axis] < m)
            index = [(blocks[there, k] * BLOCK)[:, None, None] for k in range(3)]
            u, v = (k for k in range(3) if k != axis)
            index[u], index[v] = index[u] + span[:, None], index[v] + span[None, :]
            index[axis] = index[axis] + side * BLOCK
            face = inside[tuple(index)]
            crossed = face.any((1, 2)) & ~face.all((1, 2))
            reached[tuple(neighbours[there][crossed].T)] = True
    return reached


def sample_surface(
    mesh: Mesh | tuple[NDArray, NDArray], n: int, seed: int | Generator
) -> NDArray[np.float32]:
    """Draw ``n`` points evenly over the surface of a mesh, (n, 3) float32.

    Raises:
        ValueError: the mesh has no area.
    """
    return sample_triangles(mesh, n, seed)[0].astype(np.float32)


def sample_triangles(
    mesh: Mesh | tuple[NDArray, NDArray], n: int, seed: int | Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Like ``sample_surface``: points (n, 3) and, of their triangles, unit normals (n, 3) and rows (n,)."""
    rng = np.random.default_rng(seed)
    vertices = np.asarray(mesh[0], np.float64)
    a, b, c = (vertices[mesh[1][:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    total = float(area.sum())
    if not np.isfinite(total) or not total > 0:
        raise ValueError(f"a mesh of {len(area)} triangles has no area to draw points from")
    rows = rng.choice(len(area), n, p=area / total)
    u, v = rng.random((2, n, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    points = a[rows] + u * (b[rows] - a[rows]) + v * (c[rows] - a[rows])
    return points, normal[rows] / area[rows, None], rows
