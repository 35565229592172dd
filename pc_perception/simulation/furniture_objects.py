# SPDX-License-Identifier: Apache-2.0
"""Small things on tables, floors and walls, plants and lamps. Origins are where the thing stands."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from pc_perception.simulation.furniture_assembly import LAMP, PLANT, SMALL, Assembly


def carton(rng: Generator, largest: float = 0.3) -> list[Assembly]:
    """Build a closed or open box, e.g. a cereal packet or a moving box."""
    a = Assembly(SMALL, rng)
    size = np.sort(rng.uniform(0.2, 1.0, 3)) * largest
    size = size[rng.permutation(3)]
    a.box("box", size, (0, 0, 0))
    if largest > 0.4 and rng.random() < 0.4:
        for side in (-1, 1):
            a.box(
                "flap",
                (size[0], size[1] / 2, 0.008),
                (0, side * size[1] * 0.7, size[2] - 0.02),
                a.second,
                roll=side * rng.uniform(0.2, 1.2),
            )
    return [a]


def stack(rng: Generator) -> list[Assembly]:
    """Build a pile of books, papers or boxes."""
    a = Assembly(SMALL, rng)
    z = 0.0
    for _ in range(int(rng.integers(1, 7))):
        t = rng.uniform(0.006, 0.05)
        a.box(
            "sheet",
            (rng.uniform(0.14, 0.24), rng.uniform(0.19, 0.32), t),
            (0, 0, z),
            a.fresh(),
            yaw=rng.normal(0, 0.15),
        )
        z += t
    return [a]


def bottle(rng: Generator) -> list[Assembly]:
    """Build a bottle, can, cup or vase."""
    a = Assembly(SMALL, rng)
    r, h = rng.uniform(0.03, 0.055), rng.uniform(0.08, 0.26)
    a.cylinder("body", r, h, (0, 0, 0), sides=12)
    if h > 0.16:
        a.cylinder("neck", r * 0.4, 0.08, (0, 0, h), a.second, sides=8)
    elif rng.random() < 0.5:
        a.box("handle", (0.015, 0.045, 0.05), (0, r + 0.01, h * 0.3), a.second)
    return [a]


def bowl(rng: Generator) -> list[Assembly]:
    """Build a bowl, ball, fruit or lump of cloth."""
    a = Assembly(SMALL, rng)
    r = rng.uniform(0.04, 0.16)
    h = r * rng.uniform(0.4, 1.0)
    a.ball("body", (r, r * rng.uniform(0.7, 1.1), h), (0, 0, h * 0.9))
    return [a]


def monitor(rng: Generator) -> list[Assembly]:
    """Build a computer screen facing +x, often with keyboard, mouse and a second screen."""
    a = Assembly(SMALL, rng)
    width = rng.uniform(0.4, 0.7)
    height, gap = width * rng.uniform(0.55, 0.75), rng.uniform(0.05, 0.15)
    n = 2 if rng.random() < 0.3 else 1
    for k in range(n):
        y = (k - (n - 1) / 2) * (width + 0.02)
        a.box(
            "screen", (0.03, width, height), (0, y, gap), a.second, pitch=-rng.uniform(0, 0.15), rounded=True
        )
        a.rod("stand", (-0.02, y, 0.01), (-0.02, y, gap + height / 2), 0.022)
        a.cylinder("foot", 0.11, 0.015, (-0.02, y, 0), sides=12)
    if rng.random() < 0.75:
        a.box("keyboard", (0.15, 0.42, 0.02), (rng.uniform(0.2, 0.32), 0, 0), a.third)
        a.ball("mouse", (0.05, 0.03, 0.018), (0.25, rng.choice([-1, 1]) * 0.3, 0.015), a.third)
    return [a]


def laptop(rng: Generator) -> list[Assembly]:
    """Build an open laptop."""
    a = Assembly(SMALL, rng)
    width, depth = rng.uniform(0.3, 0.4), rng.uniform(0.21, 0.27)
    a.box("keyboard", (depth, width, 0.018), (0, 0, 0))
    a.box("screen", (0.01, width, depth), (-depth / 2, 0, 0.01), a.second, pitch=-rng.uniform(0.0, 0.5))
    return [a]


def bag(rng: Generator) -> list[Assembly]:
    """Build a backpack, bag or bundle of clothes."""
    a = Assembly(SMALL, rng)
    size = rng.uniform((0.1, 0.14, 0.12), (0.2, 0.26, 0.26))
    a.ball("body", size, (0, 0, size[2] * 0.95), power=0.6)
    if rng.random() < 0.5:
        a.ball("pocket", size * 0.6, (size[0] * 0.8, 0, size[2] * 0.6), a.second, power=0.6)
    return [a]


def bin_(rng: Generator) -> list[Assembly]:
    """Build a waste bin, bucket or basket, hollow or closed."""
    a = Assembly(SMALL, rng)
    r, h = rng.uniform(0.11, 0.2), rng.uniform(0.25, 0.6)
    if rng.random() < 0.5:
        a.cylinder("body", r, h, (0, 0, 0), sides=14)
    else:
        for side in (-1, 1):
            a.box("side", (0.015, 2 * r, h), (side * r, 0, 0))
            a.box("side", (2 * r, 0.015, h), (0, side * r, 0))
        a.box("bottom", (2 * r, 2 * r, 0.02), (0, 0, 0))
    return [a]


def shoes(rng: Generator) -> list[Assembly]:
    """Build a pair of shoes."""
    a = Assembly(SMALL, rng)
    for side in (-1, 1):
        a.ball("shoe", (0.13, 0.05, 0.05), (rng.normal(0, 0.04), side * 0.08, 0.045), power=0.7)
    return [a]


def computer(rng: Generator) -> list[Assembly]:
    """Build a tower computer, printer, microwave or speaker."""
    a = Assembly(SMALL, rng)
    kind = rng.integers(3)
    size = [(0.45, 0.2, 0.43), (0.4, 0.45, 0.25), (0.25, 0.22, 0.4)][kind]
    size = np.array(size) * rng.uniform(0.75, 1.15, 3)
    a.box("body", size, (0, 0, 0))
    a.box("front", (0.01, size[1] * 0.8, size[2] * 0.5), (size[0] / 2, 0, size[2] * 0.3), a.second)
    return [a]


def plant(rng: Generator) -> list[Assembly]:
    """Build a potted plant: pot, stems and a crown of leaves or blobs."""
    a = Assembly(PLANT, rng)
    scale = rng.choice([rng.uniform(0.25, 0.45), rng.uniform(0.7, 1.6)])
    pot, pot_r = scale * rng.uniform(0.2, 0.32), scale * rng.uniform(0.12, 0.2)
    a.cylinder("pot", pot_r, pot, (0, 0, 0), sides=14)
    for _ in range(int(rng.integers(6, 16))):
        yaw, out = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.4) * scale
        tip = (out * np.cos(yaw), out * np.sin(yaw), pot + scale * rng.uniform(0.25, 0.75))
        a.rod("stem", (0, 0, pot * 0.8), tip, 0.006 + 0.006 * scale, a.second, sides=5)
        leaf = scale * rng.uniform(0.05, 0.14)
        a.ball(
            "leaf",
            (leaf * 1.4, leaf, leaf * rng.uniform(0.25, 0.8)),
            tip,
            a.third,
            pitch=rng.uniform(-0.8, 0.8),
            yaw=yaw,
            coarse=True,
        )
    return [a]


def table_lamp(rng: Generator) -> list[Assembly]:
    """Build a table or floor lamp with a shade."""
    a = Assembly(LAMP, rng)
    height = rng.uniform(0.3, 0.6)
    _lamp(a, rng, height, rng.uniform(0.08, 0.18))
    return [a]


def floor_lamp(rng: Generator) -> list[Assembly]:
    """Build a standing lamp."""
    a = Assembly(LAMP, rng)
    _lamp(a, rng, rng.uniform(1.3, 1.8), rng.uniform(0.14, 0.24))
    return [a]


def _lamp(a: Assembly, rng: Generator, height: float, radius: float) -> None:
    a.cylinder("foot", radius * 0.8, 0.025, (0, 0, 0), a.second, sides=14)
    a.rod("stem", (0, 0, 0), (0, 0, height * 0.9), 0.012 + 0.01 * rng.random(), a.second)
    if rng.random() < 0.25:
        a.ball("shade", (radius,) * 3, (0, 0, height))
    else:
        a.cone(
            "shade", radius, radius * rng.uniform(0.5, 1.0), radius * 1.4, (0, 0, height * 0.9 - radius * 0.5)
        )


def pendant_lamp(rng: Generator) -> list[Assembly]:
    """Build a ceiling lamp, origin at the ceiling, hanging towards -z."""
    a = Assembly(LAMP, rng)
    style = rng.integers(3)
    if style == 0:
        drop, r = rng.uniform(0.3, 0.9), rng.uniform(0.12, 0.3)
        a.rod("cord", (0, 0, 0), (0, 0, -drop), 0.008, a.second, sides=5)
        a.cone("shade", r, r * 0.5, r * 0.9, (0, 0, -drop - r * 0.4))
    elif style == 1:
        a.box("panel", (rng.choice([0.25, 0.6]), rng.uniform(0.6, 1.3), 0.05), (0, 0, -0.06))
    else:
        a.cylinder("bowl", rng.uniform(0.12, 0.25), 0.1, (0, 0, -0.1))
    return [a]


ON_TABLE = (
    (carton, 3),
    (stack, 4),
    (bottle, 4),
    (bowl, 2),
    (laptop, 1),
    (monitor, 1),
    (bag, 0.6),
    (table_lamp, 0.7),
    (plant, 0.4),
    (computer, 0.3),
)
ON_DESK = (
    (monitor, 4),
    (laptop, 1),
    (stack, 4),
    (bottle, 3),
    (carton, 1.5),
    (bowl, 0.7),
    (table_lamp, 0.7),
    (computer, 0.5),
    (bag, 0.4),
)
ON_FLOOR = (
    (carton, 3),
    (bag, 3),
    (bin_, 4),
    (shoes, 1.5),
    (stack, 1.5),
    (computer, 1.5),
    (bottle, 0.5),
    (bowl, 1),
)
