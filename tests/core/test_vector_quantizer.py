# SPDX-License-Identifier: Apache-2.0
"""The vector quantiser: nearest codes, gradients, averages by hand, dead codes."""

import pytest
import torch

from pc_perception.models.codebook import perplexity
from pc_perception.models.vector_quantizer import UPDATES, VectorQuantizer


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def clusters(n: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    centers = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    return centers[torch.arange(n) % 4] + 0.1 * torch.randn(n, 2), centers


@pytest.mark.parametrize("update", UPDATES)
def test_a_code_is_its_own_code(update: str) -> None:
    quantizer = VectorQuantizer(32, 6, update).eval()
    found = quantizer(quantizer.embedding.detach().clone())
    assert torch.equal(found.ids, torch.arange(32))
    assert torch.equal(found.codes.detach(), quantizer.embedding.detach())
    assert float(found.loss.detach()) == 0
    again = quantizer(quantizer(torch.randn(5, 7, 6)).codes.detach())
    assert again.ids.shape == (5, 7)
    assert torch.equal(again.codes, quantizer.lookup(again.ids))


@pytest.mark.parametrize("update", UPDATES)
def test_the_gradient_passes_straight_through(update: str) -> None:
    quantizer = VectorQuantizer(8, 3, update).eval()
    x, direction = torch.randn(4, 5, 3, requires_grad=True), torch.randn(4, 5, 3)
    (quantizer(x).codes * direction).sum().backward()
    assert torch.equal(x.grad, direction)


def test_losses_are_weighted_as_published() -> None:
    """With one code at distance d everywhere, both terms are d^2: 0.25 of it by EMA, 1 + 0.25 by the gradient."""
    for update, weight in (("ema", 0.25), ("gradient", 1.25)):
        quantizer = VectorQuantizer(1, 2, update).eval()
        quantizer.embedding.data.zero_()
        x = torch.full((6, 2), 3.0, requires_grad=True)
        loss = quantizer(x).loss
        assert float(loss.detach()) == pytest.approx(9 * weight)
        loss.backward()
        scale = 2 * 3 / 12  # of a mean over twelve squares
        assert torch.allclose(x.grad, torch.full_like(x, scale * (0.25 if update == "ema" else 1.0)))
        if update == "gradient":
            assert torch.allclose(quantizer.embedding.grad, torch.full((1, 2), -0.25 * 6 * scale))


def test_codes_become_the_means_of_their_clusters() -> None:
    x, centers = clusters()
    quantizer = VectorQuantizer(4, 2, decay=0.9)
    quantizer.embedding.data.copy_(centers + 0.8)
    quantizer.usage.fill_(0.25)
    quantizer.total.copy_(quantizer.embedding / 4)
    for _ in range(100):
        quantizer(x)
    means = torch.stack([x[k::4].mean(0) for k in range(4)])
    assert torch.allclose(quantizer.embedding.data, means, atol=1e-3)
    assert float(perplexity(quantizer(x).ids.flatten(), len(quantizer.embedding))) == pytest.approx(
        4, abs=1e-3
    )


@pytest.mark.parametrize("update", UPDATES)
def test_dead_codes_come_back(update: str) -> None:
    """All codes but one far away from the data: restarted, features are spread over more than half of the clusters."""
    x, _ = clusters()
    quantizer = VectorQuantizer(16, 2, update, decay=0.9)
    quantizer.embedding.data.fill_(100.0)
    quantizer.embedding.data[0] = 0
    quantizer.usage.fill_(1 / 16)
    quantizer.total.copy_(quantizer.embedding / 16)
    assert float(quantizer(x).ids.max()) == 0
    for _ in range(60):
        quantizer(x)
    assert 0.5 * 4 < float(perplexity(quantizer(x).ids.flatten(), len(quantizer.embedding))) <= 16
    assert float(quantizer(x).loss.detach()) < 0.2


def test_codes_begin_among_the_features_and_evaluation_moves_nothing() -> None:
    x = torch.randn(500, 4) + 20
    quantizer = VectorQuantizer(64, 4)
    before = quantizer.embedding.clone()
    quantizer.eval()(x)
    assert torch.equal(quantizer.embedding, before)
    found = quantizer.train()(x)
    assert (found.codes.detach() - x).norm(dim=1).mean() < 3
    assert 1 <= float(perplexity(quantizer(x).ids.flatten(), len(quantizer.embedding))) <= 64
    with pytest.raises(ValueError, match="ema, gradient"):
        VectorQuantizer(4, 2, "momentum")
