# SPDX-License-Identifier: Apache-2.0
"""Numba loops of ``shading``: one pass over the pixels for texture and light, one for the tone curve."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _pattern(x, y, z, nx, ny, nz, row, kind, scale, contrast, tile):  # type: ignore[no-untyped-def]
    """Return the factor by which a material's pattern changes its albedo at a point."""
    ax, ay, az = abs(nx), abs(ny), abs(nz)
    if ax >= ay and ax >= az:  # the pattern lies in the plane that the normal is nearest to
        u, v = y, z
    elif ay >= az:
        u, v = x, z
    else:
        u, v = x, y
    u, v = u / scale, v / scale
    along, across = 80.0, 80.0
    if kind == 1:  # stripes, like wood grain
        along, across = 8.0, 160.0
        if row % 2 == 0:
            u, v = v, u
    size = tile.shape[0] - 1
    i = np.int64(np.floor(u * along)) + 37 * row & size
    j = np.int64(np.floor(v * across)) + 101 * row & size
    factor = 1.0 + 0.6 * contrast * tile[i, j]
    if kind == 2:  # tiles with joints: the row's parity decides between running bond and straight joints
        level = np.floor(v * 4.0)
        across_tile = u * 2.0 + 0.5 * (level % 2) * (row % 2)
        cell = np.floor(across_tile)
        if abs(across_tile - cell - 0.5) > 0.47 or abs(v * 4.0 - level - 0.5) > 0.45:
            factor *= 1.0 - contrast
        else:
            mixed = abs(np.sin(cell * 12.9898 + level * 78.233 + row) * 43758.5453)
            factor *= 1.0 + contrast * (mixed - np.floor(mixed) - 0.5)
    return factor


@njit(cache=True, nogil=True)
def shade_pixels(
    points, hit, row, normal, rgb, kind, scale, contrast, gloss, tile, lights, sun, ambient, sky, out
):  # type: ignore[no-untyped-def]
    """Write the linear light of every pixel to ``out`` (N, 3); lamps where there are any, else the sun."""
    for i in range(len(points)):
        if not hit[i]:
            for c in range(3):
                out[i, c] = sky[c]
            continue
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        nx, ny, nz = normal[i, 0], normal[i, 1], normal[i, 2]
        r = row[i]
        factor = _pattern(x, y, z, nx, ny, nz, r, kind[r], scale[r], contrast[r], tile)
        if len(lights):
            direct = 0.0
            for k in range(len(lights)):
                dx, dy, dz = lights[k, 0] - x, lights[k, 1] - y, lights[k, 2] - z
                square = dx * dx + dy * dy + dz * dz
                facing = max(dx * nx + dy * ny + dz * nz, 0.0) / np.sqrt(square + 1e-4)
                direct += lights[k, 3] * facing / (1.0 + 0.25 * square)
            bright = ambient * (0.8 + 0.2 * nz) + (1.0 - ambient) * direct
        else:
            direct = max(nx * sun[0] + ny * sun[1] + nz * sun[2], 0.0)
            bright = ambient * (0.75 + 0.25 * nz) + (1.0 - ambient) * 1.4 * direct
        shine = 0.25 * gloss[r]
        for c in range(3):
            out[i, c] = (1.0 - shine) * rgb[r, c] * factor * bright + 0.6 * shine * sky[c]


@njit(cache=True, nogil=True)
def develop_pixels(light, gain, saturation, curve, top, noise, white, start, out):  # type: ignore[no-untyped-def]
    """Write (N, 3) uint8 values: gain and balance, saturation, the tone ``curve`` up to ``top``, noise."""
    mask = len(white) - 1
    steps = (len(curve) - 1) / top
    for i in range(len(light)):
        r, g, b = light[i, 0] * gain[0], light[i, 1] * gain[1], light[i, 2] * gain[2]
        grey = (r + g + b) / 3.0
        for c in range(3):
            value = r if c == 0 else (g if c == 1 else b)
            value = min(max(grey + saturation * (value - grey), 0.0), top)
            tone = curve[int(value * steps)] + noise * white[(start + 3 * i + c) & mask]
            out[i, c] = np.uint8(min(max(tone, 0.0), 1.0) * 255.0)
