# SPDX-License-Identifier: Apache-2.0
"""Analytic shapes with exact occupancy: sphere, box, torus, and a table of boxes, in the cube -1 .. 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

CLASSES = ("sphere", "box", "torus", "table")


@dataclass(frozen=True)
class Record:
    points: NDArray[np.float32]
    queries_vol: NDArray[np.float32]
    occupancy_vol: NDArray[np.bool_]
    queries_near: NDArray[np.float32]
    occupancy_near: NDArray[np.bool_]
    label: int
    name: str


Inside = Callable[[NDArray], NDArray]


def sphere(rng: Generator, n: int) -> tuple[NDArray, Inside]:
    r = rng.uniform(0.4, 0.95)
    v = rng.normal(size=(n, 3))
    return r * v / np.linalg.norm(v, axis=1, keepdims=True), lambda x: np.linalg.norm(x, axis=1) < r


def torus(rng: Generator, n: int) -> tuple[NDArray, Inside]:
    ring = rng.uniform(0.45, 0.6)
    r = rng.uniform(0.15, 0.3)
    turn = rng.uniform(0, 2 * np.pi, n)
    b = rng.uniform(0, 2 * np.pi, 4 * n)
    b = b[rng.random(4 * n) * (ring + r) < ring + r * np.cos(b)][:n]  # even over the surface
    away = ring + r * np.cos(b)
    points = np.c_[away * np.cos(turn), away * np.sin(turn), r * np.sin(b)]
    return points, lambda x: np.hypot(np.hypot(x[:, 0], x[:, 1]) - ring, x[:, 2]) < r


def boxes(low: NDArray, high: NDArray, rng: Generator, n: int) -> tuple[NDArray, Inside]:
    """The union of boxes (K, 3) .. (K, 3)."""

    def inside(x: NDArray, slack: float = 0.0) -> NDArray:
        return ((x[:, None] > low + slack) & (x[:, None] < high - slack)).all(2).any(1)

    size = high - low
    area = np.stack([size[:, 1] * size[:, 2], size[:, 0] * size[:, 2], size[:, 0] * size[:, 1]], 1)
    pick = rng.choice(area.size, 3 * n, p=area.ravel() / area.sum())
    box, axis = np.divmod(pick, 3)
    points = low[box] + rng.random((3 * n, 3)) * size[box]
    rows = np.arange(3 * n)
    points[rows, axis] = np.where(rng.random(3 * n) < 0.5, low[box, axis], high[box, axis])
    return points[~inside(points, 1e-6)][:n], inside


def box(rng: Generator, n: int) -> tuple[NDArray, Inside]:
    half = rng.uniform(0.3, 0.95, (1, 3))
    return boxes(-half, half, rng, n)


def table(rng: Generator, n: int) -> tuple[NDArray, Inside]:
    x, y = rng.uniform(0.5, 0.95, 2)
    top, leg, height = rng.uniform(0.08, 0.2), rng.uniform(0.1, 0.2), rng.uniform(0.5, 0.9)
    low, high = [[-x, -y, height - top]], [[x, y, height]]
    for a in (-x, x - leg):
        for b in (-y, y - leg):
            low.append([a, b, -height])
            high.append([a + leg, b + leg, height - top])
    return boxes(np.array(low), np.array(high), rng, n)


MAKERS = (sphere, box, torus, table)


def make_record(seed: int, n_points: int = 4096, n_queries: int = 4096) -> Record:
    """Shape ``seed``: of class seed mod 4."""
    rng = np.random.default_rng([7, seed])
    label = seed % len(MAKERS)
    points, inside = MAKERS[label](rng, n_points)
    vol = rng.uniform(-1, 1, (n_queries, 3))
    near = np.clip(
        points[rng.integers(len(points), size=n_queries)] + rng.normal(0, 0.05, (n_queries, 3)), -1, 1
    )
    return Record(
        points.astype(np.float32),
        vol.astype(np.float32),
        inside(vol),
        near.astype(np.float32),
        inside(near),
        label,
        f"{CLASSES[label]} {seed}",
    )


class AnalyticFields:
    """Shapes of seeds first .. first + n - 1, as a data set."""

    classes = CLASSES

    def __init__(self, n: int, first: int = 0) -> None:
        self.n, self.first = n, first

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Record:
        return make_record(self.first + index)

    def name(self, index: int) -> str:
        return f"shape {self.first + index}"
