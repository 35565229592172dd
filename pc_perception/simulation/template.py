# SPDX-License-Identifier: Apache-2.0
"""Shapes that many instances share: a template is made once, an instance scales, paints and places it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation.materials import Material, draw_material
from pc_perception.simulation.scene import Part, SceneObject
from pc_perception.simulation.shapes import Mesh


@dataclass(frozen=True)
class Piece:
    """A part without its paint: ``kind`` names the recipe its material is drawn from.

    ``kind`` may end in ``:text``: pieces with different text get materials of their own.
    """

    name: str
    kind: str
    mesh: Mesh
    raw_class: int | None = None


class Template:
    """Pieces with their bounding box (low, high), both (3,) float64 metres."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = [p for p in pieces if len(p.mesh[1])]
        self.low = np.min([p.mesh[0].min(0) for p in self.pieces], axis=0).astype(np.float64)
        self.high = np.max([p.mesh[0].max(0) for p in self.pieces], axis=0).astype(np.float64)


def instance(
    template: Template,
    raw_class: int,
    T: NDArray,
    rng: np.random.Generator,
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
    materials: dict[str, Material] | None = None,
    **more,
) -> SceneObject:
    """Make an object of a template: scaled, placed at ``T`` (4, 4), with freshly drawn materials.

    Args:
        materials: materials by ``kind`` to use in place of drawn ones.
        more: further ``SceneObject`` fields.
    """
    drawn = dict(materials or {})
    factor = np.asarray(scale, np.float32)
    parts = []
    for piece in template.pieces:
        if piece.kind not in drawn:
            drawn[piece.kind] = draw_material(piece.kind.partition(":")[0], rng)
        vertices, triangles = piece.mesh
        parts.append(Part(piece.name, vertices * factor, triangles, drawn[piece.kind], piece.raw_class))
    low, high = template.low * factor, template.high * factor
    return SceneObject(raw_class, tuple(parts), T, size=high - low, center=(low + high) / 2, **more)
