# SPDX-License-Identifier: Apache-2.0
"""What stands on the plots behind the sidewalk: buildings, fences, hedges, trees and bushes."""

from __future__ import annotations

import numpy as np

from pc_perception.simulation import street_furniture, vegetation
from pc_perception.simulation.buildings import building
from pc_perception.simulation.materials import draw_material
from pc_perception.simulation.scene import SceneObject
from pc_perception.simulation.street_edge import Density, Edge, random_spots
from pc_perception.simulation.template import instance

CROWN, BUSH, BUILDING, FENCE, WALL = 5, 7, 8, 9, 10


def buildings(edge: Edge, rng: np.random.Generator) -> list[SceneObject]:
    """A row of buildings, near or far from the sidewalk as the block's style asks."""
    block = edge.block
    walk = 0.15 + block.verge + block.sidewalk
    setback, gap, sizes, styles = {
        "urban": ((0.0, 1.5), (0.0, 0.6), ((7, 26), (9, 18), (6, 22)), ("block", "block", "shop")),
        "suburban": ((3, 10), (2, 12), ((7, 15), (7, 12), (2.8, 7)), ("house", "house", "house", "garage")),
        "park": ((12, 30), (20, 60), ((6, 14), (6, 12), (3, 6)), ("house", "hall")),
        "commercial": ((5, 26), (4, 25), ((12, 40), (10, 25), (4, 12)), ("shop", "hall", "block")),
        "industrial": ((4, 20), (6, 30), ((12, 45), (10, 25), (5, 12)), ("hall", "hall", "garage")),
    }[block.style]
    base = rng.uniform(*setback)
    tight = rng.random() < 0.6
    out: list[SceneObject] = []
    u = (walk + 1 if edge.edge == 0 else walk + 14) + rng.uniform(0, 4)
    while True:
        width = rng.uniform(*sizes[0])
        if u + width > edge.length - (walk if edge.edge == 0 and 1 in block.open_edges else 0):
            return out
        inset = walk + (base if tight else rng.uniform(*setback))
        room = (
            (block.t_high - block.t_low if edge.edge == 0 else edge.block.s_high - edge.block.s_low)
            - inset
            - 2
        )
        depth = min(rng.uniform(*sizes[1]), room)
        if depth > 4 and not (block.style == "urban" and rng.random() < 0.08):
            template = building(rng, width, depth, rng.uniform(*sizes[2]), str(rng.choice(styles)))
            T = edge.pose(u + width / 2, inset, rng.normal(0, 0.01))
            out.append(instance(template, BUILDING, T, rng))
        u += width + rng.uniform(*gap) + (rng.uniform(3, 8) if rng.random() < 0.1 else 0)


def border(edge: Edge, density: Density, rng: np.random.Generator) -> list[SceneObject]:
    """Fences, walls and hedges between sidewalk and plot, piece by piece of 4 m."""
    out = []
    inset = 0.4 + edge.block.verge + edge.block.sidewalk + rng.uniform(0, 0.6)
    u = 6.0
    while u < edge.length - 6:
        run = int(rng.integers(2, 8))
        pick = rng.random()
        number, height = int(rng.integers(24)), rng.uniform(0.6, 1.25)
        if rng.random() < 0.25:
            number = 11 + 12 * int(rng.integers(2))  # garden walls are common
        drawn = {k: draw_material(k, rng) for k in ("wood", "metal", "mesh", "concrete", "wall", "leaf")}
        for k in range(run):
            v = u + 4 * k
            if v > edge.length - 4 or edge.on_driveway(v, 2.3):
                continue
            if pick < density.fence_share:
                number_class = WALL if number % 6 == 5 else FENCE
                T = edge.pose(v, inset)
                out.append(
                    instance(street_furniture.fence(number), number_class, T, rng, (1, 1.01, height), drawn)
                )
            elif pick < density.fence_share + density.hedge_share:
                T = edge.pose(v, inset + 0.5, np.pi / 2)
                out.append(
                    instance(
                        vegetation.hedge(number % vegetation.N_HEDGES), BUSH, T, rng, (1.02, 1, height), drawn
                    )
                )
        u += 4 * run
    return out


def yard(edge: Edge, density: Density, rng: np.random.Generator) -> list[SceneObject]:
    """Trees and bushes on the plot."""
    out = []
    first = 1.0 + edge.block.verge + edge.block.sidewalk
    more = 2.5 if edge.block.style == "park" else 1.0
    for u in random_spots(edge, density.yard_trees * more, rng):
        if edge.on_driveway(u, 1.0):
            continue
        T = edge.pose(u, first + rng.exponential(5.0 * more), rng.uniform(0, 6.28))
        size = rng.uniform(0.5, 1.3)
        tree = vegetation.tree(int(rng.integers(vegetation.N_TREES)))
        out.append(instance(tree, CROWN, T, rng, (size, size, size * rng.uniform(0.8, 1.15))))
    for u in random_spots(edge, density.bushes * more, rng):
        if edge.on_driveway(u, 0.8):
            continue
        T = edge.pose(u, first + rng.exponential(2.5 * more), rng.uniform(0, 6.28))
        size = rng.uniform(0.5, 1.8)
        plant = vegetation.bush(int(rng.integers(vegetation.N_BUSHES)))
        out.append(instance(plant, BUSH, T, rng, (size * rng.uniform(0.7, 1.6), size, size)))
    return out
