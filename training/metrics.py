# SPDX-License-Identifier: Apache-2.0
"""Figures of segmentation from a confusion matrix over points. Pure numpy.

Rules: the points whose ground truth is unlabeled are left out; a point that the model leaves unlabeled
is an error of its class (it is in the denominator of its recall and IoU). mIoU is the mean over the
classes that occur in the ground truth; a class that does not occur is listed as absent, its false
positives still count against the classes whose points they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pc_perception.labels import UNLABELED

COMMON_SHARE = 0.005
"""Classes with at least this share of the labelled points are common."""


@dataclass
class Confusion:
    """Counts of points by true class (row) and predicted class (column; the last: unlabeled)."""

    n_classes: int
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.n_classes, self.n_classes + 1), np.int64)

    def add(self, truth: NDArray, predicted: NDArray) -> None:
        """Count (N,) labels 0 .. C-1 or ``UNLABELED`` of one cloud.

        Raises:
            ValueError: lengths differ or a label is out of range.
        """
        if truth.shape != predicted.shape or truth.ndim != 1:
            raise ValueError(f"there are {truth.shape} true labels and {predicted.shape} predicted ones")
        known = truth != UNLABELED
        row, column = truth[known].astype(np.int64), predicted[known].astype(np.int64)
        column[column == UNLABELED] = self.n_classes
        if len(row) and (row.max() >= self.n_classes or column.max() > self.n_classes):
            raise ValueError(
                f"labels reach {max(row.max(), column.max())}, there are {self.n_classes} classes"
            )
        flat = np.bincount(row * (self.n_classes + 1) + column, minlength=self.counts.size)
        self.counts += flat.reshape(self.counts.shape)

    @property
    def n_points(self) -> int:
        """Labelled points counted so far."""
        return int(self.counts.sum())

    def share(self) -> NDArray[np.float64]:
        """(C,) share of the labelled points that each class has."""
        return self.counts.sum(1) / max(self.n_points, 1)

    def iou(self) -> NDArray[np.float64]:
        """(C,) TP / (TP + FP + FN); NaN for a class that is not in the ground truth."""
        hit = np.diagonal(self.counts).astype(np.float64)
        union = self.counts.sum(1) + self.counts[:, :-1].sum(0) - hit
        present = self.counts.sum(1) > 0
        return np.where(present, hit / np.maximum(union, 1), np.nan)

    def miou(self, least_share: float = 0.0) -> float:
        """Mean IoU over the classes in the ground truth with at least ``least_share`` of its points."""
        chosen = (self.counts.sum(1) > 0) & (self.share() >= least_share)
        return float(self.iou()[chosen].mean()) if chosen.any() else float("nan")

    def accuracy(self) -> float:
        """Share of the labelled points that are right (OA)."""
        return float(np.diagonal(self.counts).sum() / self.n_points) if self.n_points else float("nan")

    def unlabeled(self) -> float:
        """Share of the labelled points that the model gave no label (counted as errors)."""
        return float(self.counts[:, -1].sum() / self.n_points) if self.n_points else float("nan")


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (0 for one value), leaving NaN out; NaN for none."""
    known = np.asarray([v for v in values if np.isfinite(v)], np.float64)
    if not len(known):
        return float("nan"), float("nan")
    return float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else 0.0
