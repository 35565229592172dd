# SPDX-License-Identifier: Apache-2.0
"""The codebook of two modalities: nearest codes, moving averages by hand, straight-through gradients."""

import pytest
import torch
from torch.nn import functional

from pc_perception.models.codebook import Codebook, perplexity


def unit(*shape: int) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape), dim=1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_the_nearest_code_is_chosen() -> None:
    book, x = Codebook(40, 8), torch.randn(300, 8)
    book.embedding.mul_(torch.rand(40, 1) + 0.5)  # loaded codes need not be unit
    assert torch.equal(book.assign(x), torch.cdist(x, book.embedding).argmin(1))
    assert book.assign(x[:0]).shape == (0,)


def test_perplexity() -> None:
    assert float(perplexity(torch.arange(400).repeat(3), 400)) == pytest.approx(400, rel=1e-4)
    assert float(perplexity(torch.full((50,), 7), 400)) == pytest.approx(1)
    assert 1 < float(perplexity(torch.randint(0, 400, (2048,)), 400)) < 400


def test_straight_through() -> None:
    book, x = Codebook(16, 4), unit(5, 4).requires_grad_()
    out = book.quantise(x)
    torch.testing.assert_close(out, book.embedding[book.assign(x)])
    direction = torch.randn(5, 4)
    (out * direction).sum().backward()
    assert torch.equal(x.grad, direction)


def test_one_update_by_hand() -> None:
    """n <- 0.9 n + 0.1 hits, smoothed; w <- 0.9 w + 0.05 (own + paired); e = w / |w|."""
    book = Codebook(2, 2, decay=0.9)
    book.embedding.copy_(torch.eye(2))
    book.ema_weight.copy_(torch.eye(2))
    own, paired = torch.tensor([[0.8, 0.6], [0.6, 0.8]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    book.update(torch.tensor([0, 0]), own, paired)
    torch.testing.assert_close(book.ema_weight, torch.tensor([[0.9 + 0.05 * 2.4, 0.05 * 2.4], [0.0, 0.9]]))
    smoothed = (torch.tensor([0.2, 0.0]) + 1e-5) / (0.2 + 2e-5) * 0.2
    torch.testing.assert_close(book.ema_count, smoothed)
    torch.testing.assert_close(book.embedding, functional.normalize(book.ema_weight, dim=1))


def test_it_converges_to_the_mean_of_both_modalities() -> None:
    book, own, paired = Codebook(4, 6, decay=0.9), unit(30, 6), unit(30, 6)
    code = torch.arange(30) % 3
    for _ in range(300):
        book.update(code, own, paired)
    for k in range(3):
        mean = ((own + paired) / 2)[code == k].mean(0)
        torch.testing.assert_close(book.embedding[k], functional.normalize(mean, dim=0), atol=1e-3, rtol=0)
    assert torch.isfinite(book.embedding).all()
    torch.testing.assert_close(book.embedding.norm(dim=1), torch.ones(4))


def test_aligned_pairs_get_the_same_code_and_names_are_those_of_checkpoints() -> None:
    book = Codebook()
    x = unit(2048, 64)
    assert int((book.assign(x) == book.assign(x.clone())).sum()) == 2048
    shapes = {name: tuple(t.shape) for name, t in book.state_dict().items()}
    assert shapes == {"embedding": (400, 64), "ema_count": (400,), "ema_weight": (400, 64)}
