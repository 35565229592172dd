# SPDX-License-Identifier: Apache-2.0
"""Lovász-softmax, class weights and voxel labels against cases computed by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract
from pc_perception.labels import UNLABELED
from training.augment import Augmentation
from training.batch import IGNORE, voxel_labels
from training.methods.method import Task
from training.methods.segmentation import Segmentation, class_weights, lovasz_softmax


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


def jaccard_loss(wrong: set[int], truth: np.ndarray) -> float:
    """1 - IoU of a class whose set of wrong samples is ``wrong`` (the set function of the paper)."""
    n = len(truth)
    predicted = np.array([bool(truth[i]) != (i in wrong) for i in range(n)])
    union = (predicted | truth).sum()
    return 1 - (predicted & truth).sum() / union if union else 0.0


def lovasz_by_definition(error: np.ndarray, truth: np.ndarray) -> float:
    """Largest sum over all orders of error times marginal loss: the extension of a submodular function."""
    best = -np.inf
    for order in permutations(range(len(error))):
        total, wrong, before = 0.0, set(), 0.0
        for i in order:
            wrong = wrong | {i}
            now = jaccard_loss(wrong, truth)
            total, before = total + error[i] * (now - before), now
        best = max(best, total)
    return best


def test_lovasz_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 6)
    target = np.array([0, 0, 1, 2, 1, 0])
    expected = np.mean([
        lovasz_by_definition(np.abs((target == c) - p[:, c]), target == c) for c in range(3)
    ])  # fmt: skip
    found = lovasz_softmax(logits_of(p.tolist()), torch.from_numpy(target))
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_lovasz_of_hard_predictions_is_one_minus_iou() -> None:
    sure = 40 * torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1]), 3).double()
    # class 0: IoU 1/2, class 1: IoU 2/3, class 2 is absent and left out; the last voxel is ignored.
    target = torch.tensor([0, 1, 1, 1])
    assert float(lovasz_softmax(sure, target)) == pytest.approx((1 / 2 + 1 / 3) / 2, abs=1e-6)
    more = torch.cat([sure, sure[:1]]), torch.tensor([0, 1, 1, 1, IGNORE])
    assert float(lovasz_softmax(*more)) == pytest.approx((1 / 2 + 1 / 3) / 2, abs=1e-6)
    assert float(lovasz_softmax(sure, torch.full((4,), IGNORE))) == 0.0


def test_lovasz_gradient() -> None:
    logits = torch.randn(
        7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    target = torch.tensor([0, 1, 2, 0, 1, IGNORE, 2])
    # The loss computes in single precision: a coarse step suits it.
    lovasz_softmax(logits, target).backward()
    with torch.no_grad():
        for i, c in [(0, 0), (3, 2), (6, 1)]:
            step = torch.zeros_like(logits)
            step[i, c] = 1e-2
            slope = (lovasz_softmax(logits + step, target) - lovasz_softmax(logits - step, target)) / 2e-2
            assert float(slope) == pytest.approx(float(logits.grad[i, c]), abs=5e-3)
    assert float(logits.grad[5].abs().sum()) == 0.0


def test_class_weights() -> None:
    # shares .64, .36, 0: 1/sqrt = 1.25, 1.6667; mean over voxels .8 + .6 = 1.4.
    np.testing.assert_allclose(
        class_weights(np.array([64, 36, 0]), 4.0), [1.25 / 1.4, (5 / 3) / 1.4, 1.0], rtol=1e-6
    )
    assert class_weights(np.array([10**6, 1]), 4.0)[1] == 4.0


def test_voxel_labels_by_majority() -> None:
    labels = np.array([1, 1, 0, 2, UNLABELED, UNLABELED, 0, 2, 3], np.uint16)
    inverse = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, -1])
    assert voxel_labels(labels, inverse, 4, 4).tolist() == [1, 2, IGNORE, 0]
    with pytest.raises(ValueError, match="map the raw ids"):
        voxel_labels(np.array([9], np.uint16), torch.tensor([0]), 1, 4)


@pytest.mark.parametrize(("side_m", "usable"), [(0.5, False), (4.0, True)])
def test_a_view_of_few_voxels_is_trained_on_and_one_of_hardly_any_is_not(side_m: float, usable: bool) -> None:
    """A camera close to a wall sees many points in few voxels of 0.4 m: 4, and about 100."""
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(0, side_m, (2000, 2)), np.zeros(2000)].astype(np.float32)
    wall = PointCloud(xyz, {"label": np.zeros(2000, np.uint16)})
    still = Augmentation(max_points=0, thin=0, scale=0, tilt_deg=0, jitter_m=0, full_turn=False)
    task = Task(InputContract(grid_m=0.4, features=("offset",)), 8, 2, {}, still)
    if usable:
        assert len(Segmentation().sample(wall, rng, task).target) >= 100
    else:
        with pytest.raises(ValueError, match="voxels in range, at least 10 are needed"):
            Segmentation().sample(wall, rng, task)
