# SPDX-License-Identifier: Apache-2.0
"""Things that stand beside roads: poles, lamps, signs, traffic lights, gantries, cones, bins, fences."""

from __future__ import annotations

from functools import cache

import numpy as np

from pc_perception.simulation.shapes import (
    Mesh,
    box,
    boxes,
    cone,
    cylinder,
    ellipsoid,
    join,
    placed,
    sphere,
    tube,
)
from pc_perception.simulation.template import Piece, Template

N_POLES, N_SIGNS, N_LIGHTS, N_CONES, N_THINGS, N_FENCES = 32, 32, 24, 8, 40, 24
_BUILDING, _FENCE, _WALL, _POLE, _SIGN, _LIGHT = 8, 9, 10, 18, 19, 20


@cache
def pole(number: int) -> Template:
    """Make pole ``number`` of ``N_POLES``: street lamp with an arm, utility pole, bollard or post."""
    rng = np.random.default_rng([18, number])
    form = ("lamp", "lamp", "utility", "bollard", "lamp", "post", "plain", "lantern")[number % 8]
    if form in ("bollard", "post"):
        height, radius = (rng.uniform(0.7, 1.1), 0.08) if form == "bollard" else (rng.uniform(1.0, 2.6), 0.04)
        return Template([Piece("post", "metal", cylinder(radius, height, 8))])
    height, radius = rng.uniform(4, 11), rng.uniform(0.05, 0.15)
    shaft = placed(cylinder(radius, height + 0.3, 8, radius * rng.uniform(0.5, 1.0)), (0, 0, -0.3))
    base = placed(cylinder(radius * 2, 0.6, 8), (0, 0, -0.3))
    more: list[Mesh] = [shaft, base]
    if form == "lamp":
        reach = rng.uniform(0.8, 3.0)
        rise = rng.uniform(0, 0.6)
        more.append(
            tube([(0, 0, height - 0.1), (reach * 0.5, 0, height + rise), (reach, 0, height + rise)], 0.04, 5)
        )
        more.append(box((0.6, 0.25, 0.12), (reach, 0, height + rise)))
    elif form == "lantern":
        more.append(ellipsoid((0.25, 0.25, 0.35), (0, 0, height * 0.5 + 0.2), 7, 4))
        more[0] = placed(cylinder(radius, height * 0.5 + 0.3, 8), (0, 0, -0.3))
    elif form == "utility":
        arms = int(rng.integers(1, 4))
        more.append(
            boxes(
                [(0.1, rng.uniform(1.2, 2.4), 0.1)] * arms,
                [(0, 0, height - 0.3 - 0.6 * i) for i in range(arms)],
            )
        )
        more.append(placed(cylinder(0.22, 0.8, 7), (0.3, 0, height - 2)))
    return Template([Piece("post", "metal", join(more))])


@cache
def sign(number: int) -> Template:
    """Make sign ``number`` of ``N_SIGNS``: plates on a post, a direction board, or a gantry over lanes."""
    rng = np.random.default_rng([19, number])
    form = number % 8
    if form == 7:
        return _gantry(rng)
    height = rng.uniform(2.0, 3.4)
    radius = rng.uniform(0.025, 0.06)
    plates: list[Mesh] = []
    z = height - 0.4
    for _ in range(int(rng.integers(1, 4)) if form < 5 else 1):
        width = rng.uniform(0.35, 0.9) if form < 5 else rng.uniform(0.9, 2.2)
        tall = width * (rng.uniform(0.6, 1.3) if form < 5 else rng.uniform(0.35, 0.7))
        if form % 3 == 0:
            disc = cylinder(width / 2, 0.02, int(rng.choice([3, 4, 8, 12])))
            plates.append((disc[0][:, [2, 0, 1]] + np.array([radius + 0.01, 0, z], np.float32), disc[1]))
        else:
            plates.append(box((0.02, width, tall), (radius + 0.02, 0, z)))
        z -= tall + 0.08
    posts = [(0, 0)] if form < 5 else [(-0.35, 0), (0.35, 0)]
    post = join(placed(cylinder(radius, height + 0.2, 6), (-0.02, y, -0.2)) for y, _ in posts)
    return Template([Piece("stem", "metal", post, _POLE), Piece("panel", "sign", join(plates), _SIGN)])


def _gantry(rng: np.random.Generator) -> Template:
    span, height = rng.uniform(9, 16), rng.uniform(5.2, 6.5)
    posts = [placed(cylinder(0.15, height + 0.5, 8), (0, y, -0.3)) for y in (0.0, span)]
    beam = [tube([(0, 0, height + dz), (0, span, height + dz)], 0.08, 5) for dz in (0.0, 0.5)]
    n = int(rng.integers(1, 4))
    boards = boxes(
        [(0.1, rng.uniform(1.5, 3.2), rng.uniform(1.0, 2.0))] * n,
        [(0.15, span * (i + 0.7) / (n + 0.4), height + 0.2) for i in range(n)],
    )
    return Template(
        [Piece("stem", "metal", join(posts + beam), _POLE), Piece("panel", "sign", boards, _SIGN)]
    )


@cache
def traffic_light(number: int) -> Template:
    """Make traffic light ``number`` of ``N_LIGHTS``: heads on a post, half of them with a mast arm."""
    rng = np.random.default_rng([20, number])
    height, radius = rng.uniform(2.6, 3.6), rng.uniform(0.05, 0.12)
    heads = [(0.12, 0.0, height - 0.5)]
    posts = [placed(cylinder(radius, height + 0.2, 8), (0, 0, -0.2))]
    if number % 2:
        tall, reach = rng.uniform(5, 6.5), rng.uniform(3, 8)
        posts = [placed(cylinder(radius * 1.3, tall, 8), (0, 0, -0.2))]
        posts.append(tube([(0, 0, tall - 0.4), (0, reach, tall)], radius * 0.6, 6))
        heads += [(0.15, reach * f, tall - 0.5) for f in (0.6, 0.97)]
    if rng.random() < 0.5:
        heads.append((0, -0.2, height - 0.9))
    size = (0.22, 0.3, rng.uniform(0.75, 1.05))
    return Template(
        [
            Piece("stem", "metal", join(posts), _POLE),
            Piece("lamp", "plastic", boxes([size] * len(heads), heads), _LIGHT),
        ]
    )


@cache
def traffic_cone(number: int) -> Template:
    """Make cone or barrel ``number`` of ``N_CONES``."""
    rng = np.random.default_rng([21, number])
    height = rng.uniform(0.45, 1.05)
    body = cone(0.17, height, 8) if number % 3 else cylinder(0.28, height, 10, 0.2)
    return Template([Piece("body", "plastic", join([box((0.4, 0.4, 0.05), (0, 0, 0.025)), body]))])


@cache
def thing(number: int) -> Template:
    """Make street furniture ``number`` of ``N_THINGS``: bin, bench, hydrant, box, shelter, container."""
    rng = np.random.default_rng([8, number])
    form = number % 10
    if form in (0, 1):
        size = (rng.uniform(0.45, 0.8), rng.uniform(0.45, 0.8), rng.uniform(0.8, 1.3))
        lid = box((size[0] + 0.08, size[1] + 0.08, 0.08), (0, 0, size[2]))
        parts = [box(size, (0, 0, size[2] / 2)), lid]
    elif form == 2:
        parts = [box((0.5, 1.8, 0.06), (0, 0, 0.45)), box((0.06, 1.8, 0.4), (-0.25, 0, 0.75))]
        parts.append(boxes([(0.4, 0.06, 0.45)] * 2, [(0, y, 0.22) for y in (-0.7, 0.7)]))
    elif form == 3:
        parts = [cylinder(0.13, 0.65, 8), sphere(0.14, (0, 0, 0.68), 8), box((0.1, 0.42, 0.12), (0, 0, 0.5))]
    elif form in (4, 5):
        size = (rng.uniform(0.3, 0.9), rng.uniform(0.5, 1.6), rng.uniform(0.9, 1.9))
        parts = [box(size, (0, 0, size[2] / 2)), box((size[0] + 0.1, size[1] + 0.1, 0.1), (0, 0, 0.05))]
    elif form == 6:
        run = rng.uniform(2.5, 5)
        parts = [
            box((1.5, run, 0.1), (0, 0, 2.5)),
            box((0.05, run, 1.8), (-0.7, 0, 1.2)),
            box((0.4, run * 0.7, 0.08), (-0.45, 0, 0.5)),
        ]
        parts.append(
            boxes([(0.08, 0.08, 2.5)] * 4, [(x, y * run / 2.1, 1.25) for x in (-0.7, 0.6) for y in (-1, 1)])
        )
    elif form == 7:
        size = (rng.uniform(2.2, 2.5), rng.uniform(3, 6.2), rng.uniform(1.2, 2.6))
        ribs = np.arange(-size[1] / 2, size[1] / 2, 0.3)
        parts = [box(size, (0, 0, size[2] / 2 + 0.1))]
        parts.append(
            boxes([(size[0] + 0.1, 0.1, size[2])] * len(ribs), [(0, y, size[2] / 2 + 0.1) for y in ribs])
        )
    elif form == 8:
        n = int(rng.integers(3, 10))
        sizes = rng.uniform(0.2, 0.9, (n, 3))
        parts = [boxes(sizes, np.column_stack([rng.normal(0, 0.6, (n, 2)), sizes[:, 2] / 2]))]
    else:
        parts = [box((0.45, 0.5, 1.2), (0, 0, 0.7)), box((0.1, 0.1, 0.3), (0, 0, 0.1))]
    return Template([Piece("body", "plastic" if form % 2 else "clutter", join(parts))])


@cache
def fence(number: int) -> Template:
    """Make 4 m of fence ``number`` of ``N_FENCES`` along y: pickets, rails, mesh, boards, a barrier or a wall."""
    rng = np.random.default_rng([9, number])
    form = number % 6
    height = rng.uniform(0.8, 2.1)
    posts = np.linspace(-2, 2, 3)
    post = boxes([(0.08, 0.08, height + 0.4)] * 3, [(0, y, height / 2 - 0.15) for y in posts])
    if form in (0, 1):
        step = rng.uniform(0.1, 0.25)
        y = np.arange(-2, 2, step)
        slats = boxes(
            [(0.025, step * rng.uniform(0.2, 0.75), height)] * len(y), [(0, v, height / 2 + 0.05) for v in y]
        )
        rails = boxes([(0.04, 4, 0.06)] * 2, [(0.03, 0, height * f) for f in (0.2, 0.85)])
        return Template([Piece("panel", "wood", join([slats, rails, post]))])
    if form == 2:
        panel = box((0.01, 4, height), (0, 0, height / 2 + 0.05))
        rail = box((0.05, 4, 0.05), (0, 0, height + 0.05))
        return Template([Piece("panel", "mesh", panel), Piece("rail", "metal", join([rail, post]))])
    if form == 3:
        n = int(rng.integers(2, 5))
        rails = boxes([(0.05, 4, 0.08)] * n, [(0, 0, height * (i + 0.8) / n) for i in range(n)])
        return Template([Piece("rail", "metal", join([rails, post]))])
    if form == 4:
        return Template([Piece("panel", "wood", join([box((0.04, 4, height), (0, 0, height / 2)), post]))])
    if number % 12 == 11:
        cap = box((0.36, 4, 0.08), (0, 0, height))
        pillars = boxes([(0.4, 0.4, height + 0.45)] * 2, [(0, y, height / 2 - 0.1) for y in (-1.9, 1.9)])
        return Template(
            [
                Piece(
                    "wall",
                    "wall",
                    join([box((0.25, 4, height + 0.3), (0, 0, height / 2 - 0.15)), cap, pillars]),
                    _WALL,
                )
            ]
        )
    barrier = [box((0.5, 4, 0.2), (0, 0, 0.1)), box((0.25, 4, 0.85), (0, 0, 0.42))]
    return Template([Piece("wall", "concrete", join(barrier), _WALL)])
