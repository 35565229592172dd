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


@cache
def white_noise() -> NDArray[np.float32]:
    """(65536,) normal deviates, always the same; to be read from a random place."""
    return np.random.default_rng(8).standard_normal(1 << 16, dtype=np.float32)


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
        from pc_perception.simulation.shading_kernel import develop_pixels

        level = float(light.mean()) if len(light) else 1.0
        gain = self.gain * (0.3 / (level + 0.02)) ** 0.8 * np.asarray(self.balance, dtype=np.float32)
        # Displays are not linear; an exponent of 1 / 1.6 leaves some contrast.
        curve = np.linspace(0.0, 1.0, 4096, dtype=np.float32) ** np.float32(self.gamma / 1.6)
        out = np.empty((len(light), 3), dtype=np.uint8)
        start = int(rng.integers(1 << 16))
        develop_pixels(light, gain, self.saturation, curve, 1.0, self.noise, white_noise(), start, out)
        return out


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
    from pc_perception.simulation.shading_kernel import shade_pixels

    lights = getattr(scene, "lights", None)
    lights = np.zeros((0, 4)) if lights is None else lights
    out = np.empty((len(points), 3), dtype=np.float32)
    m = materials
    shade_pixels(
        np.ascontiguousarray(points, dtype=np.float32),
        hits.hit[index],
        hits.material[index].astype(np.int64),
        hits.normal[index],
        m.rgb,
        m.texture,
        m.texture_scale,
        m.texture_contrast,
        m.gloss,
        noise_tile(),
        lights.astype(np.float64),
        np.asarray(scene.sun, dtype=np.float64),
        float(scene.ambient),
        np.asarray(scene.sky_rgb, dtype=np.float64),
        out,
    )
    return out
