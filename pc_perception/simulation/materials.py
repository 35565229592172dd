# SPDX-License-Identifier: Apache-2.0
"""Surface materials, drawn per instance from overlapping distributions.

LiDAR and camera share them. The distributions overlap on purpose: brightness, near-infrared
reflectivity or colour alone must not give a class away, or a network trained here would learn the
simulator's paint instead of shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Material:
    """How one part of one object looks to a LiDAR and to a camera.

    Attributes:
        rgb: red, green, blue albedo, 0..1.
        reflectivity: diffuse reflectivity at the LiDAR's wavelength, 0..1.
        gloss: share of light that leaves as a mirror reflection, 0..1; such surfaces give weak returns
            unless they are hit head-on.
        retro: strength of retro-reflection (signs, plates, reflectors), 0..1.
        transmission: probability that a ray passes through (glass, mesh fences, leaves), 0..1.
        roughness: standard deviation of the surface's unmodelled height, metres.
        texture: 0 smooth noise, 1 stripes, 2 bricks; a pattern for cameras.
        texture_scale: size of the pattern, metres.
        texture_contrast: its strength, 0..1.
    """

    rgb: tuple[float, float, float] = (0.5, 0.5, 0.5)
    reflectivity: float = 0.3
    gloss: float = 0.0
    retro: float = 0.0
    transmission: float = 0.0
    roughness: float = 0.0
    texture: int = 0
    texture_scale: float = 0.5
    texture_contrast: float = 0.1


@dataclass(frozen=True)
class Recipe:
    """Ranges that ``draw_material`` draws a material from: (low, high) pairs and a palette."""

    palette: tuple[tuple[float, float, float], ...]
    reflectivity: tuple[float, float] = (0.08, 0.6)
    gloss: tuple[float, float] = (0.0, 0.1)
    retro: tuple[float, float] = (0.0, 0.0)
    transmission: tuple[float, float] = (0.0, 0.0)
    roughness: tuple[float, float] = (0.0, 0.006)
    textures: tuple[int, ...] = (0,)
    texture_scale: tuple[float, float] = (0.1, 1.5)


_GREYS = ((0.12, 0.12, 0.13), (0.3, 0.3, 0.31), (0.5, 0.5, 0.48), (0.7, 0.69, 0.66))
_EARTH = ((0.35, 0.27, 0.2), (0.5, 0.42, 0.3), (0.28, 0.24, 0.2), (0.6, 0.55, 0.45))
_GREENS = ((0.13, 0.25, 0.08), (0.25, 0.35, 0.12), (0.35, 0.4, 0.18), (0.45, 0.36, 0.15))
_WALLS = ((0.75, 0.7, 0.6), (0.55, 0.3, 0.22), (0.85, 0.84, 0.8), (0.4, 0.42, 0.45), (0.6, 0.5, 0.35))
_PANES = ((0.1, 0.12, 0.13), (0.2, 0.25, 0.27))
_PAINTS = (
    (0.05, 0.05, 0.06),
    (0.9, 0.9, 0.9),
    (0.55, 0.56, 0.58),
    (0.3, 0.3, 0.32),
    (0.5, 0.06, 0.06),
    (0.07, 0.13, 0.4),
    (0.1, 0.3, 0.15),
    (0.7, 0.5, 0.1),
    (0.6, 0.55, 0.45),
)

RECIPES: dict[str, Recipe] = {
    "asphalt": Recipe(_GREYS, (0.06, 0.32), roughness=(0.001, 0.006)),
    "concrete": Recipe(_GREYS + _EARTH[3:], (0.12, 0.5), roughness=(0.001, 0.006), textures=(0, 2)),
    "marking": Recipe(((0.85, 0.85, 0.82), (0.8, 0.65, 0.15)), (0.3, 0.8), retro=(0.0, 0.2)),
    # Chlorophyll is bright in the near infrared, and blades stand some centimetres high.
    "grass": Recipe(_GREENS + _EARTH[:2], (0.14, 0.6), roughness=(0.008, 0.04)),
    "soil": Recipe(_EARTH, (0.1, 0.45), roughness=(0.004, 0.025)),
    "leaf": Recipe(_GREENS, (0.13, 0.65), transmission=(0.0, 0.35), roughness=(0.005, 0.05)),
    "bark": Recipe(_EARTH, (0.08, 0.5), roughness=(0.004, 0.025)),
    "wall": Recipe(_WALLS, (0.1, 0.65), roughness=(0.0, 0.012), textures=(0, 1, 2)),
    "clutter": Recipe(_WALLS + _PAINTS, (0.06, 0.6), roughness=(0.005, 0.06), textures=(0, 1, 2)),
    "roof": Recipe(_GREYS + _EARTH, (0.06, 0.5), roughness=(0.002, 0.02), textures=(1, 2)),
    "wood": Recipe(_EARTH + _WALLS, (0.1, 0.6), roughness=(0.0, 0.01), textures=(1,)),
    "metal": Recipe(_GREYS + _PAINTS, (0.06, 0.6), gloss=(0.0, 0.6)),
    "paint": Recipe(_PAINTS, (0.02, 0.6), gloss=(0.2, 0.85), roughness=(0.0, 0.01)),
    # Panes of vehicles: most light goes through or away, little comes back.
    "glass": Recipe(_PANES, (0.0, 0.08), gloss=(0.6, 0.95), transmission=(0.2, 0.95)),
    # Windows of buildings: curtains, blinds and coatings return more.
    "pane": Recipe(_PANES, (0.0, 0.35), gloss=(0.3, 0.95), transmission=(0.0, 0.9), roughness=(0, 0.03)),
    # Windows towards a bright sky, as cameras inside see them.
    "daylight": Recipe(((0.97, 0.98, 1.0), (0.85, 0.92, 1.0)), (0.02, 0.3), gloss=(0.0, 0.4)),
    "plaster": Recipe(_WALLS[:1] + _WALLS[2:3] * 3 + _GREYS[3:], (0.2, 0.7), roughness=(0.0, 0.006)),
    "rubber": Recipe(_GREYS[:1], (0.03, 0.2), roughness=(0.002, 0.015)),
    "interior": Recipe(_GREYS + _EARTH, (0.02, 0.3), roughness=(0.005, 0.05)),
    "cloth": Recipe(_PAINTS + _EARTH + _GREYS, (0.06, 0.7), roughness=(0.003, 0.02)),
    "skin": Recipe(((0.75, 0.57, 0.46), (0.45, 0.3, 0.22), (0.28, 0.18, 0.13)), (0.2, 0.6)),
    "plastic": Recipe(_PAINTS + _WALLS, (0.08, 0.65), gloss=(0.0, 0.5)),
    "sign": Recipe(_PAINTS, (0.15, 0.8), gloss=(0.0, 0.3), retro=(0.0, 1.0)),
    "mesh": Recipe(_GREYS, (0.1, 0.5), gloss=(0.0, 0.3), transmission=(0.45, 0.85), roughness=(0.0, 0.03)),
    "carpet": Recipe(_PAINTS + _EARTH, (0.08, 0.6), roughness=(0.001, 0.006), textures=(0, 1)),
    "tiles": Recipe(_WALLS + _GREYS, (0.1, 0.65), gloss=(0.0, 0.5), textures=(2,)),
    "screen": Recipe(((0.03, 0.03, 0.04), (0.1, 0.12, 0.2)), (0.03, 0.2), gloss=(0.4, 0.9)),
    "mirror": Recipe(((0.6, 0.62, 0.65),), (0.02, 0.1), gloss=(0.9, 1.0)),
}


def draw_material(kind: str, rng: np.random.Generator) -> Material:
    """Draw a material of a ``RECIPES`` kind.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in RECIPES:
        raise ValueError(f"no material '{kind}'; there are {', '.join(sorted(RECIPES))}")
    recipe = RECIPES[kind]
    u = rng.random(14).tolist()
    color = recipe.palette[int(u[0] * len(recipe.palette))]
    # A quarter of all materials has a colour of no palette, so that colour is no sure sign either.
    mix = 0.15 if u[1] < 0.75 else 0.8
    brightness = 0.75 + 0.5 * u[2]
    r, g, b = (
        min(max(brightness * ((1 - mix) * c + mix * v), 0.0), 1.0) for c, v in zip(color, u[3:6], strict=True)
    )
    return Material(
        rgb=(r, g, b),
        reflectivity=_between(recipe.reflectivity, u[6]),
        gloss=_between(recipe.gloss, u[7]),
        retro=_between(recipe.retro, u[8]) if u[9] < 0.5 else 0.0,
        transmission=_between(recipe.transmission, u[10]),
        roughness=_between(recipe.roughness, u[11] ** 2),
        texture=recipe.textures[int(u[12] * len(recipe.textures))],
        texture_scale=_between(recipe.texture_scale, u[13]),
        texture_contrast=0.05 + 0.4 * u[2] * u[13],
    )


def _between(ends: tuple[float, float], u: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * u


_SCALARS = tuple(f.name for f in fields(Material) if f.name != "rgb")


@dataclass(frozen=True)
class MaterialTable:
    """Many materials as arrays of length M, to be indexed by a hit's ``material``."""

    rgb: NDArray[np.float32]
    reflectivity: NDArray[np.float32]
    gloss: NDArray[np.float32]
    retro: NDArray[np.float32]
    transmission: NDArray[np.float32]
    roughness: NDArray[np.float32]
    texture: NDArray[np.uint8]
    texture_scale: NDArray[np.float32]
    texture_contrast: NDArray[np.float32]

    @classmethod
    def stack(cls, materials: Sequence[Material]) -> MaterialTable:
        """Turn M materials into arrays."""
        rows = np.array([[*m.rgb, *(getattr(m, n) for n in _SCALARS)] for m in materials], dtype=np.float32)
        rows = rows.reshape(-1, 3 + len(_SCALARS))
        columns: dict[str, NDArray] = dict(zip(_SCALARS, np.ascontiguousarray(rows[:, 3:].T), strict=True))
        columns["texture"] = columns["texture"].astype(np.uint8)
        return cls(rgb=rows[:, :3].copy(), **columns)
