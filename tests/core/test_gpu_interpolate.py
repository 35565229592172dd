# SPDX-License-Identifier: Apache-2.0
"""Interpolation and label propagation in Triton against the reference, with gradients."""

import pytest
import torch

from pc_perception.labels import UNLABELED
from pc_perception.ops.interpolate import propagate_labels, three_interpolate, weighted_sum

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BOTH = ("triton", "torch")


def _cloud(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 5, 40])
def test_interpolates_as_the_reference(dtype: torch.dtype, channels: int) -> None:
    points, queries = _cloud(60, 0, dtype), _cloud(45, 1, dtype)
    wide = torch.randn(60, channels + 2, generator=torch.Generator().manual_seed(2)).to(DEVICE, dtype)
    features = wide[:, 1:-1].requires_grad_()  # rows that do not follow each other
    found, expected = (three_interpolate(points, features, queries, backend=b) for b in BOTH)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(out.sin().sum(), features)[0] for out in (found, expected)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


def test_scenes_few_points_and_coinciding_ones() -> None:
    points, features, queries = _cloud(12), _cloud(12, 1), _cloud(9, 2)
    found, expected = (
        three_interpolate(points, features, queries, [0, 2, 12], [0, 4, 9], backend=b) for b in BOTH
    )
    torch.testing.assert_close(found, expected)
    for n in (1, 5):  # fewer than three; all equal
        same = torch.ones(n, 3, device=DEVICE)
        found, expected = (three_interpolate(same, features[:n], same, backend=b) for b in BOTH)
        torch.testing.assert_close(found, expected)
    assert three_interpolate(points, features, queries[:0], backend="triton").shape == (0, 3)
    assert three_interpolate(points, features[:, :0], queries, backend="triton").shape == (9, 0)
    with pytest.raises(ValueError, match="nothing to interpolate from"):
        three_interpolate(points[:0], features[:0], queries, backend="triton")
    with pytest.raises(ValueError, match="hold NaN"):
        three_interpolate(points, features, queries * torch.nan, backend="triton")


def test_half_features_take_the_reference() -> None:
    points, features, queries = _cloud(12), _cloud(12, 1).half(), _cloud(9, 2)
    found, expected = (three_interpolate(points, features, queries, backend=b) for b in BOTH)
    assert torch.equal(found, expected)


def test_gradients_of_a_weighted_sum() -> None:
    g = torch.Generator().manual_seed(4)
    features = torch.rand(6, 2, generator=g, dtype=torch.float64).to(DEVICE).requires_grad_()
    weight = torch.rand(7, 3, generator=g, dtype=torch.float64).to(DEVICE).requires_grad_()
    index = torch.randint(0, 6, (7, 3), generator=g).to(DEVICE)
    assert torch.autograd.gradcheck(lambda f, w: weighted_sum(f, index, w, "triton"), (features, weight))
    grads = [torch.autograd.grad(weighted_sum(features, index, weight, b).sum(), features)[0] for b in BOTH]
    torch.testing.assert_close(*grads)
    assert torch.equal(
        weighted_sum(features, index[:, :0], weight[:, :0], "triton"), features.new_zeros(7, 2)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_as_the_reference(dtype: torch.dtype) -> None:
    points = (4 * _cloud(150, 0, dtype)).round()  # a lattice: ties
    labels = torch.arange(150, device=DEVICE)
    labels[::3] = UNLABELED
    queries = (4 * _cloud(70, 1, dtype)).round() + 0.5
    for radius in (0.5, 0.9, 50.0):
        found, expected = (propagate_labels(points, labels, queries, radius, backend=b) for b in BOTH)
        assert found.tolist() == expected.tolist()
    offsets, query_offsets = [0, 20, 20, 150], [0, 40, 41, 70]
    found, expected = (
        propagate_labels(points, labels, queries, 2.0, offsets, query_offsets, backend=b) for b in BOTH
    )
    assert found.tolist() == expected.tolist()


def test_labels_of_few_points() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]], device=DEVICE)
    labels = torch.tensor([5, UNLABELED, 7], device=DEVICE)
    queries = torch.tensor([[0.9, 0, 0], [1.0, 0, 0], [1.2, 0, 0], [2.0, 3, 0]], device=DEVICE)
    short = propagate_labels(points, labels.to(torch.uint16), queries, 1.5, backend="triton")
    assert short.dtype == torch.uint16
    assert short.tolist() == [5, 5, 7, UNLABELED]
    none = propagate_labels(points[:0], labels[:0], queries, 1.5, backend="triton")
    assert none.tolist() == [UNLABELED] * 4
    assert propagate_labels(points[:1], labels[:1], queries[:0], 1.5, backend="triton").shape == (0,)
    with pytest.raises(ValueError, match="radius must be positive"):
        propagate_labels(points, labels, queries, 0.0, backend="triton")
    with pytest.raises(ValueError, match="scenes of points"):
        propagate_labels(points, labels, queries, 1.0, [0, 1, 3], backend="triton")
    with pytest.raises(ValueError, match="hold NaN"):
        propagate_labels(points * torch.nan, labels, queries, 1.0, backend="triton")
