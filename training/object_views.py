# SPDX-License-Identifier: Apache-2.0
"""How an object becomes the points that a network sees, in training and in tests (protocols, sections 1 to 5).

All randomness comes from a seeded ``numpy.random.Generator``. Objects stand with z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation_z
from pc_perception.inference.object_contract import on_unit_sphere
from pc_perception.ops.sampling import farthest_point_sampling

POOLS = {1024: 1200, 2048: 2400, 4096: 4800, 8192: 8192}
"""Points that FPS keeps before a random subset of the first number is drawn."""
SCALE = (2 / 3, 3 / 2)
SHIFT = 0.2

Points = NDArray[np.float32]


@dataclass(frozen=True)
class ObjectView:
    """One way to look at objects; call it with a generator for a training view, with None for the test's.

    Attributes:
        n_points: at most so many; smaller objects keep all of theirs.
        fill: repeat the points of smaller objects up to ``n_points``, for a network that needs a fixed number.
            Repeated points crowd the patches around them, so it is off; published sets have enough.
        least: objects with fewer finite points are refused.
        pool: choose by FPS (for training a random subset of an FPS pool), else at random (for tests the
            same points every time).
        unit_sphere: subtract the centroid and divide by the largest distance.
        scale_shift: in training, scale each axis by U(2/3, 3/2) and shift it by U(-0.2, 0.2).
        turn: in training, rotate about the vertical by any angle.
    """

    n_points: int = 1024
    fill: bool = False
    pool: bool = True
    unit_sphere: bool = True
    scale_shift: bool = True
    turn: bool = False
    least: int = 2

    def __post_init__(self) -> None:
        if self.n_points < 1 or self.least < 1:
            raise ValueError(f"n_points {self.n_points} and least {self.least} must be at least 1")

    def __call__(self, cloud: PointCloud, rng: Generator | None = None) -> Points:
        """Return (n, 3) float32, n <= n_points.

        Raises:
            ValueError: as ``usable``.
        """
        return self.with_rows(cloud, rng)[0]

    def with_rows(self, cloud: PointCloud, rng: Generator | None = None) -> tuple[Points, NDArray[np.int64]]:
        """Return (n, 3) float32, n <= n_points, and the (n,) numbers of these points in the cloud."""
        kept = usable(cloud, self.least)
        xyz = cloud.xyz[kept]
        if self.unit_sphere:
            placed = on_unit_sphere(xyz)
            if placed is None:
                raise ValueError(f"all {len(xyz)} points of the object are equal; it has no shape")
            xyz = placed
        if self.pool:
            rows = fps_subset(xyz, self.n_points, rng)
        else:
            rows = subset(len(xyz), self.n_points, np.random.default_rng(0) if rng is None else rng)
        if self.fill:
            rows = np.resize(rows, self.n_points)
        points = xyz[rows]
        if rng is not None and self.turn:
            points = turned(points, rng)
        if rng is not None and self.scale_shift:
            points = scaled_and_shifted(points, rng)
        return points, kept[rows]


MODELNET40 = ObjectView(1024)
"""Fine-tuning and probes."""
SCANOBJECTNN_TURNED = ObjectView(2048, unit_sphere=False, scale_shift=False, turn=True)
"""Works after Point-MAE turn objects in place of scale and shift, worth 2.5 to 4 points by itself."""
SHAPENETPART = ObjectView(2048, pool=False)
"""2,048 random points, in tests the same ones every time. Published code draws with repetition; here without."""


def usable(cloud: PointCloud, least: int = 2) -> NDArray[np.int64]:
    """Return the numbers of the finite points of an object that has a shape.

    Raises:
        ValueError: fewer than ``least`` finite points, more than 1 % that are not finite, or all equal.
    """
    finite = np.flatnonzero(cloud.finite())
    n_bad = len(cloud) - len(finite)
    if n_bad > 0.01 * len(cloud):
        raise ValueError(f"{n_bad} of {len(cloud)} points are NaN or infinite; at most 1 % may be")
    if len(finite) < least:
        raise ValueError(f"the object has {len(finite)} points; at least {least} are needed")
    if not np.ptp(cloud.xyz[finite], axis=0).any():
        raise ValueError(f"all {len(finite)} points of the object are equal; it has no shape")
    return finite


def fps_subset(xyz: Points, n: int, rng: Generator | None = None) -> NDArray[np.int64]:
    """Return n rows: those FPS takes from row 0 on, or with ``rng`` a random subset of a larger FPS pool.

    All of them, where there are no more than n.
    """
    if len(xyz) <= n:
        return subset(len(xyz), n, rng)
    size = min(POOLS.get(n, n * 6 // 5), len(xyz)) if rng is not None else n
    pool = farthest_point_sampling(torch.from_numpy(np.ascontiguousarray(xyz)), size).numpy()
    return pool if rng is None else rng.permutation(pool)[:n]


def subset(n_points: int, n: int, rng: Generator | None = None) -> NDArray[np.int64]:
    """Return at most n of ``n_points`` rows: the first ones, or with ``rng`` random ones."""
    return np.arange(min(n_points, n)) if rng is None else rng.permutation(n_points)[:n]


def turned(xyz: Points, rng: Generator) -> Points:
    """Rotate about the vertical by any angle."""
    return (xyz @ rotation_z(rng.uniform(0, 2 * np.pi)).T).astype(np.float32)


def scaled_and_shifted(xyz: Points, rng: Generator) -> Points:
    """Scale and shift each axis by its own random number: the augmentation of the Point-MAE family."""
    return (xyz * rng.uniform(*SCALE, 3) + rng.uniform(-SHIFT, SHIFT, 3)).astype(np.float32)
