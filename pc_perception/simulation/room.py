# SPDX-License-Identifier: Apache-2.0
"""Procedural rooms of many kinds: endless, furnished, deterministic by seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception import geometry
from pc_perception.simulation import furniture_fixtures as fixtures
from pc_perception.simulation import furniture_objects as things
from pc_perception.simulation import furniture_seating as seating
from pc_perception.simulation import furniture_storage as storage
from pc_perception.simulation import furniture_tables as tables
from pc_perception.simulation.furniture_assembly import FLOOR, WALL, Assembly
from pc_perception.simulation.room_layout import Builder, Layout
from pc_perception.simulation.room_shell import (
    Wall,
    beams_and_columns,
    build_wall,
    floor_and_ceiling,
    floor_plan,
    walls_of,
)
from pc_perception.simulation.scene import Scene

ROOM_KINDS = (
    "office",
    "living",
    "bedroom",
    "kitchen",
    "meeting",
    "hallway",
    "lounge",
    "lab",
    "bathroom",
    "storage",
)
_SHARES = (0.14, 0.17, 0.18, 0.11, 0.11, 0.09, 0.08, 0.06, 0.03, 0.03)


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


# What stands in each kind of room: (builder, fewest, most, where). "wall" has its back to a wall.
_PLANS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "office": (("workplace", 1, 5), ("shelf", 0, 3), ("cabinet", 0, 3), ("table_set", 0, 1), ("seat", 0, 2)),
    "living": (
        ("sofa_group", 1, 2),
        ("shelf", 0, 2),
        ("cabinet", 0, 3),
        ("table_set", 0, 1),
        ("armchair", 0, 2),
    ),
    "bedroom": (
        ("bed_group", 1, 2),
        ("cabinet", 1, 3),
        ("workplace", 0, 1),
        ("shelf", 0, 2),
        ("armchair", 0, 1),
    ),
    "kitchen": (("kitchen", 1, 3), ("fridge", 0, 2), ("table_set", 0, 2), ("shelf", 0, 1), ("bar", 0, 1)),
    "meeting": (("big_table", 1, 2), ("cabinet", 0, 2), ("seat", 0, 4), ("shelf", 0, 1)),
    "hallway": (("cabinet", 0, 2), ("bench", 0, 2), ("seat", 0, 1), ("shelf", 0, 1)),
    "lounge": (
        ("sofa_group", 1, 2),
        ("table_set", 0, 3),
        ("bar", 0, 1),
        ("cabinet", 0, 2),
        ("armchair", 0, 3),
    ),
    "lab": (("workplace", 1, 4), ("rack", 1, 3), ("kitchen", 0, 2), ("cabinet", 0, 3), ("seat", 0, 3)),
    "bathroom": (("bathroom", 2, 4), ("cabinet", 0, 1)),
    "storage": (("rack", 1, 4), ("cabinet", 0, 3), ("table_set", 0, 1), ("shelf", 0, 3)),
}


def make_room(seed: int, kind: str | None = None) -> RoomScene:
    """Make one furnished room; the same seed gives the same room.

    Args:
        seed: of all random choices.
        kind: one of ``ROOM_KINDS``; drawn where None.

    Raises:
        ValueError: there is no such kind.
    """
    rng = np.random.default_rng([seed, 0x0F00])
    drawn = str(rng.choice(ROOM_KINDS, p=_SHARES))
    kind = kind or drawn
    if kind not in _PLANS:
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
    _furnish(layout, kind)
    _hang(layout, height)
    _litter(layout)
    lights = _lamps(layout, height)
    tops = [geometry.transform(T, np.array([[t.x, t.y, t.z]]))[0] for T, t in layout.tops if t.z < 1.2]  # type: ignore[attr-defined]
    return RoomScene.build(
        [*shell, *layout.objects],
        "simulation_room",
        ambient=float(rng.uniform(0.3, 0.7)),
        sky_rgb=tuple(rng.uniform(0.3, 1.0, 3).tolist()),
        kind=kind,
        plan=plan,
        height=height,
        lights=lights,
        tops=np.array(tops).reshape(-1, 3),
    )


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


def _furnish(layout: Layout, kind: str) -> None:
    rng = layout.rng
    area = float(np.ptp(layout.plan[:, 0]) * np.ptp(layout.plan[:, 1]))
    fill = rng.uniform(0.5, 1.4) * np.clip(area / 14.0, 0.6, 2.5)
    for name, fewest, most in _PLANS[kind]:
        for _ in range(max(fewest, round(rng.uniform(fewest, most + 0.5) * fill))):
            _GROUPS[name](layout)
    for _ in range(int(rng.integers(0, 3 + int(area / 8)))):  # rooms hold odd things too
        name = str(rng.choice(list(_GROUPS)))
        if kind != "hallway" or name in ("cabinet", "seat", "shelf"):
            _GROUPS[name](layout)
    if rng.random() < 0.25 and layout.objects:
        rug = Assembly(FLOOR, rng)
        low, high = layout.plan.min(0), layout.plan.max(0)
        size = rng.uniform(0.25, 0.6) * (high - low)
        rug.box("floor", (*size, 0.012), (*rng.uniform(low + size / 2, high - size / 2), 0.0))
        layout.objects.append(rug.make(np.eye(4), is_thing=False))


def _chair(rng: Generator) -> list[Assembly]:
    build: Builder = (seating.dining_chair, seating.shell_chair, seating.office_chair, seating.armchair)[
        int(rng.choice(4, p=[0.45, 0.25, 0.22, 0.08]))
    ]
    return build(rng)


def _same_chairs(rng: Generator) -> Builder:
    """Draw a build of chair and keep it, as chairs at one table mostly look alike."""
    seed = int(rng.integers(2**32))
    return lambda _: _chair(np.random.default_rng(seed))


def _around(layout: Layout, found: tuple[NDArray, int, NDArray] | None, share: float) -> None:
    """Put chairs around a table, facing it, pushed in or pulled out, a few turned away."""
    if found is None:
        return
    T, claim, size = found
    rng = layout.rng
    chairs = _same_chairs(rng)
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        along = size[1 - axis]
        n = max(1, int(along / rng.uniform(0.55, 0.85)))
        for k in range(n):
            if rng.random() > share:
                continue
            out = sign * (size[axis] / 2 + rng.uniform(-0.12, 0.35))
            side = (k + 0.5) / n * along - along / 2 + rng.normal(0, 0.05)
            offset = (out, side) if axis == 0 else (side, out)
            yaw = (np.pi if sign > 0 else 0.0) if axis == 0 else -sign * np.pi / 2
            layout.beside(T, claim, offset, yaw + rng.normal(0, 0.25), chairs)


def _workplace(layout: Layout) -> None:
    rng = layout.rng
    found = layout.along_wall(tables.desk) if rng.random() < 0.75 else layout.free(tables.desk)
    if found is not None and rng.random() < 0.9:
        T, claim, size = found
        build = seating.office_chair if rng.random() < 0.75 else _chair
        x = size[0] / 2 + rng.uniform(-0.1, 0.4)
        layout.beside(T, claim, (x, rng.normal(0, size[1] / 8)), np.pi + rng.normal(0, 0.5), build)


def _sofa_group(layout: Layout) -> None:
    rng = layout.rng
    found = layout.along_wall(seating.sofa) if rng.random() < 0.75 else layout.free(seating.sofa)
    if found is not None and rng.random() < 0.7:
        T, claim, size = found
        layout.beside(
            T, claim, (size[0] / 2 + rng.uniform(0.5, 0.8), rng.normal(0, 0.15)), 0.0, tables.coffee_table
        )
        if rng.random() < 0.4:
            layout.beside(T, claim, (0.0, size[1] / 2 + 0.35), 0.0, tables.side_table)


def _bed_group(layout: Layout) -> None:
    found = layout.along_wall(seating.bed)
    if found is None:
        return
    T, claim, size = found
    for side in (-1, 1):
        if layout.rng.random() < 0.6:
            layout.beside(
                T, claim, (-size[0] / 2 + 0.25, side * (size[1] / 2 + 0.36)), 0.0, storage.nightstand
            )


def _wall(build: Builder):  # type: ignore[no-untyped-def]
    return lambda layout: layout.along_wall(build)


def _either(build: Builder):  # type: ignore[no-untyped-def]
    return lambda layout: layout.along_wall(build) if layout.rng.random() < 0.5 else layout.free(build)


_GROUPS = {
    "workplace": _workplace,
    "sofa_group": _sofa_group,
    "bed_group": _bed_group,
    "table_set": lambda layout: _around(layout, layout.free(tables.table), layout.rng.uniform(0.3, 1.0)),
    "big_table": lambda layout: _around(layout, layout.free(tables.table), layout.rng.uniform(0.6, 1.0)),
    "bar": lambda layout: _around(layout, layout.free(tables.bar_table), 0.3),
    "shelf": _wall(storage.shelf),
    "cabinet": _wall(storage.cabinet),
    "kitchen": _wall(storage.kitchen_run),
    "fridge": _wall(storage.fridge),
    "rack": _wall(storage.metal_rack),
    "bathroom": _wall(storage.bathroom),
    "armchair": _either(seating.armchair),
    "seat": _either(_chair),
    "bench": _either(seating.bench),
    "stool": _either(seating.stool),
}


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
