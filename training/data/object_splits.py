# SPDX-License-Identifier: Apache-2.0
"""Honest splits of objects: views of one thing stay on one side, and are resampled as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .object_sets import ObjectSubset
from .objects import ObjectDataset, labels_of

PARTS = ("train", "validation", "test")
SHARES = (0.65, 0.15, 0.2)
"""Of the parts, where data has no split of its own."""


def part_of(data: ObjectDataset, name: str, seed: int, per_class: int = 0) -> ObjectSubset:
    """Return one of ``PARTS`` of data that has no official split, cut by instance.

    Args:
        seed: of the split.
        per_class: training instances of each class; 0 for all.

    Raises:
        ValueError: there is no such part, or it is empty.
    """
    if name not in PARTS:
        raise ValueError(f"this data has no official split; its parts by instance are {', '.join(PARTS)}")
    part = split_by_instance(data, SHARES, seed)[PARTS.index(name)]
    if not len(part):
        raise ValueError(f"the {name} part has no object; there are too few instances to split")
    return few_labels(part, per_class, seed) if name == "train" else part


def split_by_instance(data: ObjectDataset, shares: Sequence[float], seed: int) -> list[ObjectSubset]:
    """Cut labelled objects into parts that have no instance in common.

    Each class is dealt by itself, so that its share of instances is that of the part, to the next whole
    number; a class with at least as many instances as parts is in all of them, one with fewer in the first ones.

    Args:
        shares: of the parts, in any unit.
        seed: of the order.

    Raises:
        ValueError: a share is not positive, or no object has a label.
    """
    if not shares or min(shares) <= 0:
        raise ValueError(f"the shares of a split must be positive, got {tuple(shares)}")
    groups = _instances(data)
    if not groups:
        raise ValueError("no object has a class; there is nothing to split")
    by_class: dict[int, list[str]] = {}
    for thing, rows in groups.items():
        by_class.setdefault(data.label(rows[0]), []).append(thing)
    rng = np.random.default_rng([seed, 11])
    parts: list[list[int]] = [[] for _ in shares]
    for _, things in sorted(by_class.items()):
        order = [sorted(things)[i] for i in rng.permutation(len(things))]
        for part, n in zip(parts, _deal(len(order), shares), strict=True):
            part += [i for thing in order[:n] for i in groups[thing]]
            del order[:n]
    return [ObjectSubset(data, sorted(part)) for part in parts]


def _instances(data: ObjectDataset) -> dict[str, list[int]]:
    """Return the labelled objects of each instance."""
    groups: dict[str, list[int]] = {}
    for i in range(len(data)):
        if data.label(i) >= 0:
            groups.setdefault(data.instance(i), []).append(i)
    return groups


def _deal(n: int, shares: Sequence[float]) -> list[int]:
    """Deal n things by shares, largest remainder first, at least one to each part while there are enough."""
    least = np.array([1 if i < n else 0 for i in range(len(shares))])
    exact = n * np.asarray(shares, np.float64) / sum(shares)
    counts = np.maximum(np.floor(exact).astype(int), least)
    while counts.sum() > n:
        counts[np.argmax(np.where(counts > least, counts - exact, -np.inf))] -= 1
    for i in np.argsort(counts - exact, kind="stable")[: n - counts.sum()]:
        counts[i] += 1
    return counts.tolist()


def few_labels(data: ObjectDataset, per_class: int, seed: int) -> ObjectSubset:
    """Keep one view each of ``per_class`` instances of every class (all there are, where fewer).

    0 keeps all objects.
    """
    if not per_class:
        return ObjectSubset(data, np.flatnonzero(labels_of(data) >= 0))
    rng = np.random.default_rng([seed, 12])
    groups = _instances(data)
    kept: list[int] = []
    for c in range(len(data.classes)):
        things = sorted(t for t, rows in groups.items() if data.label(rows[0]) == c)
        kept += [int(rng.choice(groups[things[i]])) for i in rng.permutation(len(things))[:per_class]]
    return ObjectSubset(data, sorted(kept))


def bootstrap(
    values: NDArray, instances: Sequence[str], n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the mean of (M,) values when instances, not views, are drawn with replacement.

    Args:
        values: one number for each object, such as 1 where it was recognised.
        instances: of the M objects.
        n: resamples.
        level: of the percentile interval.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("there is no result to bootstrap")
    _, group = np.unique(np.asarray(instances), return_inverse=True)
    total = np.bincount(group, weights=np.asarray(values, np.float64))
    size = np.bincount(group).astype(np.float64)
    draws = np.random.default_rng([seed, 13]).integers(0, len(size), (n, len(size)))
    means = total[draws].sum(1) / size[draws].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
