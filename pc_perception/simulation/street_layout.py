# SPDX-License-Identifier: Apache-2.0
"""The plan of a street: a curved centre line, the lie of the land, and blocks between crossings.

Street coordinates: ``s`` metres along the centre line, ``t`` metres to its left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

STYLES = ("urban", "suburban", "park", "commercial", "industrial")


@dataclass(frozen=True)
class Street:
    """Centre line, widths and relief. ``waves`` rows: amplitude, wave number in s and t, phase."""

    s: NDArray
    x: NDArray
    y: NDArray
    heading: NDArray
    lane_width: float
    n_lanes: int
    parking_width: float
    median: float
    crown: float
    hills: NDArray
    bumps: NDArray
    cross_slope: float
    half_width: float
    half_extent: float

    def to_world(self, s: ArrayLike, t: ArrayLike) -> tuple[NDArray, NDArray]:
        """Map street to world coordinates (x, y)."""
        s, t = np.asarray(s, float), np.asarray(t, float)
        psi = np.interp(s, self.s, self.heading)
        x, y = np.interp(s, self.s, self.x), np.interp(s, self.s, self.y)
        return x - t * np.sin(psi), y + t * np.cos(psi)

    def road_height(self, s: ArrayLike, t: ArrayLike) -> Any:
        """Height of the carriageway, metres: hills, cross fall, crown and bumps."""
        if isinstance(s, float) and isinstance(t, float):
            return self._height_at(s, t)
        s, t = np.asarray(s, float), np.asarray(t, float)
        z = self.cross_slope * t - self.crown * np.minimum(np.abs(t), self.half_width)
        for a, ks, kt, phase in self._waves:
            z = z + a * np.sin(ks * s + kt * t + phase)
        return z

    def _height_at(self, s: float, t: float) -> float:
        """``road_height`` of one place; things are placed one by one, and arrays of one are slow."""
        z = self.cross_slope * t - self.crown * min(abs(t), self.half_width)
        return z + sum(a * math.sin(ks * s + kt * t + phase) for a, ks, kt, phase in self._waves)

    @cached_property
    def _waves(self) -> list[list[float]]:
        return np.concatenate([self.hills, self.bumps]).tolist()

    def pose(self, s: float, t: float, yaw: float = 0.0, z: float | None = None) -> NDArray:
        """(4, 4) pose of an upright thing at (s, t), turned by ``yaw`` from the street's direction."""
        s, t = float(s), float(t)
        x, y = self.to_world(s, t)
        psi = float(np.interp(s, self.s, self.heading)) + yaw
        T = np.eye(4)
        c, n = np.cos(psi), np.sin(psi)
        T[:2, :2] = [[c, -n], [n, c]]
        T[:3, 3] = x, y, float(self.road_height(s, t)) if z is None else z
        return T

    def tilted_pose(self, s: float, t: float, yaw: float = 0.0, z: float | None = None) -> NDArray:
        """Like ``pose``, but standing square on the sloping ground."""
        s, t = float(s), float(t)
        T = self.pose(s, t, yaw, z)
        c, n = math.cos(yaw), math.sin(yaw)
        h = self._height_at
        ahead = (h(s + c, t + n) - h(s - c, t - n)) / 2
        left = (h(s - n, t + c) - h(s + n, t - c)) / 2
        x_axis = T[:3, :3] @ (1, 0, ahead) / math.hypot(1, ahead)
        z_axis = T[:3, :3] @ (-ahead, -left, 1) / math.sqrt(1 + ahead**2 + left**2)
        y_axis = np.cross(z_axis, x_axis)
        y_axis /= np.linalg.norm(y_axis)
        T[:3, :3] = np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)], 1)
        return T


@dataclass(frozen=True)
class Block:
    """Land between roads: a rectangle with round corners in street coordinates, raised by a kerb.

    ``bands`` are the distances from the kerb where verge, sidewalk and plot end; ``open_edges`` name the
    sides along which there is a road: 0 front (low |t|), 1 high s, 3 low s.
    """

    s_low: float
    s_high: float
    t_low: float
    t_high: float
    side: int
    radius: float
    kerb: float
    verge: float
    sidewalk: float
    style: str
    bank: float
    bank_run: float
    ruggedness: NDArray
    driveways: NDArray
    open_edges: tuple[int, ...]
    skew: float

    def inset(self, s: ArrayLike, t: ArrayLike) -> Any:
        """Distance from the kerb line inwards, metres (negative on the road)."""
        if isinstance(s, float) and isinstance(t, float):
            across, along = abs(t), s - self.skew * abs(t)
            return min(along - self.s_low, self.s_high - along, across - self.t_low, self.t_high - across)
        across = np.abs(np.asarray(t, float))
        along = np.asarray(s, float) - self.skew * across
        sides = (along - self.s_low, self.s_high - along, across - self.t_low, self.t_high - across)
        return np.minimum.reduce(np.broadcast_arrays(*sides))

    def lift(self, s: ArrayLike, t: ArrayLike, inset: ArrayLike) -> Any:
        """Height above the carriageway's surface, metres."""
        if isinstance(s, float) and isinstance(t, float) and isinstance(inset, float):
            return self._lift_at(s, t, inset)
        inset = np.asarray(inset, float)
        edge = self.verge + self.sidewalk
        share = np.clip((inset - edge) / self.bank_run, 0, 1)
        z = self.kerb + 0.02 * np.clip(inset, 0, edge) + self.bank * share * share * (3 - 2 * share)
        uneven = np.clip((inset - edge) / 1.5, 0, 1)
        for a, ks, kt, phase in self.ruggedness:
            z = z + uneven * a * np.sin(ks * np.asarray(s) + kt * np.asarray(t) + phase)
        return np.maximum(z, 0.03)  # the carriageway runs on below

    def _lift_at(self, s: float, t: float, inset: float) -> float:
        """``lift`` of one place, without arrays of one."""
        edge = self.verge + self.sidewalk
        share = min(max((inset - edge) / self.bank_run, 0.0), 1.0)
        z = self.kerb + 0.02 * min(max(inset, 0.0), edge) + self.bank * share * share * (3 - 2 * share)
        uneven = min(max((inset - edge) / 1.5, 0.0), 1.0)
        if uneven:
            waves = self.ruggedness.tolist()
            z += uneven * sum(a * math.sin(ks * s + kt * t + phase) for a, ks, kt, phase in waves)
        return max(z, 0.03)


def make_street_line(rng: np.random.Generator, length: float) -> Street:
    """Draw a street of at least ``length`` metres, with its ends far behind them."""
    margin = 92.0
    s = np.arange(-margin, length + margin + 2.0, 2.0)
    kappa_max = 0.0 if rng.random() < 0.45 else rng.uniform(1 / 400, 1 / 70)
    kappa = np.zeros_like(s)
    for _ in range(2):
        kappa += 0.5 * np.sin(2 * np.pi * s / rng.uniform(120, 420) + rng.uniform(0, 6.28))
    kappa *= kappa_max
    heading = np.cumsum(kappa) * 2.0
    heading -= np.interp(0.0, s, heading)
    x, y = np.cumsum(np.cos(heading)) * 2.0, np.cumsum(np.sin(heading)) * 2.0
    x -= np.interp(0.0, s, x)
    y -= np.interp(0.0, s, y)
    n_lanes = int(rng.choice([1, 1, 1, 2, 2, 3]))
    lane = rng.uniform(2.7, 3.7)
    parking = rng.uniform(2.0, 2.6) if rng.random() < 0.65 else rng.uniform(0.0, 0.8)
    median = rng.uniform(0.8, 5.0) if n_lanes > 1 and rng.random() < 0.4 else 0.0
    half = median / 2 + n_lanes * lane + parking
    hills = _waves(rng, 2, (0.0, 0.8) if rng.random() < 0.6 else (0.5, 3.0), (90, 300))
    bumps = _waves(rng, 3, (0.002, 0.025), (7, 30))
    extent = min(85.0, 0.8 / kappa_max if kappa_max else 85.0)
    return Street(
        s, x, y, heading, lane, n_lanes, parking, median, rng.uniform(0.0, 0.03), hills, bumps,
        rng.normal(0, 0.012), half, max(extent, half + 25),
    )  # fmt: skip


def _waves(
    rng: np.random.Generator, n: int, amplitude: tuple[float, float], length: tuple[float, float]
) -> NDArray:
    """(n, 4) random plane waves: amplitude, wave number in s and t, phase."""
    k = 2 * np.pi / rng.uniform(length[0], length[1], n)
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack(
        [rng.uniform(amplitude[0], amplitude[1], n), k * np.cos(angle), k * np.sin(angle), angle * 3], 1
    )


def make_blocks(
    rng: np.random.Generator, street: Street, crossings: list[tuple[float, float]]
) -> list[Block]:
    """Cut the land on both sides into blocks; ``crossings`` are (s, half width) of the side roads."""
    first, last = float(street.s[0]) + 8, float(street.s[-1]) - 8
    town = str(rng.choice(STYLES, p=[0.36, 0.3, 0.1, 0.16, 0.08]))
    skew = float(rng.normal(0, 0.12)) if crossings and rng.random() < 0.5 else 0.0
    out = []
    for side in (-1, 1):
        # Some crossings are T-junctions: one side's block runs through.
        cuts = [c for c in crossings if rng.random() < 0.75]
        edges = [(first, 0.0), *cuts, (last, 0.0)]
        walk, verge = _bands(rng, town)
        kerb = rng.uniform(0.08, 0.2) if walk and rng.random() < 0.92 else rng.uniform(0.0, 0.05)
        for (a, wa), (b, wb) in pairwise(edges):
            low, high = a + wa, b - wb
            if high - low < 25:
                continue
            style = town if rng.random() < 0.7 else str(rng.choice(STYLES))
            open_edges = (0,) + ((1,) if wb else ()) + ((3,) if wa else ())
            n_drives = int(rng.poisson((high - low) / 25))
            drives = np.stack([rng.uniform(low + 9, high - 9, n_drives), rng.uniform(2.5, 7, n_drives)], 1)
            steep = rng.random()
            bank = rng.uniform(-0.3, 0.4) if steep < 0.75 else rng.uniform(0.5, 3.0)
            if style in ("urban", "commercial"):
                bank *= 0.15
            rugged = _waves(rng, 4, (0.005, 0.1 if style != "urban" else 0.012), (2.5, 16))
            out.append(
                Block(
                    low, high, street.half_width, street.half_extent, side, rng.uniform(2, 7), kerb, verge,
                    walk, style, bank, rng.uniform(1.5, 10), rugged, drives, open_edges, skew * side,
                )
            )  # fmt: skip
    return out


def _bands(rng: np.random.Generator, town: str) -> tuple[float, float]:
    """Draw the widths of sidewalk and verge; a country road has neither sidewalk nor kerb."""
    if town in ("suburban", "park", "industrial") and rng.random() < 0.2:
        return 0.0, rng.uniform(1.0, 3.5)
    walk = rng.uniform(1.5, 4.5) if town in ("urban", "commercial") else rng.uniform(1.1, 2.6)
    has_verge = rng.random() < (0.2 if town == "urban" else 0.6)
    return walk, rng.uniform(0.5, 3.5) if has_verge else 0.0
