# SPDX-License-Identifier: Apache-2.0
"""Confusion matrix over points and the figures read off it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Confusion:
    """Counts of (true class, predicted class) over all labelled points.

    Points whose truth is ``UNLABELED`` are left out. A labelled point that the model leaves unlabeled
    (NaN, out of range, below a threshold) counts as an error of its class.

    Args:
        n_classes: C.

    Attributes:
        matrix: (C, C + 1) int64; the last column holds points left unlabeled.
    """

    def __init__(self, n_classes: int) -> None:
        self.matrix = np.zeros((n_classes, n_classes + 1), np.int64)

    def add(self, truth: NDArray, predicted: NDArray) -> None:
        """Count (N,) labels against (N,) labels, both 0 .. C-1 or ``UNLABELED``.

        Raises:
            ValueError: the lengths differ.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth has {truth.shape} labels, the prediction {predicted.shape}")
        n = len(self.matrix)
        known = truth < n
        pairs = truth[known].astype(np.int64) * (n + 1) + np.minimum(predicted[known], n)
        self.matrix += np.bincount(pairs, minlength=n * (n + 1)).reshape(n, n + 1)

    @property
    def share(self) -> NDArray[np.float64]:
        """(C,) share of the labelled points that truly belong to each class."""
        return self.matrix.sum(1) / max(self.matrix.sum(), 1)

    @property
    def iou(self) -> NDArray[np.float64]:
        """(C,) TP / (TP + FP + FN); NaN for a class that is not in the truth."""
        hit = np.diag(self.matrix).astype(np.float64)
        true, predicted = self.matrix.sum(1), self.matrix[:, :-1].sum(0)
        return np.where(true > 0, hit / np.maximum(true + predicted - hit, 1), np.nan)

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,) share of each class's points with the right label; NaN for a class that is not in the truth."""
        true = self.matrix.sum(1)
        return np.where(true > 0, np.diag(self.matrix) / np.maximum(true, 1), np.nan)

    def mean_iou(self, min_share: float = 0.0) -> float:
        """Mean of ``iou`` over the classes in the truth with at least ``min_share`` of the points."""
        counted = (self.matrix.sum(1) > 0) & (self.share >= min_share)
        return float(self.iou[counted].mean()) if counted.any() else float("nan")

    def mean_recall(self) -> float:
        """Mean of ``recall`` over the classes in the truth (mAcc); NaN where there is none."""
        present = self.matrix.sum(1) > 0
        return float(self.recall[present].mean()) if present.any() else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of labelled points with the right label."""
        return float(np.diag(self.matrix).sum() / max(self.matrix.sum(), 1))
