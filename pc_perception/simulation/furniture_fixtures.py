# SPDX-License-Identifier: Apache-2.0
"""What belongs to walls: doors, windows, curtains, blinds, pictures, boards.

Origins lie on the wall's inner face; +x points into the room, y runs along the wall, z is up from the
floor.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from pc_perception.simulation import shapes
from pc_perception.simulation.furniture_assembly import DOOR, SMALL, WINDOW, Assembly


def door(rng: Generator, width: float, height: float, wall: float) -> list[Assembly]:
    """Build frame and leaf of a door (two leaves where it is wide); it may stand open or be missing."""
    a = Assembly(DOOR, rng)
    jamb, proud = rng.uniform(0.04, 0.1), rng.uniform(0.005, 0.03)
    deep = (wall + 2 * proud, jamb, height)
    for side in (-1, 1):
        a.box("frame", deep, (-wall / 2, side * (width - jamb) / 2, 0), a.second)
    a.box("frame", (deep[0], width, jamb), (-wall / 2, 0, height - jamb), a.second)
    n = 2 if width > 1.3 else 1
    leaf = (width - 2 * jamb) / n
    style = rng.choice(["shut", "open", "none"], p=[0.62, 0.3, 0.08])
    depth = rng.uniform(-0.06, 0.0) if rng.random() < 0.6 else -wall + 0.05
    for k in range(n if style != "none" else 0):
        hinge = (-1) ** (k + int(rng.integers(2))) if n == 1 else (-1, 1)[k]
        swing = rng.uniform(0.15, 2.6) * (1 if rng.random() < 0.7 else -0.5) if style == "open" else 0.0
        _leaf(a, rng, leaf, height - jamb, (depth, hinge * (width / 2 - jamb), 0.01), hinge, swing)
    return [a]


def _leaf(
    a: Assembly,
    rng: Generator,
    width: float,
    height: float,
    hinge: tuple[float, float, float],
    side: int,
    swing: float,
) -> None:
    """Hang one leaf on its hinge line; ``side`` is where along y the hinge is, +1 or -1."""
    c, s = np.cos(side * swing), np.sin(side * swing)

    def place(
        size: tuple[float, float, float], across: float, z: float, out: float, name: str, material=None
    ) -> None:  # type: ignore[no-untyped-def]
        x, y = out, -side * across
        at = (hinge[0] + c * x - s * y, hinge[1] + s * x + c * y, hinge[2] + z)
        a.box(name, size, at, material, yaw=side * swing)

    glass = rng.random() < 0.12
    thick = rng.uniform(0.035, 0.05)
    if glass:
        pane = a.fresh("glass")
        place((0.012, width, height), width / 2, 0.0, 0.0, "glass", pane)
        for across in (0.04, width - 0.04):
            place((thick, 0.08, height), across, 0.0, 0.0, "door")
        place((thick, width, 0.15), width / 2, 0.0, 0.0, "door")
    else:
        place((thick, width - 0.004, height - 0.01), width / 2, 0.0, 0.0, "door")
        if rng.random() < 0.5:
            n = int(rng.integers(1, 4))
            for k in range(n):
                h = (height - 0.3) / n
                place((thick + 0.02, width * 0.7, h * 0.8), width / 2, 0.15 + k * h, 0.0, "panel", a.third)
    for out in (-0.05, 0.05):
        place((0.05, 0.12, 0.02), width - 0.09, 1.0, out, "handle", a.second)


def window(rng: Generator, width: float, height: float, sill: float, wall: float) -> list[Assembly]:
    """Build frame, mullions and panes of a window, often with a sill, curtains or a blind."""
    a = Assembly(WINDOW, rng)
    bar, x = rng.uniform(0.03, 0.07), rng.uniform(-0.8, -0.2) * wall
    deep = rng.uniform(0.04, 0.08)
    for side in (-1, 1):
        a.box("frame", (deep, bar, height), (x, side * (width - bar) / 2, sill))
    for z in (sill, sill + height - bar):
        a.box("frame", (deep, width, bar), (x, 0, z))
    for y in np.linspace(-width / 2, width / 2, int(rng.integers(2, 5)))[1:-1]:
        a.box("frame", (deep, bar, height), (x, y, sill))
    if rng.random() < 0.35:
        a.box("frame", (deep, width, bar), (x, 0, sill + height * rng.uniform(0.4, 0.75)))
    # Half of the panes are looked through, most others are seen as the bright sky behind them.
    pane = a.fresh(str(rng.choice(["glass", "daylight", "pane"], p=[0.5, 0.35, 0.15])))
    a.box("glass", (0.012, width, height), (x - 0.01, 0, sill), pane)
    if rng.random() < 0.5:
        a.box("frame", (wall + rng.uniform(-0.02, 0.12), width, 0.03), (-0.02, 0, sill - 0.02), a.second)
    cover = rng.random()
    if cover < 0.4:
        _curtains(a, rng, width, height, sill)
    elif cover < 0.65:
        _blind(a, rng, width, height, sill)
    return [a]


def _curtains(a: Assembly, rng: Generator, width: float, height: float, sill: float) -> None:
    top = sill + height + rng.uniform(0.05, 0.25)
    low = rng.choice([0.02, max(sill - 0.15, 0.02)])
    share = rng.choice([rng.uniform(0.12, 0.3), 0.5])
    cloth = a.fresh()
    for side in (-1, 1):
        reach = share * (width + 0.3)
        y = side * ((width + 0.3) / 2 - reach / 2)
        a.add(
            "curtain", shapes.placed(wavy_sheet(rng, reach, low, top), (rng.uniform(0.06, 0.12), y, 0)), cloth
        )
    a.rod("rail", (0.09, -width / 2 - 0.25, top), (0.09, width / 2 + 0.25, top), 0.014, a.second)


def _blind(a: Assembly, rng: Generator, width: float, height: float, sill: float) -> None:
    drop, material = height * rng.uniform(0.3, 1.0), a.fresh()
    top = sill + height
    if rng.random() < 0.5:
        a.box("curtain", (0.012, width * 0.97, drop), (0.01, 0, top - drop), material)
        return
    for z in np.arange(top - drop, top, 0.05):
        a.box("curtain", (0.035, width * 0.97, 0.006), (0.02, 0, z), material, pitch=0.6)


def wavy_sheet(rng: Generator, width: float, z_low: float, z_high: float) -> shapes.Mesh:
    """Make a closed thin hanging sheet with folds, centred on y = 0."""
    n = max(8, int(width / 0.03))
    y = np.linspace(-width / 2, width / 2, n)
    depth = rng.uniform(0.015, 0.05)
    x = depth * np.sin(y * 2 * np.pi / rng.uniform(0.1, 0.22) + rng.uniform(0, 6)) + rng.normal(0, 0.004, n)
    t = 0.006
    rings = np.empty((n, 4, 3))
    for k, (dx, z) in enumerate(((-t, z_low), (-t, z_high), (t, z_high), (t, z_low))):
        rings[:, k] = np.stack([x + dx, y, np.full(n, z)], axis=1)
    return shapes.loft(rings)


def picture(rng: Generator) -> list[Assembly]:
    """Build a framed picture, poster, clock, mirror or notice; the origin is its lower edge."""
    a = Assembly(SMALL, rng)
    width, height = rng.uniform(0.2, 1.1), rng.uniform(0.2, 0.9)
    thick = rng.uniform(0.006, 0.045)
    a.box("picture", (thick, width, height), (thick / 2, 0, 0))
    if rng.random() < 0.6:
        bar = rng.uniform(0.02, 0.05)
        for side in (-1, 1):
            a.box("frame", (thick + 0.015, bar, height), (thick / 2, side * (width - bar) / 2, 0), a.second)
        for z in (0.0, height - bar):
            a.box("frame", (thick + 0.015, width, bar), (thick / 2, 0, z), a.second)
    return [a]


def board(rng: Generator) -> list[Assembly]:
    """Build a whiteboard, blackboard, pin board or large screen."""
    a = Assembly(SMALL, rng)
    width, height = rng.uniform(1.0, 2.8), rng.uniform(0.6, 1.2)
    thick = rng.uniform(0.012, 0.08)
    a.box("panel", (thick, width, height), (thick / 2, 0, 0))
    if rng.random() < 0.6:
        a.box("shelf", (0.08, width * 0.9, 0.015), (0.04, 0, -0.01), a.second)
    return [a]


def wall_small(rng: Generator) -> list[Assembly]:
    """Build a switch, dispenser, extinguisher, pipe or a coat on a hook."""
    a = Assembly(SMALL, rng)
    kind = rng.integers(4)
    if kind == 0:
        a.box("panel", (0.02, 0.09, 0.12), (0.01, 0, 0))
    elif kind == 1:
        a.box(
            "body",
            (rng.uniform(0.08, 0.2), rng.uniform(0.15, 0.35), rng.uniform(0.2, 0.45)),
            (0.08, 0, 0),
            rounded=True,
        )
    elif kind == 2:
        a.cylinder("body", 0.07, 0.45, (0.09, 0, 0), sides=12)
    else:
        a.rod("hook", (0.0, 0, 0.75), (0.12, 0, 0.75), 0.012, a.second)
        a.ball("body", (rng.uniform(0.06, 0.12), rng.uniform(0.15, 0.26), 0.4), (0.1, 0, 0.35), power=0.7)
    return [a]
