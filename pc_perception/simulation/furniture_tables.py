# SPDX-License-Identifier: Apache-2.0
"""Tables and desks; each names its top as a surface on which a room then puts things."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from pc_perception.simulation.furniture_assembly import DESK, TABLE, Assembly, legs


def table(rng: Generator) -> list[Assembly]:
    """Build a rectangular or round dining or meeting table."""
    long = rng.choice(
        [rng.uniform(0.8, 1.4), rng.uniform(1.4, 2.4), rng.uniform(2.4, 4.0)], p=[0.5, 0.4, 0.1]
    )
    return _table(rng, (rng.uniform(0.65, 1.1), long), rng.uniform(0.68, 0.80), round_share=0.3)


def coffee_table(rng: Generator) -> list[Assembly]:
    """Build a low table."""
    return _table(
        rng, (rng.uniform(0.4, 0.7), rng.uniform(0.5, 1.3)), rng.uniform(0.32, 0.52), round_share=0.35
    )


def side_table(rng: Generator) -> list[Assembly]:
    """Build a small table for one lamp or a few books."""
    return _table(rng, (rng.uniform(0.35, 0.5),) * 2, rng.uniform(0.45, 0.7), round_share=0.5)


def bar_table(rng: Generator) -> list[Assembly]:
    """Build a high standing table."""
    return _table(
        rng, (rng.uniform(0.5, 0.8), rng.uniform(0.6, 1.6)), rng.uniform(0.95, 1.12), round_share=0.5
    )


def _table(rng: Generator, top: tuple[float, float], height: float, round_share: float) -> list[Assembly]:
    a = Assembly(TABLE, rng)
    depth, width = top
    thick = rng.uniform(0.018, 0.06)
    if rng.random() < round_share and width < 1.6:
        radius = (depth + width) / 4
        a.cylinder("top", radius, thick, (0, 0, height - thick), sides=24)
        depth = width = 1.35 * radius
        a.surface(height, depth, width)
    else:
        a.box("top", (depth, width, thick), (0, 0, height - thick))
        a.surface(height, depth, width)
    _support(a, rng, depth, width, height - thick)
    if height > 0.6 and rng.random() < 0.3:
        a.box(
            "apron",
            (depth * 0.86, width * 0.9, rng.uniform(0.06, 0.1)),
            (0, 0, height - thick - 0.09),
            a.second,
        )
    if height < 0.6 and rng.random() < 0.35:
        a.box("shelf", (depth * 0.85, width * 0.85, 0.02), (0, 0, height * 0.3), a.second)
    return [a]


def _support(a: Assembly, rng: Generator, depth: float, width: float, height: float) -> None:
    style = rng.choice(["legs", "splayed", "column", "panels", "trestle"], p=[0.45, 0.15, 0.15, 0.15, 0.1])
    if style in ("legs", "splayed"):
        legs(
            a, depth, width, height, inset=rng.uniform(0.02, 0.12), splay=0.08 if style == "splayed" else 0.0
        )
    elif style == "column":
        for y in (0.0,) if width < 1.5 else (-width / 4, width / 4):
            a.rod("leg", (0, y, 0), (0, y, height), rng.uniform(0.03, 0.09), a.second)
            if rng.random() < 0.5:
                a.cylinder("foot", min(depth, width) * 0.35, 0.03, (0, y, 0), a.second)
            else:
                for yaw in np.arange(4) * np.pi / 2 + np.pi / 4:
                    end = (0.3 * depth * np.cos(yaw), y + 0.3 * depth * np.sin(yaw), 0.03)
                    a.rod("foot", (0, y, 0.06), end, 0.025, a.second)
    elif style == "panels":
        for side in (-1, 1):
            a.box(
                "leg",
                (depth * 0.9, 0.03, height),
                (0, side * (width / 2 - rng.uniform(0.02, 0.1)), 0),
                a.second,
            )
    else:
        for side in (-1, 1):
            y = side * (width / 2 - 0.2)
            a.box("leg", (0.06, 0.08, height), (0, y, 0), a.second)
            a.box("foot", (depth * 0.8, 0.08, 0.05), (0, y, 0), a.second)
        a.box("beam", (0.03, width - 0.4, 0.08), (0, 0, 0.1), a.second)


def desk(rng: Generator) -> list[Assembly]:
    """Build a desk against a wall (back at -x): panels or legs, drawers, modesty board, screen wall."""
    a = Assembly(DESK, rng)
    depth, width, height = rng.uniform(0.55, 0.85), rng.uniform(0.9, 1.9), rng.uniform(0.70, 0.78)
    thick = rng.uniform(0.02, 0.04)
    a.box("top", (depth, width, thick), (0, 0, height - thick))
    a.surface(height, depth, width, desk=True)
    if rng.random() < 0.5:
        for side in (-1, 1):
            a.box("leg", (depth * 0.95, 0.03, height - thick), (0, side * (width / 2 - 0.03), 0), a.second)
    else:
        legs(a, depth, width, height - thick, inset=0.03)
    if rng.random() < 0.5:
        a.box(
            "board",
            (0.02, width * 0.92, rng.uniform(0.25, 0.6)),
            (-depth / 2 + 0.08, 0, height - 0.65),
            a.second,
        )
    if rng.random() < 0.55:
        side, drawer = rng.choice([-1, 1]), rng.uniform(0.36, 0.46)
        y = side * (width / 2 - drawer / 2 - 0.05)
        a.box("drawers", (depth * 0.85, drawer, height - 0.1), (0, y, 0.05), a.third)
        for z in (0.1, 0.3, 0.5):
            a.box("drawer", (0.015, drawer * 0.95, 0.16), (depth * 0.425 + 0.006, y, z), a.second)
    if rng.random() < 0.15:
        a.box("screen", (0.04, width, rng.uniform(0.3, 0.6)), (-depth / 2, 0, height - 0.1), a.third)
    if rng.random() < 0.2:  # hutch
        a.box("shelf", (0.25, width, 0.02), (-depth / 2 + 0.13, 0, height + 0.4), a.second)
        for side in (-1, 1):
            a.box("leg", (0.25, 0.02, 0.4), (-depth / 2 + 0.13, side * width / 2 * 0.98, height), a.second)
    if rng.random() < 0.2:  # an L-shaped return
        side = rng.choice([-1, 1])
        a.box("top", (0.6, 0.5, thick), (depth / 2 + 0.3, side * (width / 2 - 0.25), height - thick))
        a.rod(
            "leg",
            (depth / 2 + 0.55, side * (width / 2 - 0.25), 0),
            (depth / 2 + 0.55, side * (width / 2 - 0.25), height),
            0.025,
            a.second,
        )
    return [a]
