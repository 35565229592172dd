# SPDX-License-Identifier: Apache-2.0
"""Single objects as training samples: drawn, put on the unit sphere, changed at random, laid behind each other."""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from pc_perception.geometry import rotation
from pc_perception.inference.object_contract import ObjectContract, object_points, on_unit_sphere
from pc_perception.labels import UNLABELED, LabelSet, load_label_set
from pc_perception.ops.sampling import farthest_point_sampling

MIN_POINTS = 8
"""Objects with fewer finite points are not trained on."""


@dataclass(frozen=True)
class ObjectAugmentation:
    """How objects are drawn and changed; the defaults are Point-MAE's pre-training.

    Attributes:
        pool: points are drawn at random from this many times the contract's ``n_points`` that lie farthest apart
            (1.17 in Point-MAE's fine-tuning: 1,024 of 1,200); 0: from all.
        scale: each axis is multiplied by a factor drawn from (low, high).
        shift: each coordinate moves by at most this, in radii.
        turn: rotate about ``up`` by any angle.
        up: axis that points up: x, y (ShapeNet's and ModelNet's files) or z.
        keep: lowest share of the points that imitating a sparser sensor leaves; 1: all.
        part: lowest share that a plane through the object leaves, in half of the draws: what stands in front
            of it hides the rest, or a cluster ends there; 1: all.
        jitter: standard deviation of each coordinate, in radii.
    """

    pool: float = 0.0
    scale: tuple[float, ...] = (2 / 3, 3 / 2)
    shift: float = 0.2
    turn: bool = False
    up: str = "z"
    keep: float = 1.0
    part: float = 1.0
    jitter: float = 0.0

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(
                f"augmentation.scale must be two positive factors, low and high; got {self.scale}"
            )
        if self.up not in ("x", "y", "z") or not 0 < self.keep <= 1 or not 0 < self.part <= 1:
            raise ValueError(
                "augmentation.up must be x, y or z, keep and part lie in 0 .. 1;"
                f" got '{self.up}', {self.keep}, {self.part}"
            )
        if min(self.shift, self.jitter, self.pool) < 0 or 0 < self.pool < 1:
            raise ValueError(
                "augmentation.shift and jitter must not be negative, pool must be 0 or at least 1"
            )

    def __call__(self, points: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
        """Return changed (n, 3) points of an object on the unit sphere."""
        if self.turn:
            points = points @ rotation(self.up, rng.uniform(0, 2 * np.pi)).T
        factor = rng.uniform(self.scale[0], self.scale[1], 3)
        points = points * factor + rng.uniform(-self.shift, self.shift, 3)
        if self.jitter:
            points = points + rng.normal(0, self.jitter, points.shape)
        return points.astype(np.float32)

    def seen(self, points: NDArray[np.float32], rng: Generator) -> NDArray[np.int64]:
        """Return the rows of an object's points on one side of a random plane, or in half of the draws all."""
        if self.part == 1 or rng.random() < 0.5:
            return np.arange(len(points))
        direction = rng.normal(size=3) * (1.0, 1.0, 0.5)
        n = max(round(len(points) * rng.uniform(self.part, 1.0)), MIN_POINTS)
        return np.argsort(points @ direction)[:n]


@dataclass(frozen=True)
class ObjectSample:
    """One object of a batch.

    Attributes:
        points: (n, 3) float32 as the encoder takes them.
        label: its class; -1 where unknown.
        parts: (n,) int64 label of each point, where points have labels; -1 where unknown.
        bad: names of samples that could not be used and were replaced by this one, with the reason.
    """

    points: Tensor
    label: int = -1
    parts: Tensor | None = None
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class ObjectBatch:
    """Objects behind each other; object b owns the rows offsets[b] .. offsets[b + 1].

    Attributes:
        points: (N, 3) float32.
        labels: (B,) int64, -1 where unknown.
        parts: (N,) int64 label of each point, where points have labels; -1 where unknown.
    """

    points: Tensor
    offsets: tuple[int, ...]
    labels: Tensor
    parts: Tensor | None = None
    bad: tuple[str, ...] = ()

    @property
    def n_scenes(self) -> int:
        """Number of objects."""
        return len(self.labels)

    def to(self, device: torch.device) -> ObjectBatch:
        """Return the batch with all tensors on ``device``."""
        parts = None if self.parts is None else self.parts.to(device)
        return replace(self, points=self.points.to(device), labels=self.labels.to(device), parts=parts)


def collate_objects(samples: Sequence[ObjectSample]) -> ObjectBatch:
    """Lay objects of any sizes behind each other."""
    parts = [s.parts for s in samples if s.parts is not None]
    return ObjectBatch(
        points=torch.cat([s.points for s in samples]),
        offsets=(0, *accumulate(len(s.points) for s in samples)),
        labels=torch.tensor([s.label for s in samples]),
        parts=torch.cat(parts) if parts else None,
        bad=tuple(name for s in samples for name in s.bad),
    )


def draw_object(
    cloud: PointCloud, rng: Generator, contract: ObjectContract, how: ObjectAugmentation
) -> Tensor:
    """Draw at most ``contract.n_points`` points of an object, in random order, and change them.

    Returns:
        (n, 3) float32.

    Raises:
        ValueError: the object has too few points or no extent.
    """
    return draw_with_rows(cloud, rng, contract, how)[0]


def draw_with_rows(
    cloud: PointCloud,
    rng: Generator,
    contract: ObjectContract,
    how: ObjectAugmentation,
    unit_sphere: bool = True,
) -> tuple[Tensor, NDArray[np.int64]]:
    """Return as ``draw_object`` and the (n,) numbers of the drawn points in the cloud.

    Args:
        unit_sphere: False keeps the points where they are.
    """
    points = object_points(cloud)
    if len(points) < MIN_POINTS:
        raise ValueError(f"only {len(points)} finite points, at least {MIN_POINTS} are needed")
    rows = how.seen(points, rng)
    n_pool = int(how.pool * contract.n_points)
    if 0 < n_pool < len(rows):
        start = int(rng.integers(len(rows)))
        kept = torch.from_numpy(points[rows])
        rows = rows[farthest_point_sampling(kept, n_pool, start=start).numpy()]
    n = min(len(rows), contract.n_points)
    n = max(round(n * rng.uniform(how.keep, 1.0)), MIN_POINTS) if how.keep < 1 else n
    rows = rows[rng.permutation(len(rows))[:n]]
    drawn = on_unit_sphere(points[rows]) if unit_sphere else points[rows]
    if drawn is None:
        raise ValueError("all of its points are equal; an object needs an extent")
    return torch.from_numpy(how(drawn, rng)), np.flatnonzero(cloud.finite())[rows]


def object_label(cloud: PointCloud, n_classes: int) -> int:
    """Return the class of an object: its ``category`` where it has one, else what all points have as ``label``.

    Raises:
        ValueError: it has no label, several, or one that is not below ``n_classes``.
    """
    if hasattr(cloud, "category"):
        labels = np.array([cloud.category])
    else:
        labels = np.unique(np.asarray(cloud.fields.get("label", [])))
        labels = labels[labels != UNLABELED]
    if len(labels) != 1 or labels[0] < 0:
        raise ValueError(
            f"an object needs one label, this one has {'several' if len(labels) > 1 else 'none'}"
        )
    if labels[0] >= n_classes:
        raise ValueError(f"label {labels[0]} is not one of the {n_classes} classes; map the raw ids first")
    return int(labels[0])


def labels_of_data(parts: Sequence[Any], preset: str) -> LabelSet:
    """Return the classes that object data sets are labelled with: those of ``preset``, or those they name.

    Raises:
        ValueError: neither is there, or they differ.
    """
    named = {tuple(part.classes) for part in parts if hasattr(part, "classes")}
    if preset:
        named.add(load_label_set(preset).classes)
    if not named or () in named:
        raise ValueError("the data does not name its classes; say which they are by label_set=NAME")
    if len(named) > 1:
        raise ValueError(
            f"the data sets, or they and label_set, name different classes: {' and '.join(map(str, named))};"
            " put objects of one label set together"
        )
    if preset:
        return load_label_set(preset)
    classes = named.pop()
    hues = (0.618 * i % 1 for i in range(len(classes)))  # the golden ratio keeps neighbours apart
    colors = tuple(tuple(round(255 * c) for c in hsv_to_rgb(hue, 0.65, 0.9)) for hue in hues)
    return LabelSet("objects", classes, colors)  # type: ignore[arg-type]
