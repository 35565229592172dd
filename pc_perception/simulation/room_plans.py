# SPDX-License-Identifier: Apache-2.0
"""What stands in which kind of room, and what stands together: a desk and its chair, a bed and its tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.simulation import furniture_seating as seating
from pc_perception.simulation import furniture_storage as storage
from pc_perception.simulation import furniture_tables as tables
from pc_perception.simulation.furniture_assembly import FLOOR, Assembly
from pc_perception.simulation.room_layout import Builder, Layout

Found = tuple[NDArray, int, NDArray] | None  # pose, claim and footprint of what was placed

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
KIND_SHARES = (0.14, 0.17, 0.18, 0.11, 0.11, 0.09, 0.08, 0.06, 0.03, 0.03)


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


def furnish(layout: Layout, kind: str) -> None:
    """Put the furniture of one of ``ROOM_KINDS`` into an empty room."""
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


def _around(layout: Layout, found: Found, share: float) -> None:
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


def _fitted(place: Callable[[Builder], Found], build: Builder) -> Found:
    """Draw pieces until one fits, as people buy what their room has space for."""
    for _ in range(4):
        found = place(build)
        if found is not None:
            return found
    return None


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
    found = _fitted(layout.along_wall if rng.random() < 0.75 else layout.free, seating.sofa)
    if found is not None and rng.random() < 0.7:
        T, claim, size = found
        layout.beside(
            T, claim, (size[0] / 2 + rng.uniform(0.5, 0.8), rng.normal(0, 0.15)), 0.0, tables.coffee_table
        )
        if rng.random() < 0.4:
            layout.beside(T, claim, (0.0, size[1] / 2 + 0.35), 0.0, tables.side_table)


def _bed_group(layout: Layout) -> None:
    found = _fitted(layout.along_wall, seating.bed)
    if found is None:
        return
    T, claim, size = found
    for side in (-1, 1):
        if layout.rng.random() < 0.6:
            layout.beside(
                T, claim, (-size[0] / 2 + 0.25, side * (size[1] / 2 + 0.36)), 0.0, storage.nightstand
            )


def _wall(build: Builder) -> Callable[[Layout], object]:
    return lambda layout: layout.along_wall(build)


def _either(build: Builder) -> Callable[[Layout], object]:
    return lambda layout: layout.along_wall(build) if layout.rng.random() < 0.5 else layout.free(build)


_GROUPS: dict[str, Callable[[Layout], object]] = {
    "workplace": _workplace,
    "sofa_group": _sofa_group,
    "bed_group": _bed_group,
    "table_set": lambda layout: _around(
        layout, _fitted(layout.free, tables.table), layout.rng.uniform(0.3, 1.0)
    ),
    "big_table": lambda layout: _around(
        layout, _fitted(layout.free, tables.table), layout.rng.uniform(0.6, 1.0)
    ),
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
