# SPDX-License-Identifier: Apache-2.0
"""Accuracy on objects: overall, by class, and how sure we are of it when views of one thing are no new evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.metrics import Confusion
from training.data.object_splits import bootstrap
from training.data.objects import ObjectDataset, check_share

Classify = Callable[[Sequence[PointCloud]], Sequence[int]]
"""Objects to the ids of their classes; any id that is no class for "none"."""


@dataclass(frozen=True)
class Accuracy:
    """What was right.

    Attributes:
        accuracy: share of objects; low, high: its 95 % interval, bootstrapped by instance.
        mean_recall: mean over the classes that are there.
        recall: by class, for those that are there.
        n_objects, n_instances: what was counted.
        correct: (n_objects,) bool.
        confusion: (C, C + 1) objects by true and predicted class; the last column was given none.
        unknown: objects left out, since the classifier has no such class.
        bad: objects that could not be used, with the reason.
    """

    accuracy: float
    low: float
    high: float
    mean_recall: float
    recall: dict[str, float]
    n_objects: int
    n_instances: int
    correct: NDArray[np.bool_] = field(repr=False)
    confusion: NDArray[np.int64] = field(repr=False)
    unknown: int = 0
    bad: tuple[str, ...] = ()


def measure(
    truth: NDArray,
    predicted: NDArray,
    instances: Sequence[str],
    classes: Sequence[str],
    seed: int = 0,
    unknown: int = 0,
    bad: Sequence[str] = (),
) -> Accuracy:
    """Compare (M,) predicted with (M,) true classes of objects of (M,) instances.

    Raises:
        ValueError: there is no object, or the numbers of them differ.
    """
    if not len(truth) == len(predicted) == len(instances):
        raise ValueError(
            f"{len(predicted)} predictions and {len(instances)} instances for {len(truth)} objects"
        )
    counts = Confusion(len(classes))
    found = np.asarray(predicted)
    counts.add(np.asarray(truth), np.where((found >= 0) & (found < len(classes)), found, len(classes)))
    correct = np.asarray(truth) == found
    low, high = bootstrap(correct, instances, seed=seed)
    recall = {classes[c]: float(correct[truth == c].mean()) for c in np.unique(truth).tolist()}
    return Accuracy(
        accuracy=float(correct.mean()),
        low=low,
        high=high,
        mean_recall=float(np.mean(list(recall.values()))),
        recall=recall,
        n_objects=len(correct),
        n_instances=len(set(instances)),
        correct=correct,
        confusion=counts.matrix,
        unknown=unknown,
        bad=tuple(bad),
    )


def measure_classifier(
    classify: Classify, classes: Sequence[str], data: ObjectDataset, batch_size: int = 64, seed: int = 0
) -> Accuracy:
    """Classify the labelled objects of a data set, a batch at a time.

    Args:
        classify: such as ``lambda clouds: [r.label for r in model(clouds)]``.
        classes: its classes by id. They are matched with the data's by name; objects of a class that the
            classifier does not have are left out and counted, and so are those that cannot be read.

    Raises:
        ValueError: more than 1 % of the objects cannot be read, or none is of a class that it has.
    """
    ids = [classes.index(name) if name in classes else -1 for name in data.classes]
    rows = [i for i in range(len(data)) if data.label(i) >= 0]
    known = [i for i in rows if ids[data.label(i)] >= 0]
    kept: list[int] = []
    predicted: list[int] = []
    bad: list[str] = []
    for start in range(0, len(known), batch_size):
        clouds = []
        for i in known[start : start + batch_size]:
            try:
                clouds.append(data[i])
                kept.append(i)
            except (ValueError, OSError) as error:
                bad.append(f"{data.name(i)}: {error}")
        predicted += [int(label) for label in classify(clouds)] if clouds else []
    check_share(bad, len(known))
    if not kept:
        raise ValueError(f"no object is of a class that the classifier has; it has {', '.join(classes)}")
    truth = np.array([ids[data.label(i)] for i in kept])
    things = [data.instance(i) for i in kept]
    return measure(truth, np.array(predicted), things, classes, seed, len(rows) - len(known), bad)
