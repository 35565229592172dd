# SPDX-License-Identifier: Apache-2.0
"""How furniture is put together: named closed meshes with materials, in the piece's own frame.

A piece stands on its frame's origin (z = 0 is the floor), faces +x (its back, towards a wall, is at
-x) and is as wide as y. A builder returns one assembly, or several that stay together: a bed and its
pillows, a shelf and its books.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from pc_perception import geometry
from pc_perception.simulation import shapes
from pc_perception.simulation.materials import Material, draw_material
from pc_perception.simulation.scene import PART_IDS, Part, SceneObject, make_object

# Raw class ids of label_sets/simulation_room.yaml.
FLOOR, WALL, CEILING, DOOR, WINDOW, TABLE, DESK, CHAIR, SOFA, BED = range(1, 11)
SHELF, CABINET, SMALL, PLANT, LAMP = range(11, 16)

MATERIAL_KINDS = ("wood", "wall", "plastic", "cloth", "paint", "metal", "carpet", "tiles")
_KIND_ENDS = np.cumsum((0.3, 0.2, 0.14, 0.14, 0.06, 0.06, 0.05, 0.05))

# What most things of a class are made of. The rest, and what is not listed, is drawn from one mixture
# of all kinds, so that paint hints at the class but never tells it.
USUAL_KINDS: dict[int, tuple[float, tuple[str, ...]]] = {
    FLOOR: (0.9, ("wood", "carpet", "tiles")),
    WALL: (0.88, ("plaster", "plaster", "wall")),
    CEILING: (0.95, ("plaster",)),
    DOOR: (0.85, ("wood", "wood", "paint", "plaster")),
    WINDOW: (0.7, ("cloth", "plastic", "plaster")),
    TABLE: (0.8, ("wood",)),
    DESK: (0.8, ("wood", "plastic")),
    CHAIR: (0.8, ("cloth", "plastic", "wood", "metal")),
    SOFA: (0.95, ("cloth",)),
    BED: (0.9, ("cloth",)),
    SHELF: (0.8, ("wood", "wood", "metal")),
    CABINET: (0.8, ("wood", "wood", "plastic")),
}

_PART_NAMES = {
    "castor": "wheel", "column": "post", "spine": "post", "mattress": "cushion", "duvet": "cushion",
    "headboard": "back", "footboard": "panel", "pillow": "cushion", "side": "panel", "board": "shelf",
    "divider": "panel", "front": "door", "plinth": "base", "counter": "top", "sink": "basin",
    "tap": "handle", "flap": "panel", "neck": "top", "keyboard": "panel", "stand": "post",
    "foot": "base", "pocket": "bag", "bottom": "base", "pot": "base", "leaf": "crown", "shade": "lamp",
    "cord": "post", "bowl": "basin", "lid": "top", "rib": "panel", "apron": "frame", "beam": "frame",
    "legs": "leg", "hook": "handle", "box": "body", "sheet": "body", "book": "body", "shoe": "body",
    "mouse": "body", "tank": "body", "drawers": "drawer",
}  # fmt: skip


def indoor_material(rng: Generator, kind: str | None = None, raw_class: int = SMALL) -> Material:
    """Draw a material of ``kind``, or of a kind that is usual for things of ``raw_class``."""
    share, usual = USUAL_KINDS.get(raw_class, (0.0, ()))
    u, v = rng.random(2)
    if kind is None and u < share:
        kind = usual[int(v * len(usual))]
    kind = kind or MATERIAL_KINDS[min(int(np.searchsorted(_KIND_ENDS, v)), 7)]
    material = draw_material(kind, rng)
    # Most things indoors are rather grey, brown or white; bright paint is the exception.
    rgb = np.array(material.rgb)
    rgb = rgb.mean() + rng.uniform(0.1, 1.0) * (rgb - rgb.mean())
    return replace(material, rgb=(float(rgb[0]), float(rgb[1]), float(rgb[2])))


@dataclass(frozen=True)
class Surface:
    """A level rectangle on which things can stand: height, extent, centre, in the piece's frame."""

    z: float
    depth: float
    width: float
    x: float = 0.0
    y: float = 0.0
    desk: bool = False


class Assembly:
    """The parts of one object while it is being built.

    Attributes:
        raw_class: class id of ``simulation_room``.
        main, second, third: materials of this instance; ``main`` where none is named.
        parts: meshes by (part name, material), joined when the object is made.
        surfaces: where other things may stand.
    """

    def __init__(self, raw_class: int, rng: Generator) -> None:
        self.raw_class = raw_class
        self.parts: dict[tuple[str, Material], list[shapes.Mesh]] = {}
        self.surfaces: list[Surface] = []
        self.rng = rng
        self.main = self.fresh()
        self.second = self.fresh() if rng.random() < 0.6 else self.main
        self.third = self.fresh() if rng.random() < 0.5 else self.second
        self.offset = np.zeros(3)

    def fresh(self, kind: str | None = None) -> Material:
        """Draw one more material, of ``kind`` or as the class has it."""
        return indoor_material(self.rng, kind, self.raw_class)

    def add(self, name: str, mesh: shapes.Mesh, material: Material | None = None) -> None:
        """Take a mesh that is already where it belongs."""
        name = _PART_NAMES.get(name, name)
        if name not in PART_IDS:
            raise ValueError(f"no part is called '{name}'; map it in _PART_NAMES or add it to scene.PARTS")
        self.parts.setdefault((name, material or self.main), []).append(mesh)

    def box(
        self,
        name: str,
        size: ArrayLike,
        at: ArrayLike,
        material: Material | None = None,
        *,
        roll: float = 0.0,
        pitch: float = 0.0,
        yaw: float = 0.0,
        rounded: bool = False,
    ) -> None:
        """Add a box that stands with the middle of its bottom at ``at``, turned about that point."""
        size = np.maximum(np.asarray(size, dtype=np.float64), 0.004)
        if rounded:
            mesh = _soft_box(size, float(self.rng.uniform(0.15, 0.42)))
        else:
            mesh = shapes.box(size, (0, 0, size[2] / 2))
        self.add(name, _turn(mesh, at, roll, pitch, yaw), material)

    def rod(
        self,
        name: str,
        start: ArrayLike,
        end: ArrayLike,
        radius: float,
        material: Material | None = None,
        sides: int = 8,
    ) -> None:
        """Add a round rod between two points."""
        self.add(name, shapes.tube(np.array([start, end], dtype=np.float64), radius, sides), material)

    def cylinder(
        self,
        name: str,
        radius: float,
        height: float,
        at: ArrayLike,
        material: Material | None = None,
        sides: int = 16,
    ) -> None:
        """Add an upright cylinder that stands at ``at``."""
        self.add(name, shapes.placed(shapes.cylinder(radius, height, sides), at), material)

    def cone(
        self,
        name: str,
        low: float,
        high: float,
        height: float,
        at: ArrayLike,
        material: Material | None = None,
    ) -> None:
        """Add a truncated cone with two radii that stands at ``at``."""
        self.add(name, shapes.placed(shapes.cylinder(low, height, 16, top_radius=high), at), material)

    def ball(
        self,
        name: str,
        radii: ArrayLike,
        at: ArrayLike,
        material: Material | None = None,
        *,
        pitch: float = 0.0,
        yaw: float = 0.0,
        power: float = 1.0,
        coarse: bool = False,
    ) -> None:
        """Add an ellipsoid about ``at``; a ``power`` below 1 makes it boxier, like a cushion."""
        unit, triangles = shapes.ellipsoid((1, 1, 1), n_sides=6 if coarse else 12, n_rings=3 if coarse else 6)
        vertices = np.sign(unit) * np.abs(unit) ** power * np.asarray(radii, dtype=np.float32)
        self.add(name, _turn((vertices, triangles), at, 0.0, pitch, yaw), material)

    def surface(self, z: float, depth: float, width: float, desk: bool = False) -> None:
        """Name a level top."""
        self.surfaces.append(Surface(z, depth, width, desk=desk))

    def shift(self, offset: ArrayLike) -> None:
        """Move the whole assembly within the common frame."""
        self.offset = self.offset + np.asarray(offset, dtype=np.float64)

    def make(self, T_world_piece: NDArray, *, is_thing: bool = True) -> SceneObject:
        """Join the meshes by part and material and place the object."""
        parts = []
        for (name, material), meshes in self.parts.items():
            vertices, triangles = shapes.join(meshes)
            parts.append(Part(name, vertices, triangles, material))
        T = T_world_piece @ geometry.pose(self.offset)
        return make_object(self.raw_class, parts, T, is_thing=is_thing)


def legs(
    a: Assembly,
    depth: float,
    width: float,
    height: float,
    inset: float = 0.03,
    splay: float = 0.0,
    thickness: float | None = None,
) -> None:
    """Put four legs under a rectangle; ``splay`` metres move the feet outwards."""
    r = thickness or float(a.rng.uniform(0.012, 0.035))
    is_round = a.rng.random() < 0.5 or splay > 0
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (depth / 2 - r - inset), sy * (width / 2 - r - inset)
            if is_round:
                a.rod("leg", (x + sx * splay, y + sy * splay, 0.0), (x, y, height), r, a.second)
            else:
                a.box("leg", (2 * r, 2 * r, height), (x, y, 0), a.second)


def _turn(mesh: shapes.Mesh, at: ArrayLike, roll: float, pitch: float, yaw: float) -> shapes.Mesh:
    if not (roll or pitch or yaw):
        return shapes.placed(mesh, at)
    R = geometry.rotation_z(yaw) @ geometry.rotation_y(pitch) @ geometry.rotation_x(roll)
    return shapes.moved(mesh, geometry.pose(np.asarray(at, dtype=np.float64), R))


def _soft_box(size: NDArray, bevel: float) -> shapes.Mesh:
    """Make a box on z = 0 with bevelled edges, like a cushion."""
    b = bevel * float(size.min())
    x, y = size[0] / 2, size[1] / 2

    def ring(inset: float, z: float) -> list[tuple[float, float, float]]:
        p, q, c = x - inset, y - inset, 0.9 * b
        corners = [
            (p, -q + c),
            (p, q - c),
            (p - c, q),
            (c - p, q),
            (-p, q - c),
            (-p, c - q),
            (c - p, -q),
            (p - c, -q),
        ]
        return [(u, v, z) for u, v in corners]

    return shapes.loft(
        [ring(0.6 * b, 0.0), ring(0.0, 0.8 * b), ring(0.0, size[2] - 0.8 * b), ring(0.6 * b, size[2])]
    )
