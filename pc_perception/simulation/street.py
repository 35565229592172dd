# SPDX-License-Identifier: Apache-2.0
"""Random streets, endless and decided by their seed alone."""

from __future__ import annotations

import numpy as np

from pc_perception.simulation import street_traffic as traffic
from pc_perception.simulation.overlap import without_overlaps
from pc_perception.simulation.scene import Scene, SceneObject
from pc_perception.simulation.street_blocks import fill_block
from pc_perception.simulation.street_edge import Density
from pc_perception.simulation.street_ground import block_ground, carriageway, markings, median_strip
from pc_perception.simulation.street_layout import make_blocks, make_street_line


def make_street(seed: int, length_m: float = 20.0, speed: float = 8.0) -> Scene:
    """Make a street with everything on it.

    Args:
        seed: decides everything; two calls with one seed give the same scene.
        length_m: how far the scene's ``path`` (the sensor vehicle's way along its lane) leads.
        speed: of the sensor vehicle, m/s; traffic in its own lane keeps it too.

    Returns:
        A scene with label set ``simulation_street`` and a path.

    Raises:
        ValueError: ``length_m`` or ``speed`` is negative.
    """
    if length_m < 0 or speed < 0:
        raise ValueError(f"length and speed must not be negative, got {length_m} m and {speed} m/s")
    rng = np.random.default_rng([20260101, seed])
    street = make_street_line(rng, length_m)
    crossings = _crossings(rng, float(street.s[0]), float(street.s[-1]))
    blocks = make_blocks(rng, street, crossings)
    density = Density.draw(rng)
    lane = int(rng.integers(street.n_lanes))
    t_ego = -(street.median / 2 + (lane + 0.5) * street.lane_width) + rng.normal(0, 0.2)
    objects: list[SceneObject] = [carriageway(street, rng), markings(street, crossings, rng)]
    objects += median_strip(street, crossings, rng)
    for block in blocks:
        objects += block_ground(street, block, rng)
        objects += fill_block(street, block, density, rng)
    objects += traffic.parked(street, blocks, rng)
    objects += traffic.moving_traffic(street, (lane, 0.0, speed), rng)
    objects += traffic.side_roads(street, blocks, crossings, rng)
    objects += traffic.cyclists(street, rng)
    objects += traffic.pedestrians(street, blocks, crossings, rng)
    sun = rng.normal(size=3) * [1, 1, 0.3] + [0, 0, 1]
    return Scene.build(
        without_overlaps(objects),
        "simulation_street",
        sun=sun / np.linalg.norm(sun),
        ambient=float(rng.uniform(0.35, 0.7)),
        path=lambda distance: street.tilted_pose(distance, t_ego),
        path_length=length_m,
    )


def _crossings(rng: np.random.Generator, first: float, last: float) -> list[tuple[float, float]]:
    """(s, half width) of side roads, at least 35 m apart."""
    if rng.random() < 0.25:
        return []
    out, s = [], first + rng.uniform(20, 110)
    while s < last - 20:
        out.append((float(s), float(rng.uniform(3.0, 7.5))))
        s += 35 + rng.exponential(70)
    return out
