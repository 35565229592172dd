# SPDX-License-Identifier: Apache-2.0
"""Objects made worse step by step: noise, rotation, scaling, loss of points, uneven density.

PointACL claims gains under these; its levels are not known [UNKNOWN]. The levels here are ours [PROPOSED],
in units of the object's own radius, and do not reproduce a published curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.data.objects import LabeledObject, ObjectDataset
from training.object_views import usable

Worsen = Callable[[NDArray[np.float32], float, Generator], NDArray[np.float32]]
TILT = 4.0
"""How much likelier points one radius further back are lost, in natural logarithms."""
FEWEST = 8
"""Points that loss and uneven density leave at least, where there were as many."""


def noise(xyz: NDArray[np.float32], level: float, rng: Generator) -> NDArray[np.float32]:
    """Move every coordinate by a normal number with standard deviation ``level`` radii."""
    return xyz + level * _radius(xyz) * rng.standard_normal(xyz.shape, dtype=np.float32)


def rotation(xyz: NDArray[np.float32], level: float, rng: Generator) -> NDArray[np.float32]:
    """Turn about a random axis through the middle by ``level`` degrees."""
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(level)
    R = np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K
    middle = xyz.mean(0)
    return (xyz - middle) @ R.T + middle


def scaling(xyz: NDArray[np.float32], level: float, rng: Generator) -> NDArray[np.float32]:
    """Stretch each axis by its own factor between 1 / ``level`` and ``level``, even in logarithm."""
    return xyz * np.exp(rng.uniform(-np.log(level), np.log(level), 3))


def dropout(xyz: NDArray[np.float32], level: float, rng: Generator) -> NDArray[np.float32]:
    """Lose the share ``level`` of the points at random."""
    return xyz[np.sort(rng.permutation(len(xyz))[: _left(len(xyz), level)])]


def density(xyz: NDArray[np.float32], level: float, rng: Generator) -> NDArray[np.float32]:
    """Lose the share ``level`` of the points, the likelier the further from a random side, as scanners do."""
    direction = rng.normal(size=3)
    away = (xyz - xyz.mean(0)) @ (direction / np.linalg.norm(direction)) / _radius(xyz)
    order = np.argsort(TILT * away - rng.gumbel(size=len(xyz)), kind="stable")
    return xyz[np.sort(order[: _left(len(xyz), level)])]


LEVELS: dict[str, tuple[Worsen, tuple[float, ...]]] = {
    "noise": (noise, (0.01, 0.02, 0.03, 0.04, 0.05)),
    "rotation": (rotation, (15.0, 30.0, 45.0, 60.0, 90.0)),
    "scaling": (scaling, (1.2, 1.4, 1.6, 1.8, 2.0)),
    "dropout": (dropout, (0.25, 0.5, 0.75, 0.85, 0.95)),
    "density": (density, (0.25, 0.5, 0.75, 0.85, 0.95)),
}
"""What can go wrong, and five levels of each."""


def _radius(xyz: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(xyz - xyz.mean(0), axis=1).max()) or 1.0


def _left(n: int, lost: float) -> int:
    return max(round((1 - lost) * n), min(n, FEWEST))


@dataclass(frozen=True)
class Worsened:
    """Another data set whose objects are all made worse in one way: the same way every time.

    Attributes:
        whole: the data set.
        kind: one of ``LEVELS``.
        level: how much.
        seed: of the random choices; each object has its own.

    Raises:
        ValueError: there is no such kind.
    """

    whole: ObjectDataset
    kind: str
    level: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in LEVELS:
            raise ValueError(f"objects cannot be made worse by '{self.kind}'; there are {', '.join(LEVELS)}")

    @property
    def classes(self) -> tuple[str, ...]:
        """The data set's."""
        return self.whole.classes

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> LabeledObject:
        """Return object ``index`` with x, y, z alone: other fields no longer belong to the points."""
        cloud = self.whole[index]
        xyz = cloud.xyz[usable(cloud)]
        worse = LEVELS[self.kind][0](xyz, self.level, np.random.default_rng([self.seed, 16, index]))
        return replace(cloud, xyz=worse.astype(np.float32), fields={})

    def name(self, index: int) -> str:
        """Name object ``index``."""
        return self.whole.name(index)

    def label(self, index: int) -> int:
        """Return the class of object ``index``."""
        return self.whole.label(index)

    def instance(self, index: int) -> str:
        """Name the thing that object ``index`` is a view of."""
        return self.whole.instance(index)
