# SPDX-License-Identifier: Apache-2.0
"""Things to sit and lie on: chairs of several builds, stools, sofas, benches, beds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.random import Generator

from pc_perception.simulation.furniture_assembly import BED, CHAIR, SMALL, SOFA, Assembly, legs


def office_chair(rng: Generator) -> list[Assembly]:
    """Build a swivel chair: star base with castors, gas column, padded seat and back, often arms."""
    a = Assembly(CHAIR, rng)
    seat_z, width, depth = rng.uniform(0.40, 0.56), rng.uniform(0.42, 0.56), rng.uniform(0.40, 0.54)
    radius = rng.uniform(0.24, 0.36)
    n_arms = int(rng.choice([4, 5, 5, 5, 6]))
    for k in range(n_arms):
        yaw = 2 * np.pi * k / n_arms
        end = np.array([np.cos(yaw), np.sin(yaw)]) * radius
        a.rod("base", (0.0, 0.0, 0.12), (*end, 0.07), rng.uniform(0.016, 0.026), a.second)
        a.ball("castor", (0.030, 0.030, 0.030), (*end, 0.030), a.third)
    a.rod("column", (0, 0, 0.08), (0, 0, seat_z), rng.uniform(0.022, 0.035), a.second)
    thick = rng.uniform(0.05, 0.11)
    a.box("seat", (depth, width, thick), (0, 0, seat_z - thick), rounded=True)
    back_height, gap = rng.uniform(0.32, 0.75), rng.uniform(0.02, 0.2)
    lean = rng.uniform(0.02, 0.28)
    a.box(
        "back",
        (rng.uniform(0.04, 0.10), width * rng.uniform(0.8, 1.05), back_height),
        (-depth / 2, 0, seat_z + gap),
        pitch=-lean,
        rounded=True,
    )
    a.rod(
        "spine", (-depth * 0.3, 0, seat_z - 0.04), (-depth / 2 - 0.02, 0, seat_z + gap + 0.1), 0.022, a.second
    )
    if rng.random() < 0.65:
        rest = seat_z + rng.uniform(0.16, 0.26)
        for side in (-1, 1):
            y = side * (width / 2 + 0.03)
            a.rod("arm", (0, y, seat_z - 0.03), (0, y, rest), 0.018, a.second)
            a.box("arm", (rng.uniform(0.2, 0.3), 0.06, 0.03), (0, y, rest), a.third)
    return [a]


def dining_chair(rng: Generator) -> list[Assembly]:
    """Build a four-legged chair with a slatted, open or solid back."""
    a = Assembly(CHAIR, rng)
    seat_z, width, depth = rng.uniform(0.40, 0.50), rng.uniform(0.38, 0.52), rng.uniform(0.38, 0.50)
    legs(a, depth, width, seat_z, inset=rng.uniform(0.0, 0.04), splay=rng.uniform(0, 0.06))
    a.box("seat", (depth, width, rng.uniform(0.02, 0.07)), (0, 0, seat_z - 0.02), rounded=rng.random() < 0.5)
    top, lean = seat_z + rng.uniform(0.32, 0.62), rng.uniform(0.0, 0.22)
    x0, x1 = -depth / 2 + 0.02, -depth / 2 - lean * 0.4
    post = rng.uniform(0.012, 0.024)
    style = rng.integers(4)
    if style < 3:
        for side in (-1, 1):
            y = side * (width / 2 - 0.03)
            a.rod("back", (x0, y, seat_z), (x1, y, top), post, a.second)
    if style == 0:
        for z in np.linspace(seat_z + 0.15, top - 0.04, int(rng.integers(2, 5))):
            a.box("back", (0.02, width - 0.04, 0.05), ((x0 + x1) / 2 - 0.01, 0, z), a.second)
    elif style == 1:
        for y in np.linspace(-width / 2 + 0.09, width / 2 - 0.09, int(rng.integers(3, 7))):
            a.rod("back", (x0, y, seat_z), (x1, y, top), 0.01, a.second)
        a.box("back", (0.03, width, 0.06), (x1, 0, top - 0.05), a.second)
    elif style == 2:
        height = rng.uniform(0.14, 0.34)
        a.box("back", (0.035, width, height), (x1 + 0.01, 0, top - height), pitch=-lean, rounded=True)
    else:
        a.box("back", (0.04, width, top - seat_z), (x0, 0, seat_z), pitch=-lean, rounded=True)
    return [a]


def shell_chair(rng: Generator) -> list[Assembly]:
    """Build a cantilever or sled chair: bent tube frame with a thin seat and back."""
    a = Assembly(CHAIR, rng)
    seat_z, width, depth = rng.uniform(0.42, 0.48), rng.uniform(0.42, 0.54), rng.uniform(0.42, 0.5)
    top = seat_z + rng.uniform(0.35, 0.5)
    for side in (-1, 1):
        y = side * width / 2
        front, rear = depth / 2, -depth / 2
        corners = [
            (rear, y, 0.015),
            (front, y, 0.015),
            (front, y, seat_z),
            (rear, y, seat_z),
            (rear - 0.1, y, top),
        ]
        if rng.random() < 0.3:
            corners = [(rear, y, 0.0), (rear * 0.7, y, seat_z), (front, y, seat_z), (front, y, 0.0)]
        for p, q in pairwise(corners):
            a.rod("legs", p, q, 0.013, a.second)
        if rng.random() < 0.5:
            a.box("arm", (depth * 0.7, 0.05, 0.025), (0, y, seat_z + 0.2), a.third)
            a.rod("arm", (front * 0.8, y, seat_z), (front * 0.7, y, seat_z + 0.2), 0.012, a.second)
    a.box("seat", (depth, width, 0.04), (0, 0, seat_z - 0.01), rounded=True)
    a.box("back", (0.035, width, rng.uniform(0.2, 0.45)), (-depth / 2 - 0.02, 0, seat_z + 0.08), pitch=-0.2)
    return [a]


def armchair(rng: Generator) -> list[Assembly]:
    """Build an upholstered chair for one, between a chair and a sofa in shape."""
    return _upholstered(rng, CHAIR, rng.uniform(0.62, 0.95), n_cushions=1)


def stool(rng: Generator) -> list[Assembly]:
    """Build a backless stool, sometimes bar-high."""
    a = Assembly(CHAIR, rng)
    height, r = rng.choice([0.45, 0.65, 0.75]) * rng.uniform(0.9, 1.1), rng.uniform(0.15, 0.2)
    if rng.random() < 0.4:
        a.cylinder("base", r, 0.03, (0, 0, 0), a.second)
        a.rod("column", (0, 0, 0), (0, 0, height), 0.03, a.second)
    else:
        legs(a, 1.6 * r, 1.6 * r, height, inset=0.03, splay=0.05)
    a.cylinder("seat", r, rng.uniform(0.03, 0.08), (0, 0, height - 0.02))
    return [a]


def sofa(rng: Generator) -> list[Assembly]:
    """Build a sofa for two to four, sometimes with a chaise, with loose pillows."""
    n = int(rng.choice([2, 2, 3, 3, 4]))
    return _upholstered(rng, SOFA, n * rng.uniform(0.55, 0.72) + 0.35, n_cushions=n)


def _upholstered(rng: Generator, raw_class: int, width: float, n_cushions: int) -> list[Assembly]:
    a = Assembly(raw_class, rng)
    depth, seat_z = rng.uniform(0.72, 1.0), rng.uniform(0.36, 0.48)
    foot, arm = rng.choice([0.0, 0.05, 0.12]), rng.uniform(0.08, 0.24)
    back_z, back = seat_z + rng.uniform(0.28, 0.55), rng.uniform(0.14, 0.26)
    if foot > 0:
        legs(a, depth, width, foot + 0.02, inset=0.05)
    a.box("base", (depth, width, seat_z * 0.6 - foot), (0, 0, foot), rounded=True)
    a.box(
        "back",
        (back, width, back_z - foot),
        (-depth / 2 + back / 2, 0, foot),
        pitch=-rng.uniform(0, 0.12),
        rounded=True,
    )
    if rng.random() < 0.85:
        arm_z = seat_z + rng.uniform(0.08, 0.25)
        for side in (-1, 1):
            a.box("arm", (depth, arm, arm_z - foot), (0, side * (width - arm) / 2, foot), rounded=True)
    inner = width - 2 * arm
    for k in range(n_cushions):
        y = -inner / 2 + (k + 0.5) * inner / n_cushions
        cushion = (depth - back, inner / n_cushions - 0.01, 0.16)
        a.box("seat", cushion, (back / 2, y, seat_z - 0.14), rounded=True)
        if rng.random() < 0.6:
            a.box(
                "back",
                (0.14, inner / n_cushions - 0.02, 0.38),
                (-depth / 2 + back + 0.06, y, seat_z),
                pitch=-0.25,
                rounded=True,
            )
    if n_cushions >= 3 and rng.random() < 0.25:
        side = rng.choice([-1, 1])
        a.box(
            "seat",
            (rng.uniform(0.6, 0.9), inner / n_cushions, seat_z),
            (depth / 2 + 0.3, side * inner / 3, 0),
            rounded=True,
        )
    out = [a]
    for _ in range(int(rng.integers(0, 2 + n_cushions))):
        y = rng.uniform(-inner / 2, inner / 2) * 0.8
        out.append(
            pillow(rng, (rng.uniform(-depth / 6, depth / 5), y, seat_z + 0.02), tilt=rng.uniform(0.6, 1.5))
        )
    return out


def bench(rng: Generator) -> list[Assembly]:
    """Build a bench or an ottoman."""
    a = Assembly(SOFA, rng)
    width, depth, height = rng.uniform(0.5, 1.6), rng.uniform(0.35, 0.7), rng.uniform(0.38, 0.48)
    if rng.random() < 0.5:
        a.box("base", (depth, width, height), (0, 0, 0), rounded=True)
    else:
        legs(a, depth, width, height, inset=0.05)
        a.box("seat", (depth, width, 0.1), (0, 0, height - 0.08), rounded=True)
    return [a]


def pillow(rng: Generator, at: tuple[float, float, float], tilt: float = 0.0) -> Assembly:
    """Build one pillow at a point; ``tilt`` radians from lying flat towards standing up."""
    p = Assembly(SMALL, rng)
    size = (rng.uniform(0.18, 0.25), rng.uniform(0.2, 0.34), rng.uniform(0.06, 0.1))
    p.ball(
        "pillow", size, (at[0], at[1], at[2] + size[2] + size[0] * np.sin(tilt) * 0.8), pitch=-tilt, power=0.5
    )
    return p


def bed(rng: Generator) -> list[Assembly]:
    """Build a bed: frame, mattress, headboard, duvet, pillows; single or double, sometimes a bunk."""
    a = Assembly(BED, rng)
    length, width = rng.uniform(1.85, 2.15), rng.choice([0.9, 1.0, 1.4, 1.6, 1.8]) * rng.uniform(0.95, 1.05)
    frame_z, mattress = rng.uniform(0.18, 0.42), rng.uniform(0.14, 0.32)
    levels = [0.0, rng.uniform(1.1, 1.4)] if width < 1.1 and rng.random() < 0.15 else [0.0]
    if len(levels) > 1:
        legs(a, length, width, levels[1] + 0.7, inset=0.0)
    out = [a]
    for z in levels:
        if rng.random() < 0.5 and z == 0.0:
            a.box("frame", (length, width, frame_z), (0, 0, 0), a.second)
        else:
            a.box("frame", (length, width, 0.1), (0, 0, z + frame_z - 0.1), a.second)
            if z == 0.0:
                legs(a, length, width, frame_z, inset=0.03)
        top = z + frame_z + mattress
        a.box("mattress", (length - 0.06, width - 0.06, mattress), (0, 0, z + frame_z), rounded=True)
        cover = length * rng.uniform(0.5, 0.9)
        puff = rng.uniform(0.03, 0.12)
        a.box(
            "duvet",
            (cover, width + 0.04, puff + mattress * 0.6),
            ((length - cover) / 2, 0, top - mattress * 0.6),
            a.third,
            rounded=True,
        )
        for y in (-0.22, 0.22) if width > 1.2 else (0.0,):
            out.append(pillow(rng, (-length / 2 + 0.3, y * width / 0.9, top), tilt=rng.uniform(0, 0.7)))
    if rng.random() < 0.8:
        a.box(
            "headboard",
            (0.06, width + rng.uniform(0, 0.2), rng.uniform(0.6, 1.3)),
            (-length / 2 - 0.03, 0, 0),
            a.second,
        )
    if rng.random() < 0.3:
        a.box("footboard", (0.05, width, rng.uniform(0.45, 0.8)), (length / 2 + 0.02, 0, 0), a.second)
    return out
