# SPDX-License-Identifier: Apache-2.0
"""Pedestrians in many poses, cyclists and bicycles; x forward, feet on z = 0."""

from __future__ import annotations

from functools import cache

import numpy as np

from pc_perception.simulation.shapes import Mesh, box, ellipsoid, join, loft, placed, torus, tube
from pc_perception.simulation.template import Piece, Template

N_PEDESTRIANS, N_CYCLISTS, N_BICYCLES = 96, 48, 32


@cache
def pedestrian(number: int) -> Template:
    """Make pedestrian ``number`` of ``N_PEDESTRIANS``: walking, standing or sitting, some with a bag."""
    rng = np.random.default_rng([15, number])
    height = rng.uniform(1.5, 1.95) if number % 8 else rng.uniform(0.95, 1.4)
    hip, shoulder = 0.5 * height, 0.82 * height
    broad, deep = rng.uniform(0.34, 0.5), rng.uniform(0.2, 0.34)
    stride = rng.uniform(0.0, 0.32) if number % 3 else rng.uniform(0.0, 0.06)
    lean = rng.uniform(-0.03, 0.08)
    legs = [
        _leg(
            (0, s * 0.09, hip),
            (s * stride * 0.45 + 0.05, s * 0.1, 0.5 * hip),
            (s * stride, s * 0.1, 0.06),
            rng,
        )
        for s in (-1, 1)
    ]
    swing = rng.uniform(-0.3, 0.3)
    arms = [_arm((lean, s * (broad / 2 + 0.03), shoulder - 0.05), s * swing, s, rng) for s in (-1, 1)]
    pieces = [
        Piece("leg", "cloth:legs", join(legs)),
        Piece("torso", "cloth", _torso(hip - 0.08, shoulder, broad, deep, lean)),
        Piece("arm", "cloth", join(arms)),
        Piece("head", "skin", ellipsoid((0.1, 0.085, 0.13), (lean + 0.02, 0, shoulder + 0.19), 7, 4)),
    ]
    if rng.random() < 0.35:
        size = (rng.uniform(0.12, 0.3), rng.uniform(0.2, 0.4), rng.uniform(0.25, 0.5))
        center = (-deep / 2 - 0.08, 0, shoulder - 0.3) if rng.random() < 0.6 else (0, broad / 2 + 0.2, 0.35)
        pieces.append(Piece("bag", "cloth:bag", box(size, center)))
    return Template(pieces)


def _leg(hip, knee, foot, rng) -> Mesh:  # type: ignore[no-untyped-def]
    thick = rng.uniform(0.07, 0.1)
    limb = tube([hip, knee, foot], [thick, thick * 0.75, thick * 0.6], 6)
    return join([limb, box((0.26, 0.1, 0.09), (foot[0] + 0.06, foot[1], foot[2] - 0.01))])


def _arm(shoulder, swing, side, rng) -> Mesh:  # type: ignore[no-untyped-def]
    upper, lower = rng.uniform(0.26, 0.32), rng.uniform(0.24, 0.3)
    bend = swing + rng.uniform(0.0, 1.2)
    x, y, z = shoulder
    elbow = (x + upper * np.sin(swing), y + side * 0.05, z - upper * np.cos(swing))
    hand = (elbow[0] + lower * np.sin(bend), elbow[1], elbow[2] - lower * np.cos(bend))
    return tube([shoulder, elbow, hand], [0.055, 0.045, 0.04], 5)


def _torso(low, high, broad, deep, lean) -> Mesh:  # type: ignore[no-untyped-def]
    angle = np.arange(8) * (np.pi / 4)
    z = np.array([low, low + 0.35 * (high - low), high - 0.08, high + 0.02, high + 0.1])
    wide = np.array([0.9, 0.85, 1.05, 0.6, 0.25]) * broad / 2
    thick = np.array([0.9, 0.85, 1.0, 0.7, 0.35]) * deep / 2
    rings = np.empty((5, 8, 3), np.float32)
    rings[:, :, 0] = thick[:, None] * np.cos(angle) + (lean * (z - low) / (high - low))[:, None]
    rings[:, :, 1] = wide[:, None] * np.sin(angle)
    rings[:, :, 2] = z[:, None]
    return loft(rings)


def _bicycle(rng: np.random.Generator, motor: bool) -> list[Piece]:
    radius, base = (0.3, 1.35) if motor else (rng.uniform(0.29, 0.36), rng.uniform(0.98, 1.1))
    thick = 0.06 if motor else rng.uniform(0.018, 0.03)
    rear, front = (-base / 2, 0, radius), (base / 2, 0, radius)
    wheels = [placed(torus(radius - thick, thick, 14, 4), p) for p in (rear, front)]
    seat, head, crank = (-0.22, 0, 0.85), (0.38, 0, 0.88), (-0.03, 0, 0.3)
    r = 0.02 if not motor else 0.04
    lines = [(rear, seat), (rear, crank), (crank, seat), (crank, head), (seat, head), (head, front)]
    frame = [tube(line, r, 4) for line in lines]
    bar = (0.33, 0, 1.02)
    frame += [tube([head, bar], r, 4), tube([(0.36, -0.28, 1.02), (0.36, 0.28, 1.02)], 0.018, 4)]
    frame.append(box((0.24, 0.14, 0.06), (-0.24, 0, 0.9)))
    spokes = [
        tube([(p[0] - radius * 0.9, 0, radius), (p[0] + radius * 0.9, 0, radius)], 0.008, 3)
        for p in (rear, front)
    ]
    spokes += [tube([(p[0], 0, 0.1 * radius), (p[0], 0, 1.9 * radius)], 0.008, 3) for p in (rear, front)]
    pieces = [Piece("wheel", "rubber", join(wheels)), Piece("frame", "metal", join(frame + spokes))]
    if motor:
        tank = [box((0.5, 0.3, 0.4), (0.0, 0, 0.5)), ellipsoid((0.3, 0.16, 0.15), (0.12, 0, 0.85), 6, 3)]
        tank.append(box((0.6, 0.24, 0.12), (-0.35, 0, 0.78)))
        pieces.append(Piece("body", "paint", join(tank)))
    elif rng.random() < 0.35:
        pieces.append(
            Piece("bag", "plastic", box((0.35, 0.35, 0.25), (-0.5 if rng.random() < 0.5 else 0.55, 0, 0.85)))
        )
    return pieces


@cache
def bicycle(number: int) -> Template:
    """Make parked two-wheeler ``number`` of ``N_BICYCLES``, every third with a motor."""
    rng = np.random.default_rng([17, number])
    return Template(_bicycle(rng, number % 3 == 2))


@cache
def cyclist(number: int) -> Template:
    """Make rider and two-wheeler ``number`` of ``N_CYCLISTS``, every third with a motor."""
    rng = np.random.default_rng([16, number])
    pieces = _bicycle(rng, number % 3 == 2)
    size = rng.uniform(0.9, 1.08)
    lean = rng.uniform(0.1, 0.35)
    hip, shoulder = (-0.22, 0, 0.95), 0.95 + 0.52 * size
    torso = _torso(0.9, shoulder, rng.uniform(0.36, 0.46), rng.uniform(0.22, 0.3), lean)
    torso[0][:, 0] += hip[0]
    legs, arms = [], []
    phase = rng.uniform(-0.16, 0.16)
    for s in (-1, 1):
        foot = (0.0 + s * phase, s * 0.14, 0.3 + s * phase)
        knee = (0.22, s * 0.16, 0.72 + s * phase * 0.5)
        legs.append(_leg((hip[0], s * 0.1, hip[2]), knee, foot, rng))
        x = hip[0] + lean
        arms.append(
            tube([(x, s * 0.22, shoulder - 0.04), (0.2, s * 0.3, 1.15), (0.36, s * 0.26, 1.05)], 0.045, 5)
        )
    head = ellipsoid((0.12, 0.1, 0.14), (hip[0] + lean * 1.15, 0, shoulder + 0.2), 7, 4)
    pieces += [
        Piece("leg", "cloth:legs", join(legs)),
        Piece("torso", "cloth", torso),
        Piece("arm", "cloth", join(arms)),
        Piece("head", "skin", head),
    ]
    return Template(pieces)
