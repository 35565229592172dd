# SPDX-License-Identifier: Apache-2.0
"""Draw points with NumPy alone: round splats, a depth buffer and eye-dome lighting, no display."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .view import View

SUPERSAMPLING = 2
_MAX_RADIUS_PX = 7
_EMPTY = np.uint64(2**64 - 1)
_EDL_STRENGTH = 9.0


def draw(
    xyz: NDArray,
    colors: NDArray,
    radii: NDArray,
    view: View,
    size: tuple[int, int],
    background: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Return the picture of coloured points as (height, width, 3) uint8.

    Args:
        xyz: (N, 3), metres, z up.
        colors: (N, 3) uint8.
        radii: (N,) metres, the size of each point's splat.
        view: the camera; its ``keep`` says which points are drawn.
        size: (width, height) in pixels.
        background: colour where there is nothing.
    """
    width, height = (n * SUPERSAMPLING for n in size)
    column, row, depth, radius_px, source = _project(xyz, radii, view, width, height)
    buffer = _z_buffer(column, row, depth, radius_px, width, height)
    hit = buffer != _EMPTY
    image = np.empty((height, width, 3), dtype=np.float32)
    image[:] = background
    if hit.any():
        index = (buffer & np.uint64(0xFFFFFFFF)).astype(np.int64)
        distance = np.full((height, width), np.inf, dtype=np.float32)
        distance[hit] = depth[index[hit]]
        shade = eye_dome(distance)
        image[hit] = colors[source[index[hit]]] * shade[hit][:, None]
        image[hit] = _fade(image[hit], distance[hit], background)
    return shrink(image)


def shrink(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Average the pixels of a (h, w, 3) picture that was drawn ``SUPERSAMPLING`` times too large."""
    height, width = (n // SUPERSAMPLING for n in image.shape[:2])
    small = image.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3).mean(axis=(1, 3))
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)


def splat_radii(xyz: NDArray, factor: float = 0.9) -> NDArray[np.float32]:
    """Return (N,) float32 metres: a splat that closes the gap to a point's neighbours.

    Points that are not finite get zero.
    """
    from scipy.spatial import cKDTree

    radii = np.zeros(len(xyz), dtype=np.float32)
    finite = np.flatnonzero(np.isfinite(xyz).all(axis=1))
    if len(finite) < 8:
        radii[finite] = 0.05
        return radii
    spacing = cKDTree(xyz[finite]).query(xyz[finite], k=5)[0][:, 1:].mean(axis=1)
    radii[finite] = factor * np.clip(spacing, 0.0, np.percentile(spacing, 90))
    return radii


def _project(
    xyz: NDArray, radii: NDArray, view: View, width: int, height: int
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Return column, row (int), depth, radius in pixels and source index of the points in the picture."""
    source = np.flatnonzero(view.keep)
    local = (xyz[source].astype(np.float64) - view.eye) @ view.axes().T
    front = local[:, 2] > 0.05
    source, local = source[front], local[front]
    focal = height / 2 / np.tan(np.radians(view.fov_deg) / 2)
    depth = local[:, 2]
    column = np.floor(width / 2 + focal * local[:, 0] / depth).astype(np.int64)
    row = np.floor(height / 2 + focal * local[:, 1] / depth).astype(np.int64)
    radius = np.clip(np.rint(focal * radii[source] / depth), 1, _MAX_RADIUS_PX).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return column[inside], row[inside], depth[inside].astype(np.float32), radius[inside], source[inside]


def _z_buffer(
    column: NDArray, row: NDArray, depth: NDArray, radius_px: NDArray, width: int, height: int
) -> NDArray[np.uint64]:
    """Return (height, width) uint64: depth bits above, index of the nearest point below."""
    # A positive float32's bits sort like its value, so one integer minimum finds the nearest point.
    key = (depth.view(np.uint32).astype(np.uint64) << np.uint64(32)) | np.arange(len(depth), dtype=np.uint64)
    buffer = np.full(width * height, _EMPTY, dtype=np.uint64)
    for radius in np.unique(radius_px):
        chosen = radius_px == radius
        c, r, k = column[chosen], row[chosen], key[chosen]
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if dx * dx + dy * dy > (radius + 0.4) ** 2:
                    continue
                x, y = c + dx, r + dy
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                np.minimum.at(buffer, y[inside] * width + x[inside], k[inside])
    return buffer.reshape(height, width)


def eye_dome(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (H, W) float32 in 0..1: dark where neighbouring pixels are nearer (edges, gaps, corners)."""
    with np.errstate(divide="ignore"):
        log_depth = np.log2(distance)
    obscured = np.zeros_like(log_depth)
    for reach in (SUPERSAMPLING, 3 * SUPERSAMPLING):
        padded = np.pad(log_depth, reach, constant_values=np.inf)
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            y, x = reach * (1 + dy), reach * (1 + dx)
            neighbor = padded[y : y + log_depth.shape[0], x : x + log_depth.shape[1]]
            with np.errstate(invalid="ignore"):
                obscured += np.nan_to_num(np.clip(log_depth - neighbor, 0.0, 0.08), nan=0.0) / reach
    return np.exp(-_EDL_STRENGTH * obscured * SUPERSAMPLING / 2)


def _fade(
    colors: NDArray[np.float32], distance: NDArray[np.float32], background: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Let far points sink a little into the background, a cue for depth."""
    near, far = np.percentile(distance, [2, 98])
    share = 0.45 * np.clip((distance - near) / max(far - near, 1e-6), 0.0, 1.0)[:, None] ** 1.5
    return colors * (1 - share) + np.array(background, dtype=np.float32) * share
