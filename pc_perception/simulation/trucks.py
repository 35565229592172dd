# SPDX-License-Identifier: Apache-2.0
"""Trucks, buses and trailers; x forward, wheels on z = 0."""

from __future__ import annotations

from functools import cache

import numpy as np

from pc_perception.simulation.shapes import Mesh, box, boxes, cylinder, frustum, join, moved, placed, torus
from pc_perception.simulation.template import Piece, Template

N_TRUCKS, N_BUSES, N_TRAILERS = 48, 24, 24

_LYING = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])


@cache
def truck(number: int) -> Template:
    """Make truck ``number`` of ``N_TRUCKS``: box, tank, flat bed, skip or crane behind a cab."""
    rng = np.random.default_rng([12, number])
    width = rng.uniform(2.1, 2.55)
    cab_length, cab_height = rng.uniform(1.5, 2.3), rng.uniform(2.2, 3.2)
    cargo_length = rng.uniform(3.0, 9.0)
    length = cab_length + cargo_length + 0.3
    front = length / 2
    radius = rng.uniform(0.38, 0.52)
    bonnet = rng.uniform(0.6, 1.4) if rng.random() < 0.35 else 0.0
    pieces = _cab(front, cab_length, cab_height, width, bonnet, rng)
    floor = rng.uniform(0.9, 1.25)
    x0, x1 = -front, front - cab_length - 0.3
    pieces.append(Piece("cargo", "paint:cargo", _cargo(number % 5, x0, x1, width, floor, rng)))
    frame = [(length - 0.6, 0.8, 0.25), (cargo_length * 0.35, width * 0.95, 0.5), (0.1, width, 0.12)]
    centers = [(0, 0, 0.75), (0.3, 0, 0.65), (-front + 0.05, 0, 0.55)]
    pieces.append(Piece("frame", "metal", boxes(frame, centers)))
    axles = [front - cab_length * 0.55, x0 + 0.22 * cargo_length]
    if cargo_length > 5.5:
        axles.append(axles[1] + 1.3)
    pieces.append(Piece("wheel", "rubber", _wheels(axles, width, radius)))
    plates = [(front + bonnet * 0.0 + 0.01, 0, 0.6), (-front - 0.01, 0, 0.7)]
    pieces.append(Piece("plate", "sign", boxes([(0.02, 0.5, 0.15)] * 2, plates)))
    return Template(pieces)


def _cab(front, length, height, width, bonnet, rng) -> list[Piece]:  # type: ignore[no-untyped-def]
    x0, x1 = front - length, front
    belt = rng.uniform(1.3, 1.8)
    slope = rng.uniform(0.05, 0.4)
    half = width / 2 - 0.06
    lower = frustum((x0, x1, -half, half), (x0, x1 - 0.05, -half, half), 0.5, belt)
    glass = frustum(
        (x0 + 0.3, x1 - 0.06, -half, half),
        (x0 + 0.3, x1 - slope, -half + 0.08, half - 0.08),
        belt,
        height - 0.35,
    )
    back = box((0.3, 2 * half, height - belt), (x0 + 0.15, 0, (height + belt) / 2))
    roof = frustum(
        (x0, x1 - slope, -half, half),
        (x0 + 0.1, x1 - slope - 0.4, -half + 0.1, half - 0.1),
        height - 0.36,
        height,
    )
    posts = boxes(
        [(0.12, 0.1, height - belt)] * 2,
        [(x1 - slope / 2 - 0.1, s * (half - 0.06), (height + belt) / 2 - 0.2) for s in (-1, 1)],
    )
    body = [lower, back, roof, posts]
    if bonnet:
        body.append(
            frustum(
                (x1 - 0.3, x1 + bonnet, -half * 0.85, half * 0.85),
                (x1 - 0.3, x1 + bonnet - 0.1, -half * 0.7, half * 0.7),
                0.5,
                belt - 0.1,
            )
        )
    seats = boxes([(0.2, 0.5, 1.0)] * 2, [(x0 + 0.7, s * 0.5, belt) for s in (-1, 1)])
    mirrors = boxes([(0.1, 0.22, 0.45)] * 2, [(x1 - 0.2, s * (half + 0.2), belt + 0.5) for s in (-1, 1)])
    return [
        Piece("cab", "paint", join(body)),
        Piece("glass", "glass", glass),
        Piece("interior", "interior", seats),
        Piece("mirror", "paint", mirrors),
    ]  # fmt: skip


def _cargo(kind, x0, x1, width, floor, rng) -> Mesh:  # type: ignore[no-untyped-def]
    run, mid = x1 - x0, (x0 + x1) / 2
    height = rng.uniform(1.6, 2.9)
    bed = box((run, width, 0.2), (mid, 0, floor))
    if kind in (0, 1):
        ribs = np.arange(x0 + 0.3, x1, rng.uniform(0.5, 1.2))
        rib_boxes = boxes(
            [(0.06, width + 0.06, height)] * len(ribs), [(x, 0, floor + height / 2) for x in ribs]
        )
        return join([bed, box((run, width, height), (mid, 0, floor + height / 2)), rib_boxes])
    if kind == 2:
        tank = moved(cylinder(width * 0.45, run * 0.95, 12), _LYING)
        return join([bed, placed(tank, (x0 + 0.03 * run, 0, floor + 0.1 + width * 0.45))])
    if kind == 3:
        wall = rng.uniform(0.3, 1.4)
        sides = boxes(
            [(run, 0.06, wall)] * 2 + [(0.06, width, wall)] * 2,
            [(mid, s * width / 2, floor + wall / 2) for s in (-1, 1)]
            + [(x, 0, floor + wall / 2) for x in (x0, x1)],
        )
        n = int(rng.integers(0, 14))
        sizes = rng.uniform(0.3, 1.3, (n, 3))
        centers = np.stack(
            [
                rng.uniform(x0 + 0.6, x1 - 0.6, n),
                rng.uniform(-0.4, 0.4, n) * (width - 1),
                floor + 0.1 + sizes[:, 2] / 2,
            ],
            1,
        )
        return join([bed, sides, *([boxes(sizes, centers)] if n else [])])
    skip = frustum(
        (x0 + 0.3, x1 - 0.3, -width * 0.4, width * 0.4), (x0, x1, -width / 2, width / 2), floor, floor + 1.4
    )
    arm = boxes(
        [(run * 0.8, 0.25, 0.25), (0.3, 0.3, 1.5)], [(mid, 0, floor + 1.9), (x1 - 0.2, 0, floor + 1.1)]
    )
    return join([bed, skip, arm])


def _wheels(axles, width, radius) -> Mesh:  # type: ignore[no-untyped-def]
    shape = join([torus(radius * 0.75, radius * 0.25, 10, 4), box((radius * 1.2, 0.15, radius * 1.2))])
    return join(placed(shape, (x, s * (width / 2 - 0.18), radius)) for x in axles for s in (-1, 1))


@cache
def bus(number: int) -> Template:
    """Make bus ``number`` of ``N_BUSES``: city bus, coach or minibus, with window bands and seats."""
    rng = np.random.default_rng([13, number])
    length = rng.uniform(9.5, 13) if number % 4 else rng.uniform(6, 7.5)
    width, height = rng.uniform(2.3, 2.55), rng.uniform(2.6, 3.4)
    sill, belt, top = rng.uniform(0.3, 0.45), rng.uniform(1.1, 1.6), height - rng.uniform(0.35, 0.7)
    half, slope = length / 2, rng.uniform(0.05, 0.3)
    body = [box((length, width, belt - sill), (0, 0, (belt + sill) / 2))]
    body.append(
        frustum(
            (-half, half - slope, -width / 2, width / 2),
            (-half + 0.2, half - slope - 0.3, -width / 2 + 0.15, width / 2 - 0.15),
            top,
            height,
        )
    )
    posts = np.linspace(-half + 0.15, half - 0.3, int(length / rng.uniform(1.1, 2.0)))
    body.append(
        boxes(
            [(0.14, 0.08, top - belt)] * 2 * len(posts),
            [(x, s * (width / 2 - 0.04), (top + belt) / 2) for x in posts for s in (-1, 1)],
        )
    )
    if rng.random() < 0.5:
        body.append(box((2.0, 1.6, 0.3), (rng.uniform(-3, 3) * length / 12, 0, height + 0.1)))
    glass = frustum(
        (-half + 0.03, half - 0.03, -width / 2 + 0.02, width / 2 - 0.02),
        (-half + 0.03, half - slope, -width / 2 + 0.05, width / 2 - 0.05),
        belt,
        top,
    )
    rows = np.arange(-half + 0.8, half - 1.2, 0.85)
    seats = boxes(
        [(0.12, 0.9, 0.9)] * 2 * len(rows),
        [(x, s * (width / 2 - 0.6), belt + 0.05) for x in rows for s in (-1, 1)],
    )
    radius = rng.uniform(0.42, 0.52)
    mirrors = [(half + 0.1, s * (width / 2 + 0.15), top - 0.3) for s in (-1, 1)]
    return Template(
        [
            Piece("body", "paint", join(body)),
            Piece("glass", "glass", glass),
            Piece("interior", "interior", seats),
            Piece("wheel", "rubber", _wheels([half * 0.55, -half * 0.5], width + 0.1, radius)),
            Piece("mirror", "paint", boxes([(0.12, 0.25, 0.4)] * 2, mirrors)),
            Piece("plate", "sign", box((0.02, 0.5, 0.15), (-half - 0.01, 0, 0.7))),
        ]
    )  # fmt: skip


@cache
def trailer(number: int) -> Template:
    """Make trailer ``number`` of ``N_TRAILERS``: a long semi-trailer or a small open one."""
    rng = np.random.default_rng([14, number])
    small = number % 2 == 0
    length, width = (rng.uniform(2.2, 4.5), rng.uniform(1.3, 2.2)) if small else (rng.uniform(8, 13.5), 2.5)
    floor, radius = (0.55, 0.3) if small else (1.15, 0.48)
    cargo = _cargo(int(rng.integers(0, 4)), -length / 2, length / 2, width, floor, rng)
    if small:
        keep = np.array([1.0, 1.0, rng.uniform(0.4, 0.8)], np.float32)
        cargo = (cargo[0] * keep, cargo[1])
        floor *= float(keep[2])
        axles = [0.0]
    else:
        axles = [-length * 0.3, -length * 0.3 - 1.3]
    legs = [
        (length / 2 + 0.5, 0, floor - 0.05),
        (length * 0.35, 0.5, floor / 2),
        (length * 0.35, -0.5, floor / 2),
    ]
    frame = boxes([(1.2, 0.1, 0.1), (0.1, 0.1, floor), (0.1, 0.1, floor)], legs)
    return Template(
        [
            Piece("cargo", "paint:cargo", cargo),
            Piece("frame", "metal", frame),
            Piece("wheel", "rubber", _wheels(axles, width + (0.3 if small else 0.1), radius)),
        ]
    )
