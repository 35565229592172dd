# SPDX-License-Identifier: Apache-2.0
"""What a simulated world is made of: parts with a material, objects with a class and a box, scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation.materials import Material
from pc_perception.simulation.shapes import Mesh, one_sided

PARTS = (
    "none", "body", "glass", "wheel", "interior", "light", "plate", "cab", "cargo", "mirror",
    "head", "torso", "arm", "leg", "frame", "trunk", "branch", "crown", "stem", "panel",
    "lamp", "surface", "marking", "wall", "window", "roof", "door", "balcony", "steps", "post",
    "rail", "seat", "back", "top", "shelf", "drawer", "handle", "base", "screen", "cushion",
    "basin", "curtain", "picture", "ceiling", "floor", "hand", "bag",
)  # fmt: skip
"""Names of part ids: a part's id is its name's place here, 0 is none."""

PART_IDS = {name: i for i, name in enumerate(PARTS)}


@dataclass(frozen=True)
class Part:
    """One named piece of an object, in the object's frame.

    Attributes:
        name: one of ``PARTS``.
        vertices: (V, 3) float32, metres.
        triangles: (T, 3) int32, watertight; leaves are sheets of two sides, without an inside. The grounds alone
            (road, sidewalk, kerb, terrain) are open: surfaces without an underside, not things.
        material: drawn for this instance.
        raw_class: overrides the object's class (the crown and the trunk of one tree).
    """

    name: str
    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    material: Material
    raw_class: int | None = None

    @property
    def mesh(self) -> Mesh:
        """The (vertices, triangles) pair that ``shapes`` works on."""
        return self.vertices, self.triangles

    @property
    def surface(self) -> Mesh:
        """The same with every sheet once, without its back: what has the area that points are drawn over."""
        return one_sided(self.mesh)


@dataclass(frozen=True)
class SceneObject:
    """One thing with a class, a pose and a box.

    Attributes:
        raw_class: id of the scene's label set, 1-based.
        parts: its pieces, in the object's frame.
        T_world_object: (4, 4) pose at time 0.
        size: (3,) length, width, height of its box, metres.
        center: (3,) centre of its box in the object's frame (objects stand on their origin).
        velocity: (3,) m/s in the world at time 0; an object with a velocity or a motion is dynamic.
        motion: time in seconds -> (4, 4) pose; None moves straight along ``velocity``.
        is_thing: countable, with a box worth writing; False for ground and walls.
        instance: id that ``Scene`` assigns, 1-based.
    """

    raw_class: int
    parts: Sequence[Part]
    T_world_object: NDArray = field(default_factory=lambda: np.eye(4))
    size: NDArray = field(default_factory=lambda: np.zeros(3))
    center: NDArray = field(default_factory=lambda: np.zeros(3))
    velocity: NDArray = field(default_factory=lambda: np.zeros(3))
    motion: Callable[[float], NDArray] | None = None
    is_thing: bool = True
    instance: int = 0

    @property
    def is_dynamic(self) -> bool:
        """True where the object moves."""
        return self.motion is not None or bool(np.any(self.velocity))

    @property
    def T_world_box(self) -> NDArray:
        """(4, 4) pose of the box's centre."""
        T = self.T_world_object.copy()
        T[:3, 3] += T[:3, :3] @ self.center
        return T

    def at(self, time_s: float) -> SceneObject:
        """Return the object where it is at ``time_s``."""
        if self.motion is not None:
            step = 0.05
            T, later = self.motion(time_s), self.motion(time_s + step)
            return replace(self, T_world_object=T, velocity=(later[:3, 3] - T[:3, 3]) / step)
        if not self.is_dynamic:
            return self
        T = self.T_world_object.copy()
        T[:3, 3] += self.velocity * time_s
        return replace(self, T_world_object=T)


def make_object(raw_class: int, parts: Sequence[Part], T: NDArray | None = None, **more) -> SceneObject:
    """Build an object whose box is the bounding box of its parts in its own frame."""
    low = np.min([p.vertices.min(0) for p in parts], axis=0).astype(np.float64)
    high = np.max([p.vertices.max(0) for p in parts], axis=0).astype(np.float64)
    T = np.eye(4) if T is None else T
    return SceneObject(raw_class, tuple(parts), T, size=high - low, center=(low + high) / 2, **more)


@dataclass(frozen=True)
class Scene:
    """Everything in one world at one time.

    Attributes:
        objects: with instance ids 1 .. N in their order.
        label_set: ``simulation_street`` or ``simulation_room``: names of the raw classes.
        sun: (3,) unit vector towards the sun (or the lamp), world frame.
        sky_rgb: (3,) 0..1 colour of the background.
        ambient: share of light that comes from everywhere, 0..1.
        path: distance in metres -> (4, 4) pose of a vehicle's base on the ground, or None.
        path_length: how far ``path`` leads, metres.
    """

    objects: tuple[SceneObject, ...]
    label_set: str
    sun: NDArray = field(default_factory=lambda: np.array([0.4, 0.2, 0.89]))
    sky_rgb: tuple[float, float, float] = (0.55, 0.7, 0.9)
    ambient: float = 0.5
    path: Callable[[float], NDArray] | None = None
    path_length: float = 0.0

    @classmethod
    def build(cls, objects: Sequence[SceneObject], label_set: str, **more) -> Scene:
        """Make a scene and number its objects.

        Raises:
            ValueError: there are more objects than instance ids (65535).
        """
        if len(objects) > 65535:
            raise ValueError(f"a scene holds at most 65535 objects, got {len(objects)}; make it smaller")
        numbered = tuple(replace(o, instance=i + 1) for i, o in enumerate(objects))
        return cls(numbered, label_set, **more)

    def at(self, time_s: float) -> Scene:
        """Return the scene at ``time_s``; objects that do not move are shared."""
        return replace(self, objects=tuple(o.at(time_s) if o.is_dynamic else o for o in self.objects))
