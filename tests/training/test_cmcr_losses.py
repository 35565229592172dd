# SPDX-License-Identifier: Apache-2.0
"""CMCR's losses by hand and at their known values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training.methods.cmcr_model import at_stride, distinct, with_geometry
from training.methods.contrastive import (
    code_matching,
    code_posterior,
    commitment,
    gaussian_kl,
    info_nce,
    orthogonality,
    pooled_pairs,
    psnr,
    retrieval,
)
from training.methods.frames import PixelPairs


def unit(n: int, d: int = 64, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_info_nce() -> None:
    """It is ln N for features that say nothing, about 0 for aligned ones, whatever the order of the pairs."""
    n = 2048
    constant = unit(1).expand(n, -1)
    assert float(info_nce(constant, constant, 0.07)) == pytest.approx(math.log(n), abs=1e-3)  # 7.62
    axes = torch.eye(64)
    assert float(info_nce(axes, axes, 0.07)) < 1e-3
    a, b, order = unit(50), unit(50, seed=1), torch.randperm(50)
    torch.testing.assert_close(info_nce(a, b, 0.07), info_nce(a[order], b[order], 0.07))
    assert float(retrieval(a, a)) == 1
    assert float(retrieval(axes, axes.roll(1, 0))) == 0


def test_code_matching() -> None:
    """Row-wise cross-entropy of S; 0 for equal one-hot posteriors, ln N for flat ones."""
    p, q = torch.randn(20, 9).softmax(1), torch.randn(20, 9).softmax(1)
    S = torch.tensor([[float((a * b.log()).sum() + (b * a.log()).sum()) for b in q] for a in p])
    expected = (S.exp().sum(1).log() - S.diagonal()).mean()
    torch.testing.assert_close(code_matching(p, q), expected, rtol=1e-4, atol=1e-5)
    one_hot = torch.eye(30)
    assert float(code_matching(one_hot, one_hot)) == pytest.approx(0, abs=1e-6)
    flat = torch.full((128, 30), 1 / 30)
    assert float(code_matching(flat, flat)) == pytest.approx(math.log(128), abs=1e-4)


def test_posteriors_have_gradients_on_top_of_a_code() -> None:
    """The released code takes the root of 0 there, whose gradient is not a number."""
    codes = unit(12)
    x = codes[:3].clone().requires_grad_()
    p = code_posterior(x, codes)
    torch.testing.assert_close(p, (-torch.cdist(x, codes)).softmax(1).detach(), atol=1e-3, rtol=0)
    code_matching(p, p).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert p[0].argmax() == 0


def test_commitment_by_hand() -> None:
    own = torch.tensor([[1.0, 0.0]], requires_grad=True)
    e_own, e_paired = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 2.0]])
    loss = commitment(own, e_own, e_paired)  # 2 * mean(1, 0) + mean(0, 4)
    assert float(loss.detach()) == pytest.approx(3.0)
    loss.backward()
    assert own.grad is not None
    assert own.grad.tolist() == [[2.0, -2.0]]


def test_orthogonality() -> None:
    """0 for orthogonal columns, sqrt(N) / D^2 for independent unit rows, N / (8 D^2) for equal ones."""
    shared, specific = torch.zeros(10, 64), torch.zeros(10, 64)
    shared[:5, :4], specific[5:, 4:8] = 1, 1
    assert float(orthogonality(shared, specific)) < 1e-8
    n = 20_000
    assert float(orthogonality(unit(n), unit(n, seed=1))) == pytest.approx(math.sqrt(n) / 4096, rel=0.05)
    assert float(orthogonality(unit(n), unit(n))) == pytest.approx(n / (8 * 4096), rel=0.05)
    ratio = orthogonality(unit(n), unit(n, seed=1)) / orthogonality(unit(n // 4), unit(n // 4, seed=1))
    assert float(ratio) == pytest.approx(2, rel=0.05)
    far = orthogonality(unit(99), 100 * unit(99, seed=1))
    torch.testing.assert_close(far, orthogonality(unit(99), unit(99, seed=1)))


def test_gaussian_kl_equals_torch() -> None:
    mean, log_variance = torch.randn(6, 4), torch.randn(4)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp().expand_as(mean))
    p = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    expected = torch.distributions.kl_divergence(q, p).mean()
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)


def test_psnr() -> None:
    assert float(psnr(torch.tensor(0.01))) == pytest.approx(20)


def test_superpixel_pooling() -> None:
    """Plain means over the members; superpixels that lack points or pixels are left out."""
    torch.manual_seed(0)
    points, maps = torch.randn(40, 3), torch.randn(2, 3, 4, 5)
    segments = torch.randint(0, 6, (2, 4, 5))
    segments[1] += 6
    segments[segments == 3] = 2  # 3 has points alone
    own = torch.randint(0, 12, (40,))
    own[own == 5] = 3  # 5 has pixels alone
    found = pooled_pairs(points, own, maps, segments)
    both = [s for s in range(12) if (own == s).any() and (segments == s).any()]
    assert {3, 5}.isdisjoint(both)
    for rows, source, member in ((found[0], points, own), (found[1], maps.movedim(1, 3), segments)):
        expected = torch.stack([source[member == s].mean(0) for s in both])
        torch.testing.assert_close(rows, expected)


def pairs_of(voxel: list[int], pixel: list[list[int]], depth: list[float], hidden: bool = True) -> PixelPairs:
    n = len(voxel)
    return PixelPairs(
        torch.tensor(voxel), torch.zeros(n, dtype=torch.int64), torch.tensor(pixel).reshape(n, 2),
        torch.tensor(depth), torch.full((n,), hidden),
    )  # fmt: skip


def test_geometry_puts_the_nearest_point_at_hidden_pixels() -> None:
    codes = torch.zeros(1, 2, 3, 4, requires_grad=True)
    points = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]], requires_grad=True)
    hidden = pairs_of([0, 1, 2], [[1, 2], [1, 2], [0, 3]], [9.0, 4.0, 7.0])
    out = with_geometry(codes, points, hidden)
    expected = torch.zeros(1, 2, 3, 4)
    expected[0, :, 1, 2], expected[0, :, 0, 3] = points[1].detach(), points[2].detach()
    assert torch.equal(out.detach(), expected)
    out.sum().backward()
    assert points.grad is not None
    assert points.grad[:, 0].tolist() == [0, 1, 1]
    assert codes.grad is not None
    assert int((codes.grad[0, 0] == 0).sum()) == 2
    assert torch.equal(with_geometry(codes, points, hidden.select(torch.zeros(3, dtype=torch.bool))), codes)


def test_each_voxel_is_contrasted_once() -> None:
    voxel = torch.tensor([4, 4, 4, 7, 9, 9])
    chosen = distinct(voxel, 100)
    assert sorted(voxel[chosen].tolist()) == [4, 7, 9]
    assert len(distinct(voxel, 2)) == 2
    assert {int(distinct(voxel, 100)[i]) for i in range(3) for _ in range(60)} == set(range(6))


def test_visible_pairs_are_all_kept_and_hidden_ones_none() -> None:
    """The released code indexes by ``1 - mask``: with these eight it would keep the pairs 0 and 1 alone, repeated."""
    pairs = pairs_of(list(range(8)), [[i, i] for i in range(8)], [1.0] * 8)
    hidden = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0]).bool()
    pairs = PixelPairs(pairs.voxel, pairs.picture, pairs.pixel, pairs.depth, hidden)
    assert pairs.select(~pairs.hidden).voxel.tolist() == [0, 1, 2, 6, 7]
    assert at_stride(pairs, 4).pixel.tolist() == [[i // 4, i // 4] for i in range(8)]
