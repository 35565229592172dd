# SPDX-License-Identifier: Apache-2.0
"""Confusion and IoU against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pc_perception.labels import UNLABELED
from pc_perception.metrics import Confusion
from training.metrics import mean_std, n_points, unlabeled_share

U = UNLABELED


def confusion(truth: list[int], predicted: list[int], n: int = 4) -> Confusion:
    out = Confusion(n)
    out.add(np.array(truth, np.uint16), np.array(predicted, np.uint16))
    return out


def test_a_case_by_hand() -> None:
    # class 0: TP 2, FN 1 (said 1);  class 1: TP 1, FP 1, FN 1 (left unlabeled);  class 2 absent, FP 1
    # from class 3 (FN 1, TP 0). The last point has no truth and counts nowhere.
    found = confusion([0, 0, 0, 1, 1, 3, U], [0, 0, 1, 1, U, 2, 0])
    np.testing.assert_allclose(found.iou, [2 / 3, 1 / 3, np.nan, 0.0])
    assert found.mean_iou() == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert found.accuracy == pytest.approx(3 / 6)
    assert unlabeled_share(found) == pytest.approx(1 / 6)
    assert n_points(found) == 6
    np.testing.assert_allclose(found.share, [3 / 6, 2 / 6, 0, 1 / 6])
    assert found.mean_iou(0.3) == pytest.approx(0.5)


def test_clouds_add_up() -> None:
    whole = confusion([0, 1, 1, 2], [0, 1, 2, 2])
    parts = confusion([0, 1], [0, 1])
    parts.add(np.array([1, 2], np.uint16), np.array([2, 2], np.uint16))
    np.testing.assert_array_equal(whole.matrix, parts.matrix)


def test_perfect_and_empty() -> None:
    assert confusion([0, 1, 3], [0, 1, 3]).mean_iou() == 1.0
    assert np.isnan(confusion([U, U], [0, 1]).mean_iou())


def test_mean_and_sample_deviation() -> None:
    assert mean_std([1.0, 3.0, float("nan")]) == pytest.approx((2.0, 2.0**0.5))
    assert mean_std([0.5]) == (0.5, 0.0)
    assert np.isnan(mean_std([float("nan")])[0])
