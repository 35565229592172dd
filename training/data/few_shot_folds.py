# SPDX-License-Identifier: Apache-2.0
"""Few-shot folds: Point-BERT's fixed ones of ModelNet40, and folds drawn from any data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .modelnet40 import CLASSES, stored
from .object_sets import ObjectSubset, Relabeled
from .objects import ObjectDataset, StoredObjects, labels_of
from .pickled_arrays import read_arrays

N_FOLDS = 10
N_TEST = 20
"""Test shapes of each class in the published folds."""


@dataclass(frozen=True)
class Fold:
    """``way`` classes with ``shot`` objects each to learn from, and others to test on."""

    train: ObjectDataset
    test: ObjectDataset


def read_fold(root: str | Path, way: int, shot: int, number: int) -> Fold:
    """Read a published fold, ``{way}way_{shot}shot/{number}.pkl``, without running what it contains.

    It is a dict of ``train`` and ``test``: lists of (points (N, 3 or 6), label 0 .. way - 1, ModelNet40's).

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it cannot be used.
    """
    file = Path(root) / f"{way}way_{shot}shot" / f"{number}.pkl"
    content = read_arrays(file)
    if not isinstance(content, dict) or {"train", "test"} - set(content):
        raise ValueError(f"'{file}' must hold a dict with 'train' and 'test'")
    classes = _classes(content, way, file)
    fold = Fold(*(_read_side(content, side, classes, file) for side in ("train", "test")))
    if len(fold.train) != way * shot:
        raise ValueError(
            f"'{file}' has {len(fold.train)} shapes to train on; {way} way {shot} shot needs {way * shot}"
        )
    return fold


def _classes(content: dict[str, Any], way: int, file: Path) -> tuple[str, ...]:
    """Return the names of the fold's classes, by new label."""
    try:
        pairs = {(int(new), int(old)) for side in ("train", "test") for _, new, old in content[side]}
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{file}' must hold lists of (points, new label, old label): {error}") from error
    if sorted(new for new, _ in pairs) != list(range(way)) or not all(
        0 <= old < len(CLASSES) for _, old in pairs
    ):
        raise ValueError(
            f"'{file}' maps labels as {sorted(pairs)}; {way} classes, 0 .. {way - 1}, were expected"
        )
    return tuple(CLASSES[old] for _, old in sorted(pairs))


def _read_side(content: dict[str, Any], side: str, classes: tuple[str, ...], file: Path) -> StoredObjects:
    points = [np.asarray(p, np.float32) for p, _, _ in content[side]]
    labels = np.array([int(new) for _, new, _ in content[side]])
    return stored(points, labels, classes, f"'{file}'", f"fold {file.stem} {side}")


def draw_folds(
    train: ObjectDataset,
    test: ObjectDataset,
    way: int,
    shot: int,
    n_folds: int = N_FOLDS,
    seed: int = 0,
    n_test: int = N_TEST,
) -> list[Fold]:
    """Draw folds as the published ones were: classes and shots from ``train``, test objects from ``test``.

    Shots are of different instances, and of none that is tested. A class with fewer than ``n_test`` test
    objects gives all it has.

    Raises:
        ValueError: too few classes have ``shot`` instances to train on and an object to test on.
    """
    labels = labels_of(train), labels_of(test)
    tested = {test.instance(i) for i in range(len(test))}
    first: dict[tuple[int, str], list[int]] = {}
    for i, label in enumerate(labels[0]):
        if label >= 0 and train.instance(i) not in tested:
            first.setdefault((int(label), train.instance(i)), []).append(i)
    usable = [
        c
        for c in range(len(train.classes))
        if sum(key[0] == c for key in first) >= shot and (labels[1] == _in_test(train, test, c)).any()
    ]
    if len(usable) < way:
        raise ValueError(
            f"{way} way {shot} shot needs {way} classes with {shot} instances each and some to test on; there "
            f"are {len(usable)}"
        )
    return [
        _draw(train, test, labels[1], first, usable, (way, shot, n_test), np.random.default_rng([seed, k]))
        for k in range(n_folds)
    ]


def _in_test(train: ObjectDataset, test: ObjectDataset, c: int) -> int:
    """Return the number that ``test`` gives class ``c`` of ``train``; -2 where it has no such class."""
    return test.classes.index(train.classes[c]) if train.classes[c] in test.classes else -2


def _draw(train, test, test_labels, first, usable, sizes, rng) -> Fold:  # type: ignore[no-untyped-def]
    way, shot, n_test = sizes
    chosen = rng.choice(usable, way, replace=False).tolist()
    names = tuple(train.classes[c] for c in chosen)
    learn, probe = [], []
    for c in chosen:
        things = sorted(key for key in first if key[0] == c)
        learn += [int(rng.choice(first[things[i]])) for i in rng.choice(len(things), shot, replace=False)]
        rows = np.flatnonzero(test_labels == _in_test(train, test, c))
        probe += rng.choice(rows, min(n_test, len(rows)), replace=False).tolist()
    return Fold(Relabeled(ObjectSubset(train, learn), names), Relabeled(ObjectSubset(test, probe), names))
