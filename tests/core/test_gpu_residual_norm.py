# SPDX-License-Identifier: Apache-2.0
"""An addition and its layer norm by kernel against torch, and a transformer that trains with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pc_perception.models.transformer import Transformer

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("shape", [(2, 5, 8), (3, 7, 96), (1, 1, 20), (4, 26, 48)])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_values_and_gradients(shape: tuple[int, int, int], scaled: bool, narrow: bool) -> None:
    from pc_perception.ops.gpu.residual_norm import add_norm

    x, y = (_drawn(*shape, seed=s).requires_grad_() for s in (0, 1))
    if narrow:  # the sum is as wide as the wider of the two
        y = y.detach().bfloat16().requires_grad_()
    scale = _drawn(shape[0], 1, 1, seed=2).to(y.dtype) if scaled else None
    norm = torch.nn.LayerNorm(shape[2], device=DEVICE)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    total = x + (y.float() if scale is None else y.float() * scale.float())
    given = (x, y, norm.weight, norm.bias)
    results = (total, norm(total)), add_norm(x, y, scale, norm)
    slopes = _drawn(*shape, seed=3), _drawn(*shape, seed=4)
    expected, found = (torch.autograd.grad(r, given, slopes) for r in results)
    for a, b in zip((*results[0], *expected), (*results[1], *found), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(b, a, rtol=1e-2 if a.dtype == torch.bfloat16 else 1e-4, atol=1e-5)


@pytest.mark.parametrize("low", [False, True])
def test_a_transformer_is_torch_s(monkeypatch: pytest.MonkeyPatch, low: bool) -> None:
    torch.manual_seed(0)
    network = Transformer(24, 3, 4, drop_path=0.5).to(DEVICE).train()
    x, position = _drawn(6, 9, 24), _drawn(6, 9, 24, seed=1)
    found = []
    for backend in ("torch", "triton"):
        monkeypatch.setenv("PC_PERCEPTION_BACKEND", backend)
        network.zero_grad()
        torch.manual_seed(1)  # the same objects are left out
        own = x.clone().requires_grad_()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=low):
            y = network(own, position)
        (y.float() * _drawn(6, 9, 24, seed=2)).sum().backward()
        found.append([y.detach().float(), own.grad, *(p.grad for p in network.parameters())])
    for a, b in zip(*found, strict=True):
        assert a is not None
        assert (a - b).norm() <= (3e-2 if low else 1e-5) * a.norm()  # nothing where all are left out
