# SPDX-License-Identifier: Apache-2.0
"""Scores of fields, surfaces and generated sets, against cases that can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pc_perception.simulation.analytic import random_analytic
from training.data.field_arrays import Sizes
from training.data.fields import open_fields
from training.evaluate.fields import score_fields, surface_scores
from training.evaluate.generation import (
    SetScores,
    chamfer_matrix,
    copies,
    coverage,
    emd_matrix,
    mmd,
    nearest_shape,
    noise,
    one_nearest_neighbor_accuracy,
    score_generation,
)


def test_surface_scores_by_hand() -> None:
    true = np.array([[0, 0, 0], [1, 0, 0]], np.float32)
    made = np.array([[0, 0, 0.01], [0, 0, 0.3], [1, 0.5, 0]], np.float32)
    # Distances of made points 0.01, 0.3, 0.5; of true points 0.01, 0.5.
    found = surface_scores(made, true)
    assert found.chamfer_l1 == pytest.approx((0.81 / 3 + 0.51 / 2) / 2)
    assert found.chamfer_l2 == pytest.approx((0.0001 + 0.09 + 0.25) / 3 + (0.0001 + 0.25) / 2)
    assert (found.precision, found.recall) == (pytest.approx(1 / 3), 0.5)
    assert found.f_score == pytest.approx(2 * (1 / 3) * 0.5 / (1 / 3 + 0.5))
    same = surface_scores(true, true)
    assert (same.chamfer_l1, same.chamfer_l2, same.f_score) == (0, 0, 1)
    nothing = surface_scores(np.zeros((0, 3), np.float32), true)
    assert (nothing.f_score, nothing.chamfer_l1) == (0, np.inf)
    with pytest.raises(ValueError, match="without points"):
        surface_scores(true, true[:0])


def test_a_perfect_field_scores_perfectly_and_an_empty_one_not_at_all(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    data = open_fields("analytic:sphere+torus", n_shapes=4, sizes=Sizes(512, 2000, 500), cache_dir=tmp_path)
    asked = iter(range(4))

    def perfect(points):  # type: ignore[no-untyped-def]
        shape = random_analytic(data.classes[data.label(i := next(asked))], i)
        assert points.shape == (400, 3)
        return lambda x: torch.from_numpy(shape.contains(x.numpy())).float() - 0.5

    found = score_fields(perfect, data, 400, resolution=64, n_surface=30_000)
    assert found.iou == found.iou_near == 1
    assert found.iou_by_class == {"sphere": 1, "torus": 1}
    assert found.f_score > 0.99
    assert 0 < found.chamfer_l1 < 0.01
    assert found.empty == 0

    def empty(x: Tensor) -> Tensor:
        return -torch.ones(len(x))

    found = score_fields(lambda _: empty, data, 400, resolution=16)
    assert (found.iou, found.f_score, found.empty) == (0, 0, 4)
    assert np.isnan(found.chamfer_l1)
    assert np.isnan(score_fields(lambda _: empty, data, 400).f_score)


def clouds(n: int, seed: int, n_points: int = 64) -> np.ndarray:
    """Boxes of random sides: one distribution."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(-1, 1, (n, n_points, 3)) * rng.uniform(0.2, 1, (n, 1, 3))).astype(np.float32)


def test_distances_of_clouds_by_hand() -> None:
    a = np.array([[[0, 0, 0], [1, 0, 0]]], np.float32)
    b = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 1, 0], [0, 2, 0]]], np.float32)
    # The second: from a 1 and sqrt(2); back 1 and 2.
    np.testing.assert_allclose(chamfer_matrix(a, b), [[0, (1 + 2) / 2 + (1 + 4) / 2]])
    # One to one: (0,0,0)-(0,1,0) and (1,0,0)-(0,2,0), or (0,0,0)-(0,2,0) and (1,0,0)-(0,1,0): the latter is shorter.
    np.testing.assert_allclose(emd_matrix(a, b), [[0, min(1 + 5**0.5, 2 + 2**0.5) / 2]])
    with pytest.raises(ValueError, match="one to one"):
        emd_matrix(a, clouds(1, 0))


def test_mmd_coverage_and_1nna_by_hand() -> None:
    across = np.array([[1.0, 4.0, 9.0], [2.0, 3.0, 8.0]])  # two generated, three real
    assert mmd(across) == pytest.approx((1 + 3 + 8) / 3)
    assert coverage(across) == pytest.approx(1 / 3)  # both are nearest to the first
    generated = np.array([[0, 0.5], [0.5, 0]])
    reference = np.array([[0, 2, 9], [2, 0, 9.0], [9, 9, 0]])
    # Generated: 0.5 < 1 own, 0.5 < 2 own. Real: 1 < 2 other, 2 < 3 own, 8 < 9 other.
    assert one_nearest_neighbor_accuracy(generated, across, reference) == pytest.approx(3 / 5)
    # A tie of one's own and another counts half.
    generated[generated == 0.5] = 1.0
    assert one_nearest_neighbor_accuracy(generated, across, reference) == pytest.approx(
        (0.5 + 1 + 0 + 1 + 0) / 5
    )


def test_equal_sets_and_sets_of_one_distribution_and_of_two() -> None:
    real = clouds(25, 0)
    same = score_generation(real, real, n_emd=0)
    assert same.emd is None
    assert same.cd == SetScores(0.0, 1.0, 0.0)
    alike = score_generation(clouds(25, 1), real, 0).cd
    assert 0.35 < alike.one_nna < 0.65
    assert alike.cov > 0.35
    other = score_generation(clouds(25, 1) + 3, real, 0).cd
    assert other.one_nna == 1
    assert other.mmd > 10 * alike.mmd
    one = np.repeat(clouds(1, 2), 25, 0)
    assert score_generation(one, real, 0).cd.cov == 1 / 25


def test_emd_tells_even_from_clumped_clouds() -> None:
    real, made = clouds(6, 0), clouds(6, 1)
    found = score_generation(made, real, n_emd=32)
    assert found.n_emd == 32
    assert found.emd is not None
    assert found.emd.mmd == pytest.approx(mmd(emd_matrix(made[:, :32], real[:, :32])))
    assert score_generation(real, real, 16).emd == SetScores(0.0, 1.0, 0.0)


def test_baselines() -> None:
    real, train = clouds(30, 0), clouds(60, 5)
    rng = np.random.default_rng(0)
    drawn = copies(train, 30, rng)
    assert len(np.unique(drawn.reshape(30, -1), axis=0)) == 30
    assert all((train == c).all((1, 2)).any() for c in drawn)
    random = noise(real, 30, rng)
    assert random.shape == real.shape
    assert random.std() == pytest.approx(real.std(), rel=0.05)
    assert score_generation(random, real, 0).cd.one_nna > score_generation(drawn, real, 0).cd.one_nna
    part = real[7][real[7][:, 0] > 0]
    assert nearest_shape(part, real) == 7


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (clouds(1, 0), "at least two"),
        (clouds(3, 0)[:, :10], "10 points, real ones 64"),
        (np.full((3, 64, 3), np.nan, np.float32), "NaN or Inf"),
    ],
)
def test_sets_that_cannot_be_compared(made: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_generation(made, clouds(3, 1))
