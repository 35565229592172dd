# SPDX-License-Identifier: Apache-2.0
"""Draw triangles with a depth buffer, flat shading and eye-dome lighting, no display."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pc_perception.io.meshes import Mesh

from .splat import SUPERSAMPLING, eye_dome, shrink
from .view import View

_LIGHT = np.array([0.55, 0.25, 0.8]) / np.linalg.norm([0.55, 0.25, 0.8])


def draw_mesh(
    mesh: Mesh,
    color: tuple[int, int, int],
    view: View,
    size: tuple[int, int],
    background: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Return the picture of a mesh as (height, width, 3) uint8.

    Args:
        color: of the surface in full light, which comes from above and the front (+x).
        view: the camera; z is up.
        size: (width, height) in pixels.
    """
    width, height = (n * SUPERSAMPLING for n in size)
    local = (np.asarray(mesh.vertices, np.float64) - view.eye) @ view.axes().T
    focal = height / 2 / np.tan(np.radians(view.fov_deg) / 2)
    depth = np.maximum(local[:, 2], 1e-3)
    places = np.stack(
        [width / 2 + focal * local[:, 0] / depth, height / 2 + focal * local[:, 1] / depth, 1 / depth], 1
    )
    nearness, owner = _rasterize(places, np.asarray(mesh.faces), width, height)
    hit = owner >= 0
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    light = 0.55 + 0.45 * normal @ _LIGHT
    distance = np.full((height, width), np.inf, np.float32)
    distance[hit] = 1 / nearness[hit]
    image = np.empty((height, width, 3), np.float32)
    image[:] = background
    shade = (light[owner[hit]] * eye_dome(distance)[hit])[:, None]
    image[hit] = shade * np.array(color)
    return shrink(image)


@njit(cache=True, nogil=True)
def _rasterize(places, faces, width, height):  # type: ignore[no-untyped-def]
    """Nearest triangle of every pixel, -1 for none, and 1 / its depth there; places are (V, 3) x, y, 1 / depth."""
    nearness = np.zeros((height, width))
    owner = np.full((height, width), -1, np.int32)
    for f in range(len(faces)):
        ax, ay, az = places[faces[f, 0]]
        bx, by, bz = places[faces[f, 1]]
        cx, cy, cz = places[faces[f, 2]]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        for row in range(max(0, int(min(ay, by, cy))), min(height, int(max(ay, by, cy)) + 1)):
            for column in range(max(0, int(min(ax, bx, cx))), min(width, int(max(ax, bx, cx)) + 1)):
                x, y = column + 0.5, row + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                if u >= 0 and v >= 0 and u + v <= 1:
                    near = u * az + v * bz + (1 - u - v) * cz
                    if near > nearness[row, column]:
                        nearness[row, column], owner[row, column] = near, f
    return nearness, owner
