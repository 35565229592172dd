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
    side = _Kerbside(edge, density, rng)
    side.trees(shared)
    side.poles(shared["metal"])
    side.signs()
    side.traffic_lights()
    side.things()
    side.bicycles()
    side.cones()
    return side.out


class _Kerbside:
    """Fills one edge of a block; ``line`` is how far behind the kerb trees and poles stand in a row."""

    def __init__(self, edge: Edge, density: Density, rng: np.random.Generator) -> None:
        self.edge, self.density, self.rng = edge, density, rng
        self.line = 0.15 + max(edge.block.verge / 2, 0.45)
        self.out: list[SceneObject] = []

    def put(self, template, raw_class, u, inset, yaw=0.0, scale=(1.0, 1.0, 1.0), **more) -> None:  # type: ignore[no-untyped-def]
        pose = self.edge.pose(u, inset, yaw)
        self.out.append(instance(template, raw_class, pose, self.rng, scale, **more))

    def trees(self, shared: dict[str, Material]) -> None:
        """A row of trees, mostly of one kind."""
        if not self.density.trees:
            return
        rng, edge = self.rng, self.edge
        kind = int(rng.integers(vegetation.N_TREES))
        for u in np.arange(rng.uniform(2, 8), edge.length - 4, max(100 / self.density.trees, 5)):
            if edge.on_driveway(u, 0.7) or rng.random() < 0.15:
                continue
            number = kind if rng.random() < 0.7 else int(rng.integers(vegetation.N_TREES))
            size = rng.uniform(0.6, 1.15)
            paint = shared if rng.random() < 0.6 else None
            inset, yaw = self.line + rng.normal(0, 0.1), rng.uniform(0, 6.28)
            scale = (size, size, size * rng.uniform(0.8, 1.1))
            self.put(vegetation.tree(number), CROWN, u, inset, yaw, scale, materials=paint)

    def poles(self, metal: Material) -> None:
        """Street lamps of mostly one kind, and other poles."""
        rng = self.rng
        lamp = int(rng.integers(street_furniture.N_POLES))
        for u in np.arange(rng.uniform(1, 15), self.edge.length, 100 / self.density.poles):
            number = lamp if rng.random() < 0.8 else int(rng.integers(street_furniture.N_POLES))
            inset, yaw = rng.uniform(0.4, self.line + 0.2), rng.normal(0, 0.05)
            self.put(street_furniture.pole(number), POLE, u, inset, yaw, materials={"metal": metal})

    def signs(self) -> None:
        """Traffic signs that face along the street, name plates and the like."""
        rng, edge = self.rng, self.edge
        for u in random_spots(edge, self.density.signs, rng):
            number = int(rng.integers(street_furniture.N_SIGNS))
            if number % 8 == 7 and (edge.edge or rng.random() < 0.7):
                number -= 1
            facing = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.15)
            if number % 8 == 7:
                facing = edge.block.side * -np.pi / 2 if edge.edge == 0 else 0.0
            self.put(street_furniture.sign(number), SIGN, u, rng.uniform(0.35, self.line + 0.3), facing)

    def traffic_lights(self) -> None:
        """Lights where the front edge meets a side road."""
        rng, edge = self.rng, self.edge
        if edge.edge != 0:
            return
        for place, open_edge in ((4.0, 3), (edge.length - 4.0, 1)):
            if open_edge in edge.block.open_edges and rng.random() < 0.6:
                light = street_furniture.traffic_light(int(rng.integers(street_furniture.N_LIGHTS)))
                self.put(light, LIGHT, place, 0.8, rng.choice([-1, 1]) * np.pi / 2)

    def things(self) -> None:
        """Bins, boxes, benches, hydrants."""
        rng, block = self.rng, self.edge.block
        behind = 0.2 + block.verge + block.sidewalk
        for u in random_spots(self.edge, self.density.things, rng):
            inset = rng.uniform(0.5, 0.3 + block.verge + block.sidewalk) if rng.random() < 0.6 else behind
            thing = street_furniture.thing(int(rng.integers(street_furniture.N_THINGS)))
            raw_class = WALL if rng.random() < 0.5 else BUILDING
            yaw = rng.choice([0, 0, np.pi / 2]) + rng.normal(0, 0.1)
            self.put(thing, raw_class, u, inset, yaw)

    def bicycles(self) -> None:
        """Parked bicycles, alone or in rows."""
        rng = self.rng
        for u in random_spots(self.edge, self.density.bicycles, rng):
            row = int(rng.integers(1, 5))
            for k in range(row):
                bicycle = people.bicycle(int(rng.integers(people.N_BICYCLES)))
                yaw = rng.normal(0, 0.25) + (np.pi / 2 if row == 1 else 0)
                self.put(bicycle, BICYCLE, u + 0.55 * k, 0.7 + self.edge.block.verge, yaw)

    def cones(self) -> None:
        """Traffic cones on either side of the kerb."""
        rng = self.rng
        for u in random_spots(self.edge, self.density.cones, rng):
            cone = street_furniture.traffic_cone(int(rng.integers(street_furniture.N_CONES)))
            self.put(cone, CONE, u, rng.uniform(-2, 1.5), rng.uniform(0, 3))
