# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels around the gated delta rule against the mixer's own operations."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pc_perception.models.layers import GatedDeltaNet, SequenceBlock

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _mixer(width: int = 12, *shape: int, conv: int = 4, negative: bool = False) -> GatedDeltaNet:
    torch.manual_seed(width)
    mixer = GatedDeltaNet(width, *(shape or (2, 8, 12)), conv=conv, negative=negative)
    torch.nn.init.normal_(mixer.norm_weight, 1.0, 0.3)
    return mixer.to(DEVICE).requires_grad_(False)


def _x(n: int, width: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(n)).to(DEVICE)


def _both(monkeypatch: pytest.MonkeyPatch, module: torch.nn.Module, *given: object) -> list[Tensor]:
    found = []
    for backend in ("triton", "torch"):
        monkeypatch.setenv("PC_PERCEPTION_BACKEND", backend)
        with torch.inference_mode():
            found.append(module(*given))
    return found


@pytest.mark.parametrize(
    ("offsets", "shape", "conv", "negative"),
    [
        ((0, 70), (3, 16, 32), 4, False),
        ((0, 0, 1, 3, 20, 20, 22, 22), (2, 8, 8), 4, True),
        ((0, 7, 20), (1, 20, 3), 1, False),
        (tuple(range(0, 74, 2)), (1, 5, 4), 4, False),  # more sequences than are looked at at once
        ((0, 0), (2, 8, 8), 4, False),
    ],
)
def test_mixer_equals_the_module(
    monkeypatch: pytest.MonkeyPatch,
    offsets: tuple[int, ...],
    shape: tuple[int, ...],
    conv: int,
    negative: bool,
) -> None:
    mixer, x = _mixer(24, *shape, conv=conv, negative=negative), _x(offsets[-1], 24)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    found, expected = _both(monkeypatch, mixer, x, offsets, order)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_tokens_equal_the_formulae() -> None:
    from pc_perception.ops.gpu.mixer import tokens

    mixer = _mixer(12, 2, 8, 12)
    projected = _x(60, sum(mixer.split)) * 5
    projected[:, -4:-2] = torch.linspace(-60, 60, 120, device=DEVICE).view(60, 2)
    projected[20:24] = 0  # a key of zeros stays one
    found = tokens(projected, None, _edges(0, 60), mixer.kernel, mixer.log_A, mixer.step_bias, 2.0, 8, 12)
    qkv = projected[:, :56].double()
    qkv = functional.silu(
        functional.conv1d(functional.pad(qkv.T, (3, 0))[None], mixer.kernel.double(), groups=56)[0].T
    )
    q, k, v = (t.unflatten(1, (2, -1)) for t in qkv.split((16, 16, 24), 1))
    q, k = (t / (t.square().sum(-1, keepdim=True) + 1e-6).sqrt() for t in (q, k))
    step = (projected[:, -4:-2] + mixer.step_bias).double()
    log_decay = -mixer.log_A.double().exp() * functional.softplus(step, threshold=700)
    wanted = q / 8**0.5, k, v, log_decay, 2 * projected[:, -2:].double().sigmoid()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, atol=2e-6, rtol=2e-6)
    # Small decays keep their digits: a long sequence adds up many of them.
    torch.testing.assert_close(found.log_decay.double(), log_decay, atol=0, rtol=5e-6)


def test_a_block_leaves_rows_of_no_sequence_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = SequenceBlock(16, 2, 8, 8).to(DEVICE).requires_grad_(False)
    x, order = _x(70, 16), torch.randperm(70, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    _, expected = _both(monkeypatch, block, x, order, (0, 30, 70))
    x = torch.cat([x, torch.full((20, 16), torch.nan, device=DEVICE)])
    order = torch.cat([order, torch.arange(70, 90, device=DEVICE)])
    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "triton")
    with torch.inference_mode():
        found = block(x, order, _edges(0, 30, 70))
    torch.testing.assert_close(found[:70], expected, atol=1e-5, rtol=1e-5)


def test_sequences_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer, x = _mixer(), _x(30, 12)
    before, _ = _both(monkeypatch, mixer, x, (0, 20, 30))
    x[17:20] = torch.nan
    after, _ = _both(monkeypatch, mixer, x, (0, 20, 30))
    assert torch.equal(after[20:], before[20:])
    assert bool(after[17:20].isnan().all())


def test_what_the_kernels_do_not_take_is_left_to_the_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((1, 8, 260), (1, 140, 8)):
        found, expected = _both(monkeypatch, _mixer(12, *shape), _x(9, 12), (0, 9))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "triton")
    mixer = _mixer().requires_grad_()
    mixer(_x(20, 12), (0, 20), torch.arange(20, device=DEVICE)).sum().backward()
    assert all(p.grad is not None for p in mixer.parameters())
    with torch.inference_mode(), pytest.raises(ValueError, match="ascend"):
        mixer(_x(20, 12), (0, 21))


def _edges(*offsets: int) -> Tensor:
    return torch.tensor(offsets, device=DEVICE)
