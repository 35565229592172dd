# SPDX-License-Identifier: Apache-2.0
"""Buildings with recessed windows, doors, balconies, steps and roofs.

A building's frame: origin in the middle of the front wall on the ground, x towards the street, y along
it. Walls are piers and bands before a glass core, so that windows lie deeper and beams get inside.
"""

from __future__ import annotations

import numpy as np

from pc_perception.simulation.shapes import Mesh, box, boxes, cylinder, frustum, join, loft, placed
from pc_perception.simulation.template import Piece, Template


def building(rng: np.random.Generator, width: float, depth: float, height: float, style: str) -> Template:
    """Make a building of ``style`` ``house``, ``block``, ``shop``, ``hall`` or ``garage``; sizes in metres."""
    recess = rng.uniform(0.05, 0.35)
    foot = 1.5  # the building reaches below ground, since the ground is not level
    core = (depth - 2 * recess, width - 2 * recess, height + foot - 0.1)
    middle = (-depth / 2, 0, (height - foot) / 2 - 0.05)
    n_floors = max(round(height / rng.uniform(2.7, 4.2)), 1)
    glazed = style != "garage" and not (style == "hall" and rng.random() < 0.6)
    pieces = []
    if glazed:
        inside = rng.uniform(0.3, 2.5)
        inner = tuple(max(c - 2 * inside, 0.3) for c in core[:2])
        pieces.append(Piece("window", "pane", box(core, middle)))
        pieces.append(Piece("interior", "interior", box((*inner, core[2] - 0.2), middle)))
        pieces.append(Piece("wall", "wall", _walls(rng, width, depth, height, foot, recess, n_floors, style)))
    else:
        pieces.append(Piece("wall", "wall", _blank(rng, width, depth, height, foot)))
    pieces.append(Piece("roof", "roof", _roof(rng, width, depth, height, style)))
    pieces += _front(rng, width, height, n_floors, recess, style)
    return Template(pieces)


def _walls(rng, width, depth, height, foot, recess, n_floors, style) -> Mesh:  # type: ignore[no-untyped-def]
    """Piers and bands on all four sides."""
    pitch = rng.uniform(1.6, 4.5) if style != "shop" else rng.uniform(2.5, 6)
    share = rng.uniform(0.3, 0.75) if style != "shop" else rng.uniform(0.1, 0.35)
    tall = height + foot
    z_mid = (height - foot) / 2
    floor = height / n_floors
    band = floor * rng.uniform(0.3, 0.6)
    sizes, centers = [], []
    for length, across, along_y in (
        (width, 0.0, True),
        (width, -depth, True),
        (depth, 0, False),
        (depth, 1, False),
    ):
        n = max(int(length / pitch), 1)
        at = np.linspace(-length / 2, length / 2, n + 1)
        thick = length / n * share
        edge = recess * 1.5
        for i, a in enumerate(at):
            t = thick if 0 < i < n else max(thick, 2 * recess + 0.1)
            c = np.clip(a, -length / 2 + t / 2, length / 2 - t / 2)
            if along_y:
                sizes.append((edge, t, tall))
                centers.append((across + (-edge / 2 if across == 0 else edge / 2), c, z_mid))
            else:
                sizes.append((t, edge, tall))
                centers.append((-depth / 2 + c, (1 if across else -1) * (width - edge) / 2, z_mid))
    for k in range(n_floors + 1):
        tall_k = band if 0 < k < n_floors else band * 0.9
        low = -foot if k == 0 else k * floor - tall_k * rng.uniform(0.35, 0.65)
        high = tall_k * (0.3 if style == "shop" else 0.9) if k == 0 else min(low + tall_k, height)
        z, dz = (low + high) / 2, high - low
        edge = recess * rng.uniform(1.2, 1.49)
        sizes += [(edge, width - 0.02, dz)] * 2 + [(depth - 0.02, edge, dz)] * 2
        centers += [(-edge / 2 - 0.005, 0, z), (-depth + edge / 2 + 0.005, 0, z)]
        centers += [(-depth / 2, s * (width / 2 - edge / 2 - 0.005), z) for s in (-1, 1)]
    return boxes(sizes, centers)


def _blank(rng, width, depth, height, foot) -> Mesh:  # type: ignore[no-untyped-def]
    """A closed body with a few ribs or pilasters."""
    body = box((depth - 0.1, width - 0.1, height + foot), (-depth / 2, 0, (height - foot) / 2))
    n = int(rng.integers(2, 12))
    rib = (rng.uniform(0.02, 0.15), rng.uniform(0.05, 0.6), height + foot)
    ribs = boxes(
        [rib] * n,
        [(-0.05, y, (height - foot) / 2) for y in np.linspace(-width / 2 + 0.4, width / 2 - 0.4, n)],
    )
    return join([body, ribs])


def _roof(rng, width, depth, height, style) -> Mesh:  # type: ignore[no-untyped-def]
    over = rng.uniform(0.05, 0.6)
    if style in ("house", "garage") and rng.random() < 0.8:
        low = (-depth - over, over, -width / 2 - over, width / 2 + over)
        rise = rng.uniform(1.0, 3.5) if style == "house" else rng.uniform(0.3, 1.2)
        inset = rng.uniform(0, 0.35) * width
        if rng.random() < 0.5:
            ridge = (
                -depth / 2 - 0.05,
                -depth / 2 + 0.05,
                -width / 2 - over + inset,
                width / 2 + over - inset,
            )
        else:
            ridge = (-depth + inset * 0.5, -inset * 0.5, -0.05, 0.05)
        return frustum(low, ridge, height - 0.05, height + rise)
    slab = box((depth + over * 0.4, width + over * 0.4, 0.35), (-depth / 2, 0, height + 0.1))
    units = [box((2, 2, 1.5), (-depth * rng.uniform(0.2, 0.8), rng.uniform(-0.3, 0.3) * width, height + 0.9))]
    return join([slab, *units])


def _front(rng, width, height, n_floors, recess, style) -> list[Piece]:  # type: ignore[no-untyped-def]
    """What stands before the front wall: door, steps, awning, balconies, bays, pipes and clutter."""
    out = []
    y_door = rng.uniform(-0.35, 0.35) * width
    wide = rng.uniform(2.2, 4.5) if style in ("garage", "hall") else rng.uniform(0.9, 1.8)
    tall = min(rng.uniform(2.0, 2.8), height - 0.2)
    door = box((0.08, wide, tall), (-recess * rng.uniform(0.0, 1.3), y_door, tall / 2))
    out.append(Piece("door", "wood", door))
    clutter: list[Mesh] = []
    if style in ("house", "block") and rng.random() < 0.6:
        n = int(rng.integers(1, 6))
        rise = 0.17
        steps = boxes(
            [(0.3 * (n - i), wide + 0.4, rise + 0.4) for i in range(n)],
            [(0.15 * (n - i), y_door, rise * (i + 0.5) - 0.2) for i in range(n)],
        )
        out.append(Piece("steps", "concrete", steps))
    if style in ("block", "house") and n_floors > 1 and rng.random() < 0.5:
        floor = height / n_floors
        at = np.linspace(-0.4, 0.4, max(int(width / 5), 1)) * width
        deep = rng.uniform(0.6, 1.5)
        spots = [(y, k * floor) for y in at for k in range(1, min(n_floors, 5))]
        slabs = boxes([(deep, 2.2, 0.15)] * len(spots), [(deep / 2, y, z) for y, z in spots])
        rails = boxes(
            [(0.04, 2.2, 0.08)] * 2 * len(spots), [(deep, y, z + dz) for y, z in spots for dz in (0.5, 1.0)]
        )
        out.append(Piece("balcony", "concrete", join([slabs, rails])))
    if rng.random() < 0.35:
        deep, z = rng.uniform(0.6, 2.0), rng.uniform(2.4, 3.2)
        clutter.append(
            frustum(
                (-0.05, deep, -width * 0.4, width * 0.4), (-0.05, 0.1, -width * 0.4, width * 0.4), z, z + 0.5
            )
        )
        if rng.random() < 0.4:
            clutter.append(
                boxes([(0.1, 0.1, z)] * 2, [(deep - 0.1, s * width * 0.38, z / 2) for s in (-1, 1)])
            )
    if style in ("block", "house") and rng.random() < 0.35:
        deep, bay = rng.uniform(0.4, 0.9), rng.uniform(1.5, 2.8)
        for y in np.arange(-width * 0.35, width * 0.36, bay * 2.2):
            clutter.append(_bay(y, bay, deep, 0.0 if rng.random() < 0.4 else 2.6, height - 0.3))
    n = int(rng.integers(0, 9))
    if n:
        sizes = rng.uniform((0.05, 0.1, 0.1), (0.45, 1.1, 0.9), (n, 3))
        places = np.column_stack(
            [sizes[:, 0] / 2 - 0.02, rng.uniform(-0.47, 0.47, n) * width, rng.uniform(0.2, min(height, 6), n)]
        )
        clutter.append(boxes(sizes, places))
    for _ in range(int(rng.integers(0, 3))):
        clutter.append(placed(cylinder(0.06, height, 6), (0.06, rng.uniform(-0.48, 0.48) * width, 0)))
    if clutter:
        out.append(Piece("wall", "clutter", join(clutter)))
    return out


def _bay(y: float, width: float, deep: float, low: float, high: float) -> Mesh:
    """A bay window: a trapezoid that stands out of the wall."""
    ring = [
        (-0.05, y - width / 2),
        (deep, y - width * 0.28),
        (deep, y + width * 0.28),
        (-0.05, y + width / 2),
    ]
    return loft([[(*p, low) for p in ring], [(*p, max(high, low + 1)) for p in ring]])
