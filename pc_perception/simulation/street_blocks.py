# SPDX-License-Identifier: Apache-2.0
"""What stands on a block: buildings, fences, hedges, trees, lamps, signs and street street_furniture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation import people, street_furniture, vegetation
from pc_perception.simulation.buildings import building
from pc_perception.simulation.materials import Material, draw_material
from pc_perception.simulation.scene import SceneObject
from pc_perception.simulation.street_layout import Block, Street
from pc_perception.simulation.template import instance

CROWN, BUSH, BUILDING, FENCE, WALL, BICYCLE = 5, 7, 8, 9, 10, 17
POLE, SIGN, LIGHT, CONE = 18, 19, 20, 21
OUT = {0: -np.pi / 2, 1: 0.0, 3: np.pi}


@dataclass(frozen=True)
class Density:
    """How often things stand along a kerb, per 100 m, for one scene; wide draws make scenes differ."""

    trees: float
    yard_trees: float
    bushes: float
    poles: float
    signs: float
    things: float
    bicycles: float
    cones: float
    fence_share: float
    hedge_share: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Density:
        """Draw one scene's densities."""

        def some(high: float, share: float) -> float:
            return float(high * rng.random() ** 1.5) if rng.random() < share else 0.0

        leafy = rng.uniform(1.5, 3.0) if rng.random() < 0.4 else 1.0
        hedges = rng.uniform(0, 0.5) if leafy == 1.0 else rng.uniform(0.3, 0.8)
        return cls(
            some(16, 0.75), some(10, 0.8) * leafy, some(20, 0.8) * leafy, rng.uniform(1.5, 6), some(7, 0.9),
            some(9, 0.85), some(6, 0.5), some(8, 0.3), rng.uniform(0, 0.6) / leafy, hedges,
        )  # fmt: skip


class Edge:
    """One side of a block, with a road before it: ``u`` runs along the kerb, ``inset`` away from it."""

    def __init__(self, street: Street, block: Block, edge: int) -> None:
        self.street, self.block, self.edge = street, block, edge
        long = block.s_high - block.s_low
        self.length = long if edge == 0 else min(block.t_high - block.t_low, 60.0)

    def spot(self, u: float, inset: float) -> tuple[float, float]:
        """Street coordinates (s, t)."""
        b = self.block
        if self.edge == 0:
            s, t = b.s_low + u, b.t_low + inset
        else:
            s, t = (b.s_high - inset if self.edge == 1 else b.s_low + inset), b.t_low + u
        return s + b.skew * t, b.side * t

    def pose(self, u: float, inset: float, yaw: float = 0.0, sink: float = 0.0) -> NDArray:
        """(4, 4) pose of a thing whose x axis looks at the road, turned by ``yaw``."""
        s, t = (float(v) for v in self.spot(u, inset))
        b = self.block
        local = s - b.skew * abs(t)
        z = float(self.street.road_height(s, t) + b.lift(local, abs(t), b.inset(s, t))) - sink
        out = OUT[self.edge] * (b.side if self.edge == 0 else 1)
        return self.street.pose(s, t, out + yaw, z)

    def on_driveway(self, u: float, room: float) -> bool:
        """True where ``u`` lies within ``room`` metres of a driveway."""
        if self.edge != 0 or not len(self.block.driveways):
            return False
        d = np.abs(self.block.driveways[:, 0] - self.block.s_low - u) - self.block.driveways[:, 1] / 2
        return bool((d < room).any())


def fill_block(street: Street, block: Block, density: Density, rng: np.random.Generator) -> list[SceneObject]:
    """Make everything on a block but its ground."""
    out: list[SceneObject] = []
    wood, metal = draw_material("bark", rng), draw_material("metal", rng)
    leaf = draw_material("leaf", rng)
    for number in block.open_edges:
        edge = Edge(street, block, number)
        out += _buildings(edge, rng)
        out += _kerbside(edge, density, rng, {"metal": metal, "bark": wood, "leaf": leaf})
        if block.style in ("suburban", "park", "industrial", "commercial"):
            out += _border(edge, density, rng)
            out += _yard(edge, density, rng)
    return out


def _spots(edge: Edge, per_100m: float, rng: np.random.Generator, margin: float = 3.0) -> NDArray:
    n = rng.poisson(per_100m * max(edge.length - 2 * margin, 0) / 100)
    return rng.uniform(margin, max(edge.length - margin, margin + 0.1), n)


def _buildings(edge: Edge, rng: np.random.Generator) -> list[SceneObject]:
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
    for u in _spots(edge, density.signs, rng):
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
    for u in _spots(edge, density.things, rng):
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
    for u in _spots(edge, density.bicycles, rng):
        row = int(rng.integers(1, 5))
        for k in range(row):
            put(
                people.bicycle(int(rng.integers(people.N_BICYCLES))),
                BICYCLE,
                u + 0.55 * k,
                0.7 + block.verge,
                rng.normal(0, 0.25) + (np.pi / 2 if row == 1 else 0),
            )
    for u in _spots(edge, density.cones, rng):
        put(
            street_furniture.traffic_cone(int(rng.integers(street_furniture.N_CONES))),
            CONE,
            u,
            rng.uniform(-2, 1.5),
            rng.uniform(0, 3),
        )
    return out


def _border(edge: Edge, density: Density, rng: np.random.Generator) -> list[SceneObject]:
    """Fences, walls and hedges between sidewalk and plot, piece by piece of 4 m."""
    out = []
    inset = 0.4 + edge.block.verge + edge.block.sidewalk + rng.uniform(0, 0.6)
    u = 6.0
    while u < edge.length - 6:
        run = int(rng.integers(2, 8))
        pick = rng.random()
        number, height = int(rng.integers(24)), rng.uniform(0.6, 1.25)
        drawn = {k: draw_material(k, rng) for k in ("wood", "metal", "mesh", "concrete", "leaf")}
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


def _yard(edge: Edge, density: Density, rng: np.random.Generator) -> list[SceneObject]:
    """Trees and bushes on the plot."""
    out = []
    first = 1.0 + edge.block.verge + edge.block.sidewalk
    more = 2.5 if edge.block.style == "park" else 1.0
    for u in _spots(edge, density.yard_trees * more, rng):
        if edge.on_driveway(u, 1.0):
            continue
        T = edge.pose(u, first + rng.exponential(5.0 * more), rng.uniform(0, 6.28))
        size = rng.uniform(0.5, 1.3)
        tree = vegetation.tree(int(rng.integers(vegetation.N_TREES)))
        out.append(instance(tree, CROWN, T, rng, (size, size, size * rng.uniform(0.8, 1.15))))
    for u in _spots(edge, density.bushes * more, rng):
        if edge.on_driveway(u, 0.8):
            continue
        T = edge.pose(u, first + rng.exponential(2.5 * more), rng.uniform(0, 6.28))
        size = rng.uniform(0.5, 1.8)
        plant = vegetation.bush(int(rng.integers(vegetation.N_BUSHES)))
        out.append(instance(plant, BUSH, T, rng, (size * rng.uniform(0.7, 1.6), size, size)))
    return out
