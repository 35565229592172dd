# SPDX-License-Identifier: Apache-2.0
"""What stands on a block: what lines the kerb, and what ``street_plots`` puts behind it."""

from __future__ import annotations

import numpy as np

from pc_perception.simulation import people, street_furniture, vegetation
from pc_perception.simulation.materials import Material, draw_material
from pc_perception.simulation.scene import SceneObject
from pc_perception.simulation.street_edge import Density, Edge, random_spots
from pc_perception.simulation.street_layout import Block, Street
from pc_perception.simulation.street_plots import border, buildings, yard
from pc_perception.simulation.template import instance

CROWN, BUILDING, WALL, BICYCLE = 5, 8, 10, 17
POLE, SIGN, LIGHT, CONE = 18, 19, 20, 21


def fill_block(street: Street, block: Block, density: Density, rng: np.random.Generator) -> list[SceneObject]:
    """Make everything on a block but its ground."""
    out: list[SceneObject] = []
    wood, metal = draw_material("bark", rng), draw_material("metal", rng)
    leaf = draw_material("leaf", rng)
    for number in block.open_edges:
        edge = Edge(street, block, number)
        out += buildings(edge, rng)
        out += _kerbside(edge, density, rng, {"metal": metal, "bark": wood, "leaf": leaf})
        if block.style != "urban" or rng.random() < 0.2:
            out += border(edge, density, rng)
            out += yard(edge, density, rng)
    return out


def _kerbside(
    edge: Edge, density: Density, rng: np.random.Generator, shared: dict[str, Material]
) -> list[SceneObject]:
    """Things in the verge or along the kerb."""
    block = edge.block
    line = 0.15 + max(block.verge / 2, 0.45)
    out: list[SceneObject] = []

    def put(template, raw_class, u, inset, yaw=0.0, scale=(1.0, 1.0, 1.0), **more) -> None:  # type: ignore[no-untyped-def]
        out.append(instance(template, raw_class, edge.pose(u, inset, yaw), rng, scale, **more))

    if density.trees:
        kind = int(rng.integers(vegetation.N_TREES))
        step = 100 / density.trees
        for u in np.arange(rng.uniform(2, 8), edge.length - 4, max(step, 5)):
            if edge.on_driveway(u, 0.7) or rng.random() < 0.15:
                continue
            number = kind if rng.random() < 0.7 else int(rng.integers(vegetation.N_TREES))
            size = rng.uniform(0.6, 1.15)
            paint = shared if rng.random() < 0.6 else None
            put(
                vegetation.tree(number),
                CROWN,
                u,
                line + rng.normal(0, 0.1),
                rng.uniform(0, 6.28),
                (size, size, size * rng.uniform(0.8, 1.1)),
                materials=paint,
            )
    lamp = int(rng.integers(street_furniture.N_POLES))
    for u in np.arange(rng.uniform(1, 15), edge.length, 100 / density.poles):
        number = lamp if rng.random() < 0.8 else int(rng.integers(street_furniture.N_POLES))
        put(
            street_furniture.pole(number),
            POLE,
            u,
            rng.uniform(0.4, line + 0.2),
            rng.normal(0, 0.05),
            materials={"metal": shared["metal"]},
        )
    for u in random_spots(edge, density.signs, rng):
        number = int(rng.integers(street_furniture.N_SIGNS))
        if number % 8 == 7 and (edge.edge or rng.random() < 0.7):
            number -= 1
        facing = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.15)
        if number % 8 == 7:
            facing = edge.block.side * -np.pi / 2 if edge.edge == 0 else 0.0
        put(street_furniture.sign(number), SIGN, u, rng.uniform(0.35, line + 0.3), facing)
    if edge.edge == 0:
        for place, open_edge in ((4.0, 3), (edge.length - 4.0, 1)):
            if open_edge in block.open_edges and rng.random() < 0.6:
                number = int(rng.integers(street_furniture.N_LIGHTS))
                put(
                    street_furniture.traffic_light(number), LIGHT, place, 0.8, rng.choice([-1, 1]) * np.pi / 2
                )
    for u in random_spots(edge, density.things, rng):
        inset = (
            rng.uniform(0.5, 0.3 + block.verge + block.sidewalk)
            if rng.random() < 0.6
            else 0.2 + block.verge + block.sidewalk
        )
        put(
            street_furniture.thing(int(rng.integers(street_furniture.N_THINGS))),
            WALL if rng.random() < 0.5 else BUILDING,
            u,
            inset,
            rng.choice([0, 0, np.pi / 2]) + rng.normal(0, 0.1),
        )
    for u in random_spots(edge, density.bicycles, rng):
        row = int(rng.integers(1, 5))
        for k in range(row):
            put(
                people.bicycle(int(rng.integers(people.N_BICYCLES))),
                BICYCLE,
                u + 0.55 * k,
                0.7 + block.verge,
                rng.normal(0, 0.25) + (np.pi / 2 if row == 1 else 0),
            )
    for u in random_spots(edge, density.cones, rng):
        put(
            street_furniture.traffic_cone(int(rng.integers(street_furniture.N_CONES))),
            CONE,
            u,
            rng.uniform(-2, 1.5),
            rng.uniform(0, 3),
        )
    return out
