# SPDX-License-Identifier: Apache-2.0
"""Cars, vans and pickups with sloped glass, wheels, mirrors and seats; x forward, wheels on z = 0."""

from __future__ import annotations

from functools import cache

import numpy as np

from pc_perception.simulation.shapes import Mesh, box, boxes, join, loft, moved, placed, torus, tube
from pc_perception.simulation.template import Piece, Template

N_CARS = 96

# length, width, height, hood height, hood length, boot length (share of length), windscreen run, rear run
_KINDS = {
    "sedan": ((4.3, 5.1), (1.72, 1.92), (1.38, 1.52), (0.82, 0.95), (0.22, 0.28), (0.1, 0.18), (0.6, 0.95), (0.4, 0.8)),
    "hatch": ((3.5, 4.4), (1.62, 1.82), (1.42, 1.6), (0.85, 1.0), (0.18, 0.24), (0.0, 0.04), (0.55, 0.9), (0.2, 0.5)),
    "suv": ((4.3, 5.2), (1.78, 2.05), (1.6, 1.95), (1.0, 1.2), (0.2, 0.26), (0.0, 0.03), (0.45, 0.8), (0.15, 0.4)),
    "wagon": ((4.4, 5.0), (1.75, 1.9), (1.42, 1.6), (0.85, 1.0), (0.22, 0.27), (0.0, 0.03), (0.55, 0.9), (0.2, 0.5)),
    "minivan": ((4.5, 5.3), (1.8, 2.02), (1.68, 1.98), (0.95, 1.15), (0.14, 0.2), (0.0, 0.02), (0.7, 1.1), (0.1, 0.3)),
    "van": ((4.8, 6.3), (1.9, 2.15), (1.95, 2.75), (1.0, 1.3), (0.08, 0.16), (0.0, 0.01), (0.5, 0.9), (0.02, 0.12)),
    "pickup": ((5.0, 6.0), (1.85, 2.1), (1.7, 2.0), (1.05, 1.25), (0.2, 0.25), (0.28, 0.36), (0.5, 0.8), (0.05, 0.25)),
}  # fmt: skip
_ORDER = (
    "sedan",
    "suv",
    "hatch",
    "suv",
    "wagon",
    "sedan",
    "minivan",
    "van",
    "pickup",
    "sedan",
    "hatch",
    "suv",
)


@cache
def car(number: int) -> Template:
    """Make car ``number`` of ``N_CARS`` (sedan, SUV, hatchback, wagon, minivan, van or pickup)."""
    rng = np.random.default_rng([11, number])
    kind = _ORDER[number % len(_ORDER)]
    length, width, height, belt, hood, boot, screen, rear = (rng.uniform(*r) for r in _KINDS[kind])
    x_hood, x_boot = length * (0.5 - hood), length * (boot - 0.5)
    sill = rng.uniform(0.16, 0.3)
    wheel = rng.uniform(0.29, 0.36) + 0.04 * (kind in ("suv", "pickup", "van"))
    axles = (length * rng.uniform(0.29, 0.34), -length * rng.uniform(0.26, 0.32))
    nose = rng.uniform(0.05, 0.25)
    body = _lower_body(length, width, belt, sill, axles, wheel, nose, boot > 0.06, rng.uniform(0.08, 0.26))
    roof = (x_boot + rear, x_hood - screen)
    taper = rng.uniform(0.08, 0.2)
    glass, shell = _cabin(x_boot, x_hood, roof, width - 0.1, width - 0.1 - 2 * taper, belt, height, rng)
    n_windows_closed = kind == "van" and rng.random() < 0.7
    pieces = [
        Piece("body", "paint", join([body, shell])),
        Piece("glass", "glass", glass),
        Piece("wheel", "rubber", _wheels(axles, width, wheel)),
        Piece("wheel", "metal", _rims(axles, width, wheel)),
        Piece("interior", "interior", _seats(x_boot, x_hood, width, sill, belt, height)),
        Piece("mirror", "paint", _mirrors(x_hood - 0.35 * screen, width, belt, rng)),
        Piece(
            "plate", "sign", boxes([(0.02, 0.5, 0.12)] * 2, [(length / 2, 0, 0.5), (-length / 2, 0, 0.65)])
        ),
        Piece("light", "sign:lights", _lights(length, width, belt)),
    ]
    if n_windows_closed:
        x0, x1 = x_boot + 0.1, x_hood - screen - 0.7
        side = boxes(
            [(x1 - x0, width - 0.12, height - belt - 0.1)], [((x0 + x1) / 2, 0, (height + belt) / 2)]
        )
        pieces.append(Piece("body", "paint", side))
    if kind == "pickup":
        pieces.append(Piece("cargo", "paint", _bed(length, width, belt, x_boot, rng)))
    if rng.random() < 0.2:
        pieces.append(Piece("rail", "metal", _roof_rack(roof, width - 2 * taper, height)))
    return Template(pieces)


def _lower_body(length, width, belt, sill, axles, wheel, nose, has_boot, round_off) -> Mesh:  # type: ignore[no-untyped-def]
    """Loft from bumper to bumper with a sloping hood, rounded shoulders and wheel arches."""
    half = length / 2
    stations = [-half, -half + 0.08, -half + 0.35]
    for axle in sorted(axles):
        stations += [axle - wheel - 0.06, axle - wheel * 0.75, axle + wheel * 0.75, axle + wheel + 0.06]
    stations += [half - 0.3, half - 0.08, half]
    x = np.sort(np.array(stations))
    low = np.full(len(x), sill)
    for axle in axles:
        low[np.abs(x - axle) < wheel * 0.8] = 2 * wheel + 0.02
    low[[0, -1]] = sill + 0.18
    hood = np.clip((x - (half - 1.3)) / 1.3, 0, 1)
    tail = np.clip((-half + 0.5 - x) / 0.5, 0, 1)
    high = belt - nose * hood**1.5 - (0.12 if has_boot else 0.05) * tail
    high[[0, -1]] -= [0.12, 0.18]
    low = np.minimum(low, high - 0.06)
    narrow = width / 2 * (1 - round_off * np.clip((np.abs(x) - half + 0.8) / 0.8, 0, 1) ** 2)
    y = np.array([-0.93, -1.0, -1.0, -0.94, 0.94, 1.0, 1.0, 0.93])
    frac = np.array([0.0, 0.12, 0.82, 1.0, 1.0, 0.82, 0.12, 0.0])
    rings = np.empty((len(x), 8, 3), np.float32)
    rings[:, :, 0] = x[:, None]
    rings[:, :, 1] = narrow[:, None] * -y
    rings[:, :, 2] = low[:, None] + (high - low)[:, None] * frac
    return loft(rings)


def _cabin(x0, x1, roof, width_low, width_high, belt, height, rng) -> tuple[Mesh, Mesh]:  # type: ignore[no-untyped-def]
    """Glass house with bent panes, and the domed roof with its pillars."""
    share = np.array([0.0, 0.3, 0.65, 1.0])
    z = belt - 0.03 + (height - belt - 0.04) * share
    back = x0 + (roof[0] - x0) * share ** rng.uniform(0.7, 1.2)
    front = x1 + (roof[1] - x1) * share ** rng.uniform(0.7, 1.05)
    width = width_low + (width_high - width_low) * share ** rng.uniform(1.0, 1.8)
    cut = rng.uniform(0.08, 0.25)
    rings = np.stack([_round_ring(*row, cut) for row in zip(back, front, width, z, strict=True)])
    dome = rng.uniform(0.02, 0.07)
    run = roof[1] - roof[0]
    top = [(0.0, 1.015, -dome - 0.03), (0.06, 0.97, -0.6 * dome), (0.22, 0.8, -0.15 * dome), (0.4, 0.4, 0.0)]
    roof_rings = [
        _round_ring(roof[0] + a * run, roof[1] - a * run, f * width_high, height + dz, cut)
        for a, f, dz in top
    ]
    thick = rng.uniform(0.03, 0.05)
    pillars = [tube(rings[:, k], thick, 4) for k in (1, 4, 7, 10)]
    for at in (0.45,) if x1 - x0 < 2.6 else (0.35, 0.68):
        for side in (-1, 1):
            path = np.stack([back + at * (front - back), side * width / 2, z], 1)
            pillars.append(tube(path, thick * 1.4, 4))
    return loft(rings), join([loft(roof_rings), *pillars])


def _round_ring(x0: float, x1: float, width: float, z: float, cut: float) -> np.ndarray:
    """(12, 3) rectangle at height z with its corners cut twice, counter-clockwise from above."""
    a, b = min(cut, 0.3 * (x1 - x0)), min(cut, 0.3 * width)
    corner = np.array([(0.0, 1.0), (0.3, 0.3), (1.0, 0.0)])  # shares of the cuts along x and y
    w = width / 2
    lower_right = np.stack([x1 - a * corner[::-1, 0], -w + b * corner[::-1, 1]], 1)
    upper_right = np.stack([x1 - a * corner[:, 0], w - b * corner[:, 1]], 1)
    upper_left = np.stack([x0 + a * corner[::-1, 0], w - b * corner[::-1, 1]], 1)
    lower_left = np.stack([x0 + a * corner[:, 0], -w + b * corner[:, 1]], 1)
    ring = np.concatenate([lower_right, upper_right, upper_left, lower_left])
    return np.column_stack([ring, np.full(12, z)])


def _wheels(axles, width, radius) -> Mesh:  # type: ignore[no-untyped-def]
    out = []
    for x in axles:
        for side in (-1, 1):
            out.append(
                placed(torus(radius * 0.78, radius * 0.22, 10, 4), (x, side * (width / 2 - 0.12), radius))
            )
    return join(out)


def _rims(axles, width, radius) -> Mesh:  # type: ignore[no-untyped-def]
    size = (radius * 1.05, 0.1, radius * 1.05)
    turn = np.eye(4)
    turn[0, 0] = turn[2, 2] = np.cos(0.785)
    turn[0, 2], turn[2, 0] = np.sin(0.785), -np.sin(0.785)
    turned = moved(box(size), turn)
    return join(
        placed(mesh, (x, side * (width / 2 - 0.12), radius))
        for x in axles for side in (-1, 1) for mesh in (box(size), turned)
    )  # fmt: skip


def _seats(x0, x1, width, sill, belt, height) -> Mesh:  # type: ignore[no-untyped-def]
    top = min(belt + 0.25, height - 0.2)
    rows = np.arange(x1 - 0.9, x0 + 0.5, -0.95)[:3]
    centers, sizes = [], []
    for x in rows:
        for y in (-0.22 * width, 0.22 * width):
            centers += [(x - 0.3, y, (top + sill) / 2 + 0.1), (x - 0.33, y, top + 0.05), (x, y, sill + 0.3)]
            sizes += [(0.15, 0.45, top - sill - 0.2), (0.1, 0.22, 0.18), (0.5, 0.48, 0.2)]
    sizes.append((0.35, width * 0.8, 0.25))
    centers.append((x1 - 0.1, 0, belt - 0.05))
    return boxes(sizes, centers)


def _mirrors(x, width, belt, rng) -> Mesh:  # type: ignore[no-untyped-def]
    size = (0.12, rng.uniform(0.16, 0.24), rng.uniform(0.12, 0.2))
    return boxes([size] * 2, [(x, s * (width / 2 + 0.06), belt + 0.08) for s in (-1, 1)])


def _lights(length, width, belt) -> Mesh:  # type: ignore[no-untyped-def]
    ends = [(x * (length / 2 - 0.09), s * width * 0.36, belt - 0.24) for x in (-1, 1) for s in (-1, 1)]
    return boxes([(0.16, 0.3, 0.13)] * 4, ends)


def _bed(length, width, belt, x_boot, rng) -> Mesh:  # type: ignore[no-untyped-def]
    x0, x1 = -length / 2 + 0.05, x_boot
    rail = 0.25
    sizes = [(x1 - x0, 0.06, rail)] * 2 + [(0.06, width - 0.2, rail)]
    mid = (x0 + x1) / 2
    centers = [(mid, s * (width / 2 - 0.1), belt + rail / 2 - 0.02) for s in (-1, 1)]
    centers.append((x0 + 0.05, 0, belt + rail / 2 - 0.02))
    if rng.random() < 0.4:
        load = rng.uniform(0.2, 0.8)
        sizes.append(((x1 - x0) * 0.7, width * 0.6, load))
        centers.append((mid, 0, belt + load / 2))
    return boxes(sizes, centers)


def _roof_rack(roof, width, height) -> Mesh:  # type: ignore[no-untyped-def]
    mid, run = (roof[0] + roof[1]) / 2, max(roof[1] - roof[0], 0.6)
    sizes = [(run, 0.05, 0.05)] * 2 + [(0.05, width * 0.8, 0.05)] * 2
    centers = [(mid, s * width * 0.4, height + 0.07) for s in (-1, 1)]
    centers += [(mid + s * run * 0.3, 0, height + 0.1) for s in (-1, 1)]
    return boxes(sizes, centers)
