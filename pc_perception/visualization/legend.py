# SPDX-License-Identifier: Apache-2.0
"""What a legend says: each class that occurs, its colour, how many points and which share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc_perception.labels import UNLABELED_COLOR, LabelSet


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend; ``share`` is a fraction of all points, 0..1."""

    name: str
    color: tuple[int, int, int]
    count: int
    share: float


def legend(labels: NDArray, label_set: LabelSet) -> list[LegendEntry]:
    """Return the classes that occur in ``labels``, in the label set's order, ``unlabeled`` last.

    Args:
        labels: (N,) integers; anything outside the label set counts as unlabeled. N may be zero.
    """
    n_classes = len(label_set)
    known = np.where((labels >= 0) & (labels < n_classes), labels, n_classes).astype(np.int64)
    counts = np.bincount(known, minlength=n_classes + 1)
    names = (*label_set.classes, "unlabeled")
    colors = (*label_set.colors, UNLABELED_COLOR)
    total = max(len(labels), 1)
    return [
        LegendEntry(name, color, int(n), float(n) / total)
        for name, color, n in zip(names, colors, counts, strict=True)
        if n
    ]
