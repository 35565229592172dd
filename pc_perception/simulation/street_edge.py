# SPDX-License-Identifier: Apache-2.0
"""Where things can stand along a block, and how often they do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation.street_layout import Block, Street

OUT = {0: -np.pi / 2, 1: 0.0, 3: np.pi}
"""Direction from a block's edge to the road before it, from the street's; 0 is for the left side."""


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


def random_spots(edge: Edge, per_100m: float, rng: np.random.Generator, margin: float = 3.0) -> NDArray:
    """Places ``u`` along an edge, ``per_100m`` on average."""
    n = rng.poisson(per_100m * max(edge.length - 2 * margin, 0) / 100)
    return rng.uniform(margin, max(edge.length - margin, margin + 0.1), n)
