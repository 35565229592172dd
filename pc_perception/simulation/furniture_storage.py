# SPDX-License-Identifier: Apache-2.0
"""Shelves, cabinets, wardrobes, kitchen runs, appliances, bathroom ware. Backs are at -x."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.random import Generator

from pc_perception.simulation.furniture_assembly import CABINET, SHELF, SMALL, Assembly, legs


def shelf(rng: Generator) -> list[Assembly]:
    """Build an open shelf or bookcase with books and boxes on its boards."""
    a = Assembly(SHELF, rng)
    depth, width, height = rng.uniform(0.24, 0.45), rng.uniform(0.5, 1.6), rng.uniform(0.7, 2.3)
    board = rng.uniform(0.015, 0.035)
    n = max(2, round(height / rng.uniform(0.28, 0.45)))
    if rng.random() < 0.75:
        for side in (-1, 1):
            a.box("side", (depth, board, height), (0, side * (width - board) / 2, 0))
    else:
        legs(a, depth, width, height, inset=0.0)
    if rng.random() < 0.65:
        a.box("back", (0.012, width, height), (-depth / 2 + 0.006, 0, 0), a.second)
    levels = np.linspace(rng.uniform(0.02, 0.12), height - board, n)
    for z in levels:
        a.box("board", (depth, width - board, board), (0, 0, z))
    if width > 0.9 and rng.random() < 0.6:
        a.box("divider", (depth, board, levels[-1] - levels[0]), (0, 0, levels[0]))
    filled = rng.uniform(0.2, 1.0)
    books = Assembly(SMALL, rng)
    for z, above in pairwise(levels):
        if rng.random() < filled:
            _fill_board(books, rng, (depth, width - 2 * board), z + board, above - z - board)
    a.surface(height, depth, width)
    return [a, books] if books.parts else [a]


def _fill_board(a: Assembly, rng: Generator, area: tuple[float, float], z: float, clear: float) -> None:
    """Stand books and boxes on a board in blocks; a block of equal books is one box with steps."""
    depth, width = area
    y = -width / 2 + rng.uniform(0, 0.1)
    while y < width / 2 - 0.06:
        block = min(rng.uniform(0.04, 0.35), width / 2 - y)
        height = clear * rng.uniform(0.35, 0.95)
        reach = depth * rng.uniform(0.5, 0.9)
        a.box(
            "book",
            (reach, block, height),
            ((reach - depth) / 2 + 0.02 + rng.uniform(0, 0.05), y + block / 2, z),
            a.fresh(),
        )
        y += block + (rng.uniform(0.05, 0.4) if rng.random() < 0.4 else 0.004)


def cabinet(rng: Generator) -> list[Assembly]:
    """Build a closed cabinet, chest of drawers, sideboard or wardrobe with fronts and handles."""
    depth, width = rng.uniform(0.32, 0.65), rng.uniform(0.4, 1.6)
    height = rng.choice([rng.uniform(0.5, 0.9), rng.uniform(0.9, 1.4), rng.uniform(1.6, 2.3)])
    a = Assembly(CABINET, rng)
    foot = rng.choice([0.0, 0.06, 0.14])
    if foot:
        legs(a, depth, width, foot + 0.02, inset=0.02)
    a.box("body", (depth, width, height - foot), (0, 0, foot))
    fronts(a, rng, depth, width, foot, height)
    if height < 1.5:
        a.box("top", (depth + 0.02, width + 0.02, 0.02), (0, 0, height), a.second)
        a.surface(height + 0.02, depth, width)
    return [a]


def nightstand(rng: Generator) -> list[Assembly]:
    """Build a bedside cabinet."""
    depth, width, height = rng.uniform(0.35, 0.5), rng.uniform(0.38, 0.6), rng.uniform(0.42, 0.68)
    a = Assembly(CABINET, rng)
    foot = rng.choice([0.0, 0.1])
    if foot:
        legs(a, depth, width, foot + 0.02, inset=0.02)
    a.box("body", (depth, width, height - foot), (0, 0, foot))
    fronts(a, rng, depth, width, foot, height)
    a.surface(height, depth, width)
    return [a]


def fronts(a: Assembly, rng: Generator, depth: float, width: float, z0: float, z1: float) -> None:
    """Put doors or drawers with handles on the +x face between two heights."""
    columns = max(1, round(width / rng.uniform(0.4, 0.7)))
    rows = int(rng.integers(1, 3)) if z1 - z0 > 1.3 else int(rng.integers(1, 5))
    w, h = width / columns, (z1 - z0) / rows
    proud, gap = rng.uniform(0.008, 0.025), rng.uniform(0.008, 0.03)
    for c in range(columns):
        for r in range(rows):
            y, z = -width / 2 + (c + 0.5) * w, z0 + r * h
            a.box("front", (proud, w - gap, h - gap), (depth / 2 + proud / 2, y, z + gap / 2), a.second)
            handle = (0.03, 0.1, 0.015) if h < w else (0.03, 0.015, 0.12)
            off = 0.0 if h < w else (w / 2 - 0.06) * (-1) ** c
            a.box("handle", handle, (depth / 2 + proud + 0.015, y + off, z + h * 0.6), a.third)


def kitchen_run(rng: Generator) -> list[Assembly]:
    """Build base cabinets under a counter, often with a sink, wall cabinets, hob and oven."""
    a = Assembly(CABINET, rng)
    width, depth, height = rng.uniform(1.2, 3.6), rng.uniform(0.55, 0.65), rng.uniform(0.85, 0.95)
    a.box("body", (depth - 0.04, width, height - 0.12), (-0.02, 0, 0.08))
    a.box("plinth", (depth - 0.1, width, 0.08), (-0.05, 0, 0.0), a.third)
    fronts(a, rng, depth - 0.08, width, 0.1, height - 0.05)
    a.box("counter", (depth, width + 0.02, 0.04), (0, 0, height - 0.04), a.third)
    a.surface(height, depth, width)
    if rng.random() < 0.6:
        y = rng.uniform(-0.4, 0.4) * (width - 0.5)
        a.box("sink", (0.4, 0.5, 0.012), (0.02, y, height), a.fresh())
        a.rod("tap", (-0.2, y, height), (-0.2, y, height + 0.25), 0.014, a.fresh())
        a.rod("tap", (-0.2, y, height + 0.25), (-0.02, y, height + 0.22), 0.012, a.second)
    if rng.random() < 0.65:
        low, tall, deep = height + rng.uniform(0.45, 0.6), rng.uniform(0.5, 0.85), rng.uniform(0.3, 0.38)
        upper = Assembly(CABINET, rng)
        reach = width * rng.uniform(0.5, 1.0)
        upper.box("body", (deep, reach, tall), (0, 0, low))
        fronts(upper, rng, deep, reach, low, low + tall)
        upper.shift((-depth / 2 + deep / 2, (width - reach) / 2 * rng.choice([-1, 1]), 0))
        return [a, upper]
    return [a]


def wall_cabinet(rng: Generator) -> list[Assembly]:
    """Build cabinets or open boards hung on the wall."""
    low = rng.uniform(1.2, 1.6)
    depth, width, height = rng.uniform(0.2, 0.36), rng.uniform(0.5, 2.0), rng.uniform(0.35, 0.8)
    if rng.random() < 0.5:
        a = Assembly(CABINET, rng)
        a.box("body", (depth, width, height), (0, 0, low))
        fronts(a, rng, depth, width, low, low + height)
        return [a]
    a, books = Assembly(SHELF, rng), Assembly(SMALL, rng)
    for z in np.arange(low, low + height, 0.32):
        a.box("board", (depth, width, 0.025), (0, 0, z))
        if rng.random() < 0.7:
            _fill_board(books, rng, (depth, width), z + 0.025, 0.28)
    return [a, books] if books.parts else [a]


def fridge(rng: Generator) -> list[Assembly]:
    """Build a refrigerator, oven, washing machine or copier: an upright box with seams and handles."""
    a = Assembly(CABINET, rng)
    depth, width, height = (
        rng.uniform(0.55, 0.75),
        rng.uniform(0.5, 0.9),
        rng.choice([0.85, 1.1, 1.6, 1.85]) * rng.uniform(0.95, 1.05),
    )
    a.box("body", (depth, width, height), (0, 0, 0.02))
    split = height * rng.uniform(0.3, 0.7)
    for z0, z1 in ((0.05, split), (split + 0.015, height)):
        a.box(
            "door",
            (0.05, width - 0.01, z1 - z0),
            (depth / 2 + 0.025, 0, z0),
            a.second if rng.random() < 0.3 else a.main,
        )
        a.rod(
            "handle",
            (depth / 2 + 0.09, width * 0.4, z0 + 0.1),
            (depth / 2 + 0.09, width * 0.4, z1 - 0.05),
            0.012,
            a.third,
        )
    a.surface(height + 0.02, depth, width)
    return [a]


def metal_rack(rng: Generator) -> list[Assembly]:
    """Build an industrial rack with boxes."""
    a, boxes = Assembly(SHELF, rng), Assembly(SMALL, rng)
    depth, width, height = rng.uniform(0.4, 0.7), rng.uniform(0.9, 2.0), rng.uniform(1.5, 2.2)
    legs(a, depth, width, height, inset=0.0, thickness=0.02)
    levels = np.linspace(0.1, height - 0.05, int(rng.integers(3, 6)))
    for z in levels:
        a.box("board", (depth, width, 0.03), (0, 0, z), a.second)
    for z, above in pairwise(levels):
        if rng.random() < 0.8:
            _fill_board(boxes, rng, (depth, width * 0.95), z + 0.03, above - z - 0.03)
    return [a, boxes] if boxes.parts else [a]


def bathroom(rng: Generator) -> list[Assembly]:
    """Build a toilet, a bathtub or a washbasin with a cabinet."""
    a = Assembly(CABINET, rng)
    kind = rng.integers(3)
    if kind == 0:
        a.ball("bowl", (0.28, 0.19, 0.2), (0.1, 0, 0.22), power=0.7)
        a.box("base", (0.4, 0.2, 0.2), (0, 0, 0))
        a.box("tank", (0.2, 0.42, 0.4), (-0.25, 0, 0.38), rounded=True)
        a.cylinder("lid", 0.2, 0.03, (0.1, 0, 0.41), a.second)
    elif kind == 1:
        length, w, h = rng.uniform(1.4, 1.8), rng.uniform(0.65, 0.8), rng.uniform(0.45, 0.6)
        for side in (-1, 1):
            a.box("side", (0.08, length, h), (side * (w / 2 - 0.04), 0, 0))
            a.box("side", (w, 0.08, h), (0, side * (length / 2 - 0.04), 0))
        a.box("floor", (w, length, 0.12), (0, 0, 0))
    else:
        a.box("body", (0.45, 0.6, 0.7), (0, 0, 0.1), a.second)
        a.box("basin", (0.5, 0.65, 0.08), (0, 0, 0.8), rounded=True)
        a.rod("tap", (-0.18, 0, 0.88), (-0.05, 0, 1.0), 0.015, a.third)
    return [a]


def radiator(rng: Generator) -> list[Assembly]:
    """Build a ribbed or flat radiator."""
    a = Assembly(CABINET, rng)
    width, height, depth = rng.uniform(0.6, 1.8), rng.uniform(0.4, 0.75), rng.uniform(0.06, 0.16)
    z = rng.uniform(0.08, 0.16)
    if rng.random() < 0.5:
        a.box("panel", (depth, width, height), (0, 0, z))
    else:
        for y in np.arange(-width / 2, width / 2, 0.07):
            a.box("rib", (depth, 0.05, height), (0, y, z))
    return [a]
