# SPDX-License-Identifier: Apache-2.0
"""What uses a street: moving and parked vehicles, cyclists and pedestrians."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pc_perception.simulation import people, trucks, vehicles
from pc_perception.simulation.scene import SceneObject
from pc_perception.simulation.street_edge import Edge
from pc_perception.simulation.street_layout import Block, Street
from pc_perception.simulation.template import Template, instance

CAR, TRUCK, BUS, TRAILER, PEDESTRIAN, CYCLIST = 11, 12, 13, 14, 15, 16
Crossings = list[tuple[float, float]]


def draw_vehicle(rng: np.random.Generator, heavy: float) -> tuple[Template, int, tuple[float, float, float]]:
    """Draw a vehicle: (template, raw class, scale); ``heavy`` is the share of trucks, buses, trailers."""
    stretch = tuple(rng.uniform(0.94, 1.06, 3).tolist())
    if rng.random() >= heavy:
        return vehicles.car(int(rng.integers(vehicles.N_CARS))), CAR, stretch
    pick = rng.random()
    if pick < 0.55:
        return trucks.truck(int(rng.integers(trucks.N_TRUCKS))), TRUCK, stretch
    if pick < 0.8:
        return trucks.bus(int(rng.integers(trucks.N_BUSES))), BUS, stretch
    return trucks.trailer(int(rng.integers(trucks.N_TRAILERS))), TRAILER, stretch


def _along(street: Street, s0: float, t: float, speed: float, yaw: float = 0.0) -> Callable[[float], NDArray]:
    """Motion along the street at ``speed`` (negative: against s)."""
    turn = yaw + (np.pi if speed < 0 else 0.0)
    low, high = float(street.s[0]) + 3, float(street.s[-1]) - 3
    return lambda time_s: street.tilted_pose(float(np.clip(s0 + speed * time_s, low, high)), t, turn)


def moving_traffic(
    street: Street, ego: tuple[int, float, float], rng: np.random.Generator
) -> list[SceneObject]:
    """Fill the lanes; ``ego`` is (lane, start s, speed) of the sensor's own vehicle.

    Vehicles of the ego's lane keep its speed, so that nothing ever drives through anything.
    """
    busy, heavy = rng.uniform(10, 100), rng.uniform(0.03, 0.16)
    jam = rng.random() < 0.3
    out = []
    for side in (-1, 1):
        for lane in range(street.n_lanes):
            t = side * (street.median / 2 + (lane + 0.5) * street.lane_width)
            speed = 0.0 if jam and rng.random() < 0.7 else rng.uniform(2, 15)
            own = side == -1 and lane == ego[0]
            speed = ego[2] if own else speed
            s = float(street.s[0]) + 12 + rng.exponential(busy)
            while s < street.s[-1] - 15:
                template, raw_class, scale = draw_vehicle(rng, heavy)
                length = float(template.high[0] - template.low[0]) * scale[0]
                middle = s + length / 2
                clear = abs(middle - ego[1]) > length / 2 + 5.5
                if clear or not own:
                    off, way = t + rng.normal(0, 0.2), -side * speed
                    yaw = rng.normal(0, 0.02)
                    if speed:
                        motion = _along(street, middle, off, way, yaw)
                        out.append(instance(template, raw_class, motion(0.0), rng, scale, motion=motion))
                    else:
                        T = street.tilted_pose(middle, off, yaw + (np.pi if side > 0 else 0))
                        out.append(instance(template, raw_class, T, rng, scale))
                s += length + 2.0 + rng.exponential(0.15 * busy if not speed else busy)
    return out


def parked(street: Street, blocks: list[Block], rng: np.random.Generator) -> list[SceneObject]:
    """Park vehicles along kerbs, on side roads, on driveways and on lots."""
    out: list[SceneObject] = []
    share, heavy = rng.uniform(0.1, 1.0), rng.uniform(0.0, 0.15)
    for block in blocks:
        front = Edge(street, block, 0)
        if street.parking_width > 1.7 and rng.random() < 0.9:
            out += _row(front, -street.parking_width / 2, share, heavy, rng)
        elif rng.random() < 0.3:
            out += _row(front, rng.uniform(-0.9, 0.5), 0.15, heavy, rng)
        for number in block.open_edges:
            if number and rng.random() < 0.6:
                out += _row(Edge(street, block, number), -1.2, share * 0.7, heavy, rng)
        out += _driveways(front, rng)
        if block.style in ("commercial", "industrial") and rng.random() < 0.7:
            out += _lot(front, share, rng)
    return out


def _row(edge: Edge, inset: float, share: float, heavy: float, rng: np.random.Generator) -> list[SceneObject]:
    out, u = [], edge.block.radius + rng.uniform(1, 5)
    way = rng.choice([-1, 1]) * np.pi / 2
    while u < edge.length - 9:
        template, raw_class, scale = draw_vehicle(rng, heavy)
        length = float(template.high[0] - template.low[0]) * scale[0]
        if rng.random() < share and not edge.on_driveway(u + length / 2, length * 0.45):
            s, t = edge.spot(u + length / 2, inset + rng.normal(0, 0.1))
            turn = way + (np.pi if rng.random() < 0.05 else 0.0) + rng.normal(0, 0.03)
            base = {0: -np.pi / 2 * edge.block.side, 1: 0.0, 3: np.pi}[edge.edge]
            T = edge.street.tilted_pose(s, t, base + turn)
            if inset > 0.1:
                T[2, 3] += edge.block.kerb * 0.5
            out.append(instance(template, raw_class, T, rng, scale))
        u += length + 0.5 + rng.exponential(0.9)
    return out


def _driveways(edge: Edge, rng: np.random.Generator) -> list[SceneObject]:
    out = []
    for center, _ in edge.block.driveways:
        if edge.block.style in ("suburban", "commercial") and rng.random() < 0.45:
            template, raw_class, scale = draw_vehicle(rng, 0.02)
            inset = edge.block.verge + edge.block.sidewalk + rng.uniform(2.2, 5)
            T = edge.pose(center - edge.block.s_low, inset, rng.choice([0.0, np.pi]) + rng.normal(0, 0.04))
            out.append(instance(template, raw_class, T, rng, scale))
    return out


def _lot(edge: Edge, share: float, rng: np.random.Generator) -> list[SceneObject]:
    """Rows of cars square to the road, before the buildings."""
    out = []
    inset = edge.block.verge + edge.block.sidewalk + rng.uniform(3.0, 4.5)
    slant = rng.choice([0.0, 0.0, 0.5])
    for u in np.arange(8, edge.length - 8, rng.uniform(2.5, 3.0)):
        if rng.random() < 0.6 * share and not edge.on_driveway(u, 1.3):
            template, raw_class, scale = draw_vehicle(rng, 0.03)
            T = edge.pose(
                u, inset + rng.normal(0, 0.2), slant + rng.choice([0.0, np.pi]) + rng.normal(0, 0.03)
            )
            out.append(instance(template, raw_class, T, rng, scale))
    return out


def side_roads(
    street: Street, blocks: list[Block], crossings: Crossings, rng: np.random.Generator
) -> list[SceneObject]:
    """Vehicles that wait on side roads, clear of the main road."""
    out: list[SceneObject] = []
    skew = blocks[0].skew * blocks[0].side if blocks else 0.0
    for s, width in crossings:
        for side in (-1, 1):
            t = street.half_width + rng.uniform(4, 8)
            for _ in range(int(rng.integers(0, 4))):
                template, raw_class, scale = draw_vehicle(rng, 0.1)
                length = float(template.high[0] - template.low[0])
                if t + length > street.half_extent - 5:
                    break
                tt = side * (t + length / 2)
                if any(b.side == side and b.inset(s + skew * tt, tt) > -width for b in blocks):
                    break  # the side road ends at this side's block
                T = street.tilted_pose(s + side * width / 2 + skew * tt, tt, -side * np.pi / 2 - 0.8 * skew)
                out.append(instance(template, raw_class, T, rng, scale))
                t += length + rng.uniform(1, 15)
    return out


def cyclists(street: Street, rng: np.random.Generator) -> list[SceneObject]:
    """Riders near the outer edge of the lanes."""
    out = []
    for _ in range(int(rng.poisson(rng.choice([0.5, 2.0, 5.0])))):
        side = int(rng.choice([-1, 1]))
        room = street.half_width - street.parking_width
        t = side * (room - rng.uniform(0.2, 0.9))
        speed = rng.uniform(2, 7) * (rng.random() < 0.85)
        s = rng.uniform(street.s[0] + 20, street.s[-1] - 20)
        rider = people.cyclist(int(rng.integers(people.N_CYCLISTS)))
        if speed:
            motion = _along(street, s, t, -side * speed, rng.normal(0, 0.05))
            out.append(instance(rider, CYCLIST, motion(0.0), rng, motion=motion))
        else:
            out.append(instance(rider, CYCLIST, street.tilted_pose(s, t, rng.normal(0, 0.2)), rng))
    return out


def pedestrians(
    street: Street, blocks: list[Block], crossings: Crossings, rng: np.random.Generator
) -> list[SceneObject]:
    """People alone and in groups on sidewalks, and some who cross the road."""
    out = []
    rate = rng.choice([0.5, 3.0, 9.0])
    for block in blocks:
        edge = Edge(street, block, 0)
        for u in rng.uniform(4, edge.length - 4, rng.poisson(rate * edge.length / 100)):
            way = rng.choice([-1, 1]) * np.pi / 2
            inset = 0.2 + block.verge + rng.uniform(0.1, 0.9) * block.sidewalk
            speed = rng.uniform(0.6, 1.8) if rng.random() < 0.6 else 0.0
            for _ in range(int(rng.choice([1, 1, 1, 2, 3, 5]))):
                T = edge.pose(
                    u + rng.normal(0, 0.6), inset + rng.normal(0, 0.4), way if speed else rng.uniform(0, 6.28)
                )
                out.append(_person(T, speed, rng))
    spots = [s + f * (w + 3) for s, w in crossings for f in (-1, 1)]
    spots += rng.uniform(street.s[0] + 20, street.s[-1] - 20, 2).tolist()
    for s in spots:
        for _ in range(int(rng.poisson(0.25 * rate))):
            t = rng.uniform(-1, 1) * street.half_width
            way = rng.choice([-1, 1]) * np.pi / 2
            out.append(_person(street.pose(s + rng.normal(0, 1.0), t, way), rng.uniform(0.5, 1.6), rng))
    return out


def _person(T: NDArray, speed: float, rng: np.random.Generator) -> SceneObject:
    size = rng.uniform(0.93, 1.07)
    scale = (size * rng.uniform(0.9, 1.15), size * rng.uniform(0.9, 1.15), size)
    template = people.pedestrian(int(rng.integers(people.N_PEDESTRIANS)))
    return instance(template, PEDESTRIAN, T, rng, scale, velocity=speed * T[:3, 0])
