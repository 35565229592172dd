# SPDX-License-Identifier: Apache-2.0
"""Figures over several models, and the ones that ``pc_perception.metrics.Confusion`` leaves to us."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pc_perception.metrics import Confusion

COMMON_SHARE = 0.005
"""Classes with at least this share of the labelled points are common."""


def pooled(parts: Sequence[Confusion]) -> Confusion:
    """Return the counts of several data sets together, as if they were one."""
    whole = Confusion(len(parts[0].matrix))
    for part in parts:
        whole.matrix += part.matrix
    return whole


def n_points(confusion: Confusion) -> int:
    """Return how many labelled points were counted."""
    return int(confusion.matrix.sum())


def unlabeled_share(confusion: Confusion) -> float:
    """Return the share of the labelled points that the model gave no label (they count as errors)."""
    return float(confusion.matrix[:, -1].sum() / max(n_points(confusion), 1))


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (0 for one value), leaving NaN out; NaN for none."""
    known = np.asarray([v for v in values if np.isfinite(v)], np.float64)
    if not len(known):
        return float("nan"), float("nan")
    return float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else 0.0
