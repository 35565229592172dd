# SPDX-License-Identifier: Apache-2.0
"""What colour a camera sees where a ray ends: texture, lamps or sun, exposure, white balance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.simulation.materials import MaterialTable
from pc_perception.simulation.raycast import Hits
from pc_perception.simulation.scene import Scene

_TILE = 512


@cache
def noise_tile() -> NDArray[np.float32]:
    """(512, 512) periodic smooth noise with mean 0 and standard deviation 1, always the same."""
    rng = np.random.default_rng(7)
    f = np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None]
    amplitude = 1.0 / (np.hypot(*f) + 2.0 / _TILE) ** 1.4
    amplitude[0, 0] = 0.0
    tile = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)), s=(_TILE, _TILE))
    return (tile / tile.std()).astype(np.float32)


def texture(points: NDArray, normals: NDArray, row: NDArray, materials: MaterialTable) -> NDArray[np.float32]:
    """Return the (N,) factor, about 1, by which each material's pattern changes its albedo.

    Args:
        points: (N, 3) float32, metres; the pattern lies in the plane that the normal is nearest to.
        normals: (N, 3).
        row: (N,) row of ``materials``.
    """
    axis = np.abs(normals).argmax(axis=1)
    u = np.where(axis == 0, points[:, 1], points[:, 0])
    v = np.where(axis == 2, points[:, 1], points[:, 2])
    scale = materials.texture_scale[row]
    contrast, kind = materials.texture_contrast[row], materials.texture[row]
    u, v = u / scale, v / scale
    stripes = kind == 1
    swap = stripes & (row % 2 == 0)
    u, v = np.where(swap, v, u), np.where(swap, u, v)
    tile = noise_tile()
    i = (u * np.where(stripes, 8.0, 80.0) + 37.0 * row).astype(np.int64) & (_TILE - 1)
    j = (v * np.where(stripes, 160.0, 80.0) + 101.0 * row).astype(np.int64) & (_TILE - 1)
    factor = 1.0 + 0.6 * contrast * tile[i, j]
    bricks = np.flatnonzero(kind == 2)
    if len(bricks):
        factor[bricks] *= _bricks(u[bricks], v[bricks], contrast[bricks], row[bricks])
    return factor.astype(np.float32)


def _bricks(u: NDArray, v: NDArray, contrast: NDArray, row: NDArray) -> NDArray:
    """Tiles with joints: the row's parity decides between running bond and straight joints."""
    y = v * 4.0
    level = np.floor(y)
    x = u * 2.0 + 0.5 * (level % 2) * (row % 2)
    cell = np.floor(x)
    joint = (np.abs(x - cell - 0.5) > 0.47) | (np.abs(y - level - 0.5) > 0.45)
    shade = np.modf(np.abs(np.sin(cell * 12.9898 + level * 78.233 + row) * 43758.5453))[0]
    return np.where(joint, 1.0 - contrast, 1.0 + contrast * (shade - 0.5))


@dataclass(frozen=True)
class Exposure:
    """How a camera turns light into values.

    Attributes:
        gain: brightness factor.
        balance: (3,) factors of red, green and blue.
        gamma: of the tone curve.
        saturation: 0 grey .. 1 as it is.
        noise: standard deviation of a value, 0..1.
    """

    gain: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    saturation: float = 1.0
    noise: float = 0.01

    @classmethod
    def draw(cls, rng: Generator) -> Exposure:
        """Draw a plausible camera and light."""
        warm = rng.normal(0.0, 0.1)
        balance = (1.0 + warm, 1.0 + rng.normal(0, 0.03), 1.0 - warm)
        return cls(
            float(rng.uniform(0.7, 1.5)),
            balance,
            float(rng.uniform(0.75, 1.3)),
            float(rng.uniform(0.6, 1.1)),
            float(rng.uniform(0.005, 0.04)),
        )

    def develop(self, light: NDArray, rng: Generator) -> NDArray[np.uint8]:
        """Turn (N, 3) linear light into (N, 3) uint8 colours, with a camera's automatic exposure."""
        level = float(light.mean()) if len(light) else 1.0
        light = light * np.float32((0.3 / (level + 0.02)) ** 0.8)
        light = light * np.asarray(self.balance, dtype=np.float32) * np.float32(self.gain)
        grey = light.mean(axis=1, keepdims=True)
        light = np.maximum(grey + np.float32(self.saturation) * (light - grey), 0.0)
        light = light ** np.float32(self.gamma / 1.6)  # displays are not linear; 1.6 leaves some contrast
        light += np.float32(self.noise) * rng.standard_normal(light.shape, dtype=np.float32)
        return (np.clip(light, 0.0, 1.0) * 255.0).astype(np.uint8)


def shade(
    scene: Scene, materials: MaterialTable, points: NDArray, hits: Hits, index: NDArray | slice = slice(None)
) -> NDArray[np.float32]:
    """Return (N, 3) linear light from what the rays hit; the sky's colour for misses.

    Args:
        scene: for its sun, or lamps where it has ``lights`` (a room).
        materials: of the ray caster that made ``hits``.
        points: (N, 3) world positions of ``hits[index]``.
        hits: where the rays ended.
        index: which of the hits.
    """
    row, normal = hits.material[index], hits.normal[index]
    hit = np.isfinite(hits.distance[index])
    safe = np.where(hit[:, None], points, 0.0).astype(np.float32)
    albedo = materials.rgb[row] * texture(safe, normal, row, materials)[:, None]
    lights = getattr(scene, "lights", None)
    if lights is None or not len(lights):
        direct = np.maximum(normal @ scene.sun.astype(np.float32), 0.0)
        upward = 0.75 + 0.25 * normal[:, 2]
        bright = scene.ambient * upward + (1.0 - scene.ambient) * 1.4 * direct
    else:
        bright = scene.ambient * (0.8 + 0.2 * normal[:, 2]) + (1.0 - scene.ambient) * _lamps(
            safe, normal, lights
        )
    gloss = 0.25 * materials.gloss[row][:, None]
    sky = np.asarray(scene.sky_rgb, dtype=np.float32)
    light = (1.0 - gloss) * albedo * bright[:, None] + gloss * sky * 0.6
    return np.where(hit[:, None], light, sky).astype(np.float32)


def _lamps(points: NDArray, normal: NDArray, lights: NDArray) -> NDArray:
    total = np.zeros(len(points), dtype=np.float32)
    for x, y, z, strength in lights.astype(np.float32):
        to = np.array([x, y, z], dtype=np.float32) - points
        square = np.einsum("ij,ij->i", to, to)
        facing = np.maximum(np.einsum("ij,ij->i", to, normal), 0.0) / np.sqrt(square + 1e-4)
        total += strength * facing / (1.0 + 0.25 * square)
    return total
