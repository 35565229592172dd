# SPDX-License-Identifier: Apache-2.0
"""Procedural rooms of many kinds: endless, furnished, deterministic by seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pc_perception import geometry
from pc_perception.simulation import furniture_fixtures as fixtures
from pc_perception.simulation import furniture_objects as things
from pc_perception.simulation import furniture_storage as storage
from pc_perception.simulation.furniture_assembly import WALL, Assembly
from pc_perception.simulation.room_layout import Layout
from pc_perception.simulation.room_plans import KIND_SHARES, ROOM_KINDS, furnish
from pc_perception.simulation.room_shell import (
    Wall,
    beams_and_columns,
    build_wall,
    floor_and_ceiling,
    floor_plan,
    walls_of,
)
from pc_perception.simulation.scene import Scene


@dataclass(frozen=True)
class RoomScene(Scene):
    """A scene with what cameras in a room need to know.

    Attributes:
        kind: one of ``ROOM_KINDS``.
        plan: (K, 2) outline, counter-clockwise, metres.
        height: of the ceiling, metres.
        lights: (L, 4) lamps: x, y, z and strength.
        tops: (M, 3) centres of table tops and the like.
    """

    kind: str = "office"
    plan: NDArray = field(default_factory=lambda: np.zeros((0, 2)))
    height: float = 2.5
    lights: NDArray = field(default_factory=lambda: np.zeros((0, 4)))
    tops: NDArray = field(default_factory=lambda: np.zeros((0, 3)))


def make_room(seed: int, kind: str | None = None) -> RoomScene:
    """Make one furnished room; the same seed gives the same room.

    Args:
        seed: of all random choices.
        kind: one of ``ROOM_KINDS``; drawn where None.

    Raises:
        ValueError: there is no such kind.
    """
    rng, drawn = _draw_kind(seed)
    kind = kind or drawn
    if kind not in ROOM_KINDS:
        raise ValueError(f"no room kind '{kind}'; there are {', '.join(ROOM_KINDS)}")
    plan = floor_plan(rng, kind)
    height = float(rng.uniform(2.2, 3.3))
    walls = walls_of(plan, rng)
    layout = Layout(plan, walls, rng)
    _openings(layout, height)
    paint = Assembly(WALL, rng)
    if rng.random() < 0.6:
        paint.surface(rng.uniform(0.05, 0.15), 0, 0)
    shell = floor_and_ceiling(plan, height, rng, has_ceiling=rng.random() < 0.9)
    for wall in walls:
        shell += build_wall(wall, height, rng, paint)
    shell += beams_and_columns(plan, height, rng, paint)
    furnish(layout, kind)
    _hang(layout, height)
    _litter(layout)
    lights = _lamps(layout, height)
    tops = [geometry.transform(T, np.array([[t.x, t.y, t.z]]))[0] for T, t in layout.tops if t.z < 1.2]  # type: ignore[attr-defined]
    numbered = Scene.build([*shell, *layout.objects], "simulation_room").objects
    return RoomScene(
        numbered,
        "simulation_room",
        ambient=float(rng.uniform(0.3, 0.7)),
        sky_rgb=tuple(rng.uniform(0.3, 1.0, 3).tolist()),
        kind=kind,
        plan=plan,
        height=height,
        lights=lights,
        tops=np.array(tops).reshape(-1, 3),
    )


def room_kind(seed: int) -> str:
    """Return the kind of room that ``make_room(seed)`` makes, without making it."""
    return _draw_kind(seed)[1]


def _draw_kind(seed: int) -> tuple[np.random.Generator, str]:
    rng = np.random.default_rng([seed, 0x0F00])
    return rng, str(rng.choice(ROOM_KINDS, p=KIND_SHARES))


def _openings(layout: Layout, height: float) -> None:
    """Cut doors and windows into the walls, hang them and keep the floor before doors free."""
    rng, walls = layout.rng, layout.walls
    for _ in range(int(rng.choice([1, 1, 2, 2, 3, 4]))):
        wall = walls[int(rng.integers(len(walls)))]
        width = rng.uniform(0.75, 1.05) if rng.random() < 0.85 else rng.uniform(1.4, 1.9)
        tall = min(rng.uniform(1.95, 2.2), height - 0.1)
        if wall.length < width + 0.3:
            continue
        y = rng.uniform(width / 2 + 0.1, wall.length - width / 2 - 0.1)
        if wall.reserve(y, width + 0.1, 0.0, tall + 0.1):
            _cut(wall, y, width, 0.0, tall)
            layout.add(fixtures.door(rng, width, tall, wall.thickness), wall.at(y))
            corners = np.array([[0.0, y - width / 2, 0], [rng.uniform(0.4, 0.9), y + width / 2, 0]])
            world = geometry.transform(wall.T_world_wall, corners)[:, :2]
            layout.claim((world.min(0), world.max(0)))
    for _ in range(int(rng.integers(0, 5))):
        wall = walls[int(rng.integers(len(walls)))]
        sill = rng.uniform(0.05, 0.4) if rng.random() < 0.2 else rng.uniform(0.6, 1.1)
        tall = min(rng.uniform(0.8, 1.9), height - sill - 0.15)
        width = min(rng.uniform(0.6, 2.8), wall.length - 0.4)
        if width < 0.5:
            continue
        y = rng.uniform(width / 2 + 0.1, wall.length - width / 2 - 0.1)
        if wall.reserve(y, width + 0.1, sill - 0.05, sill + tall + 0.05):
            _cut(wall, y, width, sill, tall)
            layout.add(fixtures.window(rng, width, tall, sill, wall.thickness), wall.at(y))
            if rng.random() < 0.35 and sill > 0.75:
                layout.add(storage.radiator(rng), wall.at(y, 0.0, 0.09))


def _cut(wall: Wall, y: float, width: float, z: float, tall: float) -> None:
    wall.openings.append((y - width / 2, y + width / 2, z, z + tall))


def _hang(layout: Layout, height: float) -> None:
    """Hang pictures, boards, small things and cabinets where walls are free."""
    rng = layout.rng
    choices = (fixtures.picture, fixtures.board, fixtures.wall_small, storage.wall_cabinet)
    for _ in range(int(rng.integers(0, 4 + 2 * len(layout.walls) // 2))):
        wall = layout.walls[int(rng.integers(len(layout.walls)))]
        build = choices[int(rng.choice(4, p=[0.45, 0.2, 0.25, 0.1]))]
        pieces = build(rng)
        size = pieces[0].make(np.eye(4)).size
        if size[1] > wall.length - 0.2:
            continue
        z = (
            0.0
            if build is storage.wall_cabinet
            else rng.uniform(0.9, max(1.0, min(1.7, height - size[2] - 0.2)))
        )
        y = rng.uniform(size[1] / 2 + 0.05, wall.length - size[1] / 2 - 0.05)
        if wall.reserve(y, size[1], z if z else 1.2, z + size[2] if z else 2.1):
            x = size[0] / 2 if build is storage.wall_cabinet else 0.0
            layout.add(pieces, wall.at(y, z, x))


def _litter(layout: Layout) -> None:
    """Put small things on tops and floor, and plants and lamps beside the furniture."""
    rng = layout.rng
    layout.on_tops(things.ON_TABLE, things.ON_DESK, mess=rng.uniform(0.5, 6.0))
    builders, weights = zip(*things.ON_FLOOR, strict=True)
    shares = np.array(weights) / sum(weights)
    for _ in range(int(rng.poisson(rng.uniform(0.5, 6.0)))):
        build = builders[int(rng.choice(len(builders), p=shares))]
        if build is things.carton:
            largest = rng.uniform(0.2, 0.8)
            build = lambda r, largest=largest: things.carton(r, largest)  # noqa: E731
        place = layout.along_wall if rng.random() < 0.6 else layout.free
        place(build)
    for build, chance in ((things.plant, 0.35), (things.floor_lamp, 0.3)):
        while rng.random() < chance:
            layout.along_wall(build)


def _lamps(layout: Layout, height: float) -> NDArray:
    """Hang ceiling lamps and return (L, 4) light positions and strengths, one from a window side."""
    rng = layout.rng
    low, high = layout.plan.min(0), layout.plan.max(0)
    lights = []
    for _ in range(int(rng.integers(1, 5))):
        at = rng.uniform(low + 0.15 * (high - low), high - 0.15 * (high - low))
        lights.append((*at, height - 0.2, rng.uniform(0.4, 1.5)))
        if rng.random() < 0.6:
            layout.add(
                things.pendant_lamp(rng),
                geometry.pose((*at, height), geometry.rotation_z(rng.integers(2) * np.pi / 2)),
            )
    side = rng.uniform(low, high)
    lights.append((low[0] if rng.random() < 0.5 else high[0], side[1], 1.6, rng.uniform(0.0, 2.0)))
    return np.array(lights)
