# SPDX-License-Identifier: Apache-2.0
"""The shell of a room: floor plan, walls with openings, floor, ceiling, columns, beams."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception import geometry
from pc_perception.simulation import shapes
from pc_perception.simulation.furniture_assembly import CEILING, FLOOR, WALL, Assembly
from pc_perception.simulation.scene import SceneObject


@dataclass
class Wall:
    """One straight wall.

    Attributes:
        T_world_wall: (4, 4): origin on the inner face at one end, x into the room, y along the wall.
        length: metres.
        thickness: metres, outwards.
        openings: (y_low, y_high, z_low, z_high) of doors and windows.
        taken: (y_low, y_high, z_low, z_high) of everything that hangs or stands there.
    """

    T_world_wall: NDArray
    length: float
    thickness: float
    openings: list[tuple[float, float, float, float]] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def reserve(self, y: float, width: float, z_low: float, z_high: float) -> bool:
        """Take the rectangle about ``y`` if it is free and on the wall; say whether it was."""
        low, high = y - width / 2, y + width / 2
        if low < 0.02 or high > self.length - 0.02:
            return False
        if any(low < b and high > a and z_low < d and z_high > c for a, b, c, d in self.taken):
            return False
        self.taken.append((low, high, z_low, z_high))
        return True

    def at(self, y: float, z: float = 0.0, x: float = 0.0) -> NDArray:
        """(4, 4) pose of a thing on this wall, facing into the room."""
        return self.T_world_wall @ geometry.pose((x, y, z))


def floor_plan(rng: Generator, kind: str) -> NDArray:
    """Draw a counter-clockwise, axis-aligned outline (K, 2) in metres: rectangle, L, or with an alcove."""
    if kind == "hallway":
        w, d = rng.uniform(1.3, 2.8), rng.uniform(2.5, 14.0)
    else:
        area, ratio = rng.uniform(6.0, 34.0), rng.uniform(0.5, 1.0)
        w, d = np.sqrt(area * ratio), np.sqrt(area / ratio)
    corners = [(0.0, 0.0), (w, 0.0), (w, d), (0.0, d)]
    style = rng.choice(["plain", "L", "alcove"], p=[0.5, 0.25, 0.25])
    if style == "L" and kind != "hallway":
        a, b = w * rng.uniform(0.25, 0.6), d * rng.uniform(0.2, 0.55)
        corners = [(0.0, 0.0), (w, 0.0), (w, d - b), (w - a, d - b), (w - a, d), (0.0, d)]
    elif style != "plain":
        b0 = rng.uniform(0.0, 0.6) * d
        b1 = min(d, b0 + rng.uniform(0.9, 2.5))
        out = w + rng.uniform(0.5, 1.6)
        if b0 > 0.15 and b1 < d - 0.15:
            corners = [(0.0, 0.0), (w, 0.0), (w, b0), (out, b0), (out, b1), (w, b1), (w, d), (0.0, d)]
    plan = np.array(corners)
    if rng.random() < 0.5:  # mirror, keeping the turn
        plan = (plan * (-1.0, 1.0))[::-1]
    plan = plan @ geometry.rotation_z(rng.integers(4) * np.pi / 2)[:2, :2].T
    return plan - (plan.min(0) + plan.max(0)) / 2


def walls_of(plan: NDArray, rng: Generator) -> list[Wall]:
    """Make a wall for each edge of a counter-clockwise outline."""
    thickness = rng.uniform(0.08, 0.25)
    walls = []
    for p, q in zip(plan, np.roll(plan, -1, axis=0), strict=True):
        along = (p - q) / np.linalg.norm(p - q)  # y of the wall's frame, from the edge's end to its start
        inward = np.array([along[1], -along[0]])
        R = np.eye(3)
        R[:2, 0], R[:2, 1] = inward, along
        walls.append(Wall(geometry.pose((*q, 0.0), R), float(np.linalg.norm(p - q)), thickness))
    return walls


def build_wall(wall: Wall, height: float, rng: Generator, paint: Assembly) -> list[SceneObject]:
    """Make the solid wall around its openings, with a skirting board where ``rng`` wants one."""
    a = Assembly(WALL, rng)
    a.main, a.second = (paint.main, paint.second) if rng.random() < 0.75 else (a.main, paint.second)
    sizes, centers = [], []

    def block(y0: float, y1: float, z0: float, z1: float) -> None:
        if y1 - y0 > 1e-3 and z1 - z0 > 1e-3:
            sizes.append((wall.thickness, y1 - y0, z1 - z0))
            centers.append((-wall.thickness / 2, (y0 + y1) / 2, (z0 + z1) / 2))

    edge = -wall.thickness
    for y0, y1, z0, z1 in sorted(wall.openings):
        block(edge, y0, 0.0, height)
        block(y0, y1, 0.0, z0)
        block(y0, y1, z1, height)
        edge = y1
    block(edge, wall.length + wall.thickness, 0.0, height)
    a.add("wall", shapes.boxes(sizes, centers))
    if paint.surfaces:  # the shell asked for skirting boards
        skirting, thick = paint.surfaces[0].z, 0.015
        edges = [0.0] + [y for o in sorted(wall.openings) if o[2] < skirting for y in o[:2]] + [wall.length]
        for y0, y1 in zip(edges[::2], edges[1::2], strict=True):
            if y1 - y0 > 0.02:
                a.box("panel", (thick, y1 - y0, skirting), (thick / 2, (y0 + y1) / 2, 0), a.second)
    return [a.make(wall.T_world_wall, is_thing=False)]


def floor_and_ceiling(
    plan: NDArray, height: float, rng: Generator, *, has_ceiling: bool
) -> list[SceneObject]:
    """Make the slabs; the floor reaches a little beyond the walls, to be seen through open doors."""
    low, high = plan.min(0), plan.max(0)
    center, size = (low + high) / 2, high - low
    beyond = rng.uniform(0.1, 1.2)
    a = Assembly(FLOOR, rng)
    a.box("floor", (*(size + 2 * beyond), 0.2), (*center, -0.2))
    out = [a.make(np.eye(4), is_thing=False)]
    if has_ceiling:
        c = Assembly(CEILING, rng)
        c.box("ceiling", (*(size + 0.5), 0.2), (*center, height))
        out.append(c.make(np.eye(4), is_thing=False))
    return out


def beams_and_columns(plan: NDArray, height: float, rng: Generator, paint: Assembly) -> list[SceneObject]:
    """Make a few beams under the ceiling and columns at corners of the plan; they count as wall."""
    out = []
    if rng.random() < 0.25:
        a = Assembly(WALL, rng)
        a.main = paint.main if rng.random() < 0.7 else a.main
        drop, wide = rng.uniform(0.1, 0.4), rng.uniform(0.15, 0.4)
        low, high = plan.min(0), plan.max(0)
        for x in rng.uniform(low[0], high[0], int(rng.integers(1, 4))):
            a.box("wall", (wide, high[1] - low[1], drop), (x, (low[1] + high[1]) / 2, height - drop))
        out.append(a.make(np.eye(4), is_thing=False))
    if rng.random() < 0.3:
        a = Assembly(WALL, rng)
        a.main = paint.main if rng.random() < 0.7 else a.main
        for corner in plan[rng.random(len(plan)) < 0.4]:
            side = rng.uniform(0.2, 0.6)
            a.box("wall", (side, side, height), (*corner, 0))
        if a.parts:
            out.append(a.make(np.eye(4), is_thing=False))
    return out
