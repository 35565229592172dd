# SPDX-License-Identifier: Apache-2.0
"""The patch embedding's training kernels against torch: values, gradients, running values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pc_perception.models.patches import PatchEmbedding

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


BEFORE_NORMS = ("first.0.bias", "first.3.bias", "second.0.bias")
"""Parameters whose gradients are nothing but rounding."""


def _train(
    monkeypatch: pytest.MonkeyPatch, points: Tensor, hidden: tuple[int, int, int], backend: str, low=False
):  # type: ignore[no-untyped-def]
    """Take gradients of the same embedding; return what it made of ``points``, they and the running values."""
    monkeypatch.setenv("PC_PERCEPTION_BACKEND", backend)
    torch.manual_seed(0)
    network = PatchEmbedding(20, hidden).to(DEVICE).train()
    norms: list[Any] = [network.first[1], network.second[1]]
    for norm in norms:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=low):
        y = network(points)
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    (y * slope).float().sum().backward()
    grads = {name: p.grad for name, p in network.named_parameters() if name not in BEFORE_NORMS}
    return y.detach().float(), grads, dict(network.named_buffers())


@pytest.mark.parametrize("shape", [(2, 3, 16), (1, 9, 5), (1, 1, 2), (3, 11, 32)])
@pytest.mark.parametrize("hidden", [(8, 12, 16), (130, 24, 132)])
def test_a_step_is_torch_s(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], hidden: tuple[int, int, int]
) -> None:
    points = torch.rand(*shape, 3, generator=torch.Generator().manual_seed(0)).to(DEVICE) + 1
    x, expected, before = _train(monkeypatch, points, hidden, "torch")
    y, grads, after = _train(monkeypatch, points, hidden, "triton")
    torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-4)
    for name, grad in expected.items():
        assert (grads[name] - grad).norm() < 1e-3 * grad.norm() + 1e-5, name
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_as_near_to_float32_as_torch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(4, 16, 16, 3, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    wide, by_torch, by_kernels = (
        _train(monkeypatch, points, (32, 64, 96), backend, low)
        for backend, low in (("torch", False), ("torch", True), ("triton", True))
    )
    assert (by_kernels[0] - wide[0]).norm() < 1.2 * (by_torch[0] - wide[0]).norm()
    for name, grad in wide[1].items():
        off = (by_kernels[1][name] - grad).norm()
        assert off < 1.5 * (by_torch[1][name] - grad).norm() + 1e-3 * grad.norm(), name


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_a_number_stays_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.full((1, 2, 4, 3), torch.nan, device=DEVICE)
    y, *_ = _train(monkeypatch, points, (8, 12, 16), "triton")
    assert not y.isfinite().any()
