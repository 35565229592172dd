# SPDX-License-Identifier: Apache-2.0
"""The Triton gated delta rule and short convolution, with gradients, against token by token."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pc_perception.ops.recurrence import gated_delta_rule, gated_delta_rule_reference
from pc_perception.ops.short_convolution import short_convolution

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def _dots_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Triton's interpreter multiply bfloat16, whose bits it takes for integers."""
    from triton.language import bfloat16, float32
    from triton.runtime.interpreter import InterpreterBuilder

    dot = InterpreterBuilder.create_dot

    def widened(self: InterpreterBuilder, a: Any, b: Any, *rest: Any) -> Any:
        a, b = (self.cast_impl(t, float32) if t.dtype.scalar == bfloat16 else t for t in (a, b))
        return dot(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", widened)


def _tokens(n: int, n_sequences: int, d_k: int, d_v: int, n_heads: int = 1) -> list[Tensor]:
    g = torch.Generator().manual_seed(n)
    q, k = (torch.randn(n, n_heads, d_k, generator=g) for _ in "qk")
    v, decay = torch.randn(n, n_heads, d_v, generator=g), torch.rand(n, n_heads, generator=g) / 4
    beta, state = (
        torch.rand(n, n_heads, generator=g),
        torch.randn(n_sequences, n_heads, d_k, d_v, generator=g),
    )
    inputs = (q / d_k**0.5, functional.normalize(k, dim=-1), v, -decay, beta, state)
    return [t.to(DEVICE) for t in inputs]


def _compare(inputs: list[Tensor], offsets: tuple[int, ...]) -> None:
    leaves = [[t.clone().requires_grad_() for t in inputs] for _ in range(2)]
    found = gated_delta_rule(*leaves[0][:5], offsets, leaves[0][5], "triton")
    wanted = gated_delta_rule_reference(*leaves[1][:5], offsets, leaves[1][5])
    for results in (found, wanted):
        sum((t * torch.arange(t.numel(), device=DEVICE).view_as(t).sin()).sum() for t in results).backward()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for a, b in zip(*leaves, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=5e-5, rtol=5e-5)


@pytest.mark.parametrize(
    ("offsets", "d_k", "d_v", "n_heads"),
    [((0, 0, 1, 66, 66), 7, 5, 2), ((0, 64), 16, 16, 1), ((0, 130, 150), 3, 40, 1), ((0, 20), 20, 3, 1)],
)
def test_equals_the_recurrence(offsets: tuple[int, ...], d_k: int, d_v: int, n_heads: int) -> None:
    _compare(_tokens(offsets[-1], len(offsets) - 1, d_k, d_v, n_heads), offsets)


def test_short_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from pc_perception.ops.gpu import recurrence

    monkeypatch.setattr(recurrence, "chunk_length", lambda device, d_k: 32)
    _compare(_tokens(70, 2, 8, 8), (0, 3, 70))


@pytest.mark.parametrize("write", [1.0, 2.0])
def test_equal_keys_without_decay_keep_their_digits(write: float) -> None:
    # The triangular matrix is then constant: its inverse is small, the powers of it grow beyond 1e17.
    k = functional.normalize(torch.ones(64, 1, 4, device=DEVICE), dim=-1)
    v = torch.randn(64, 1, 3, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    gates = torch.ones(64, 1, device=DEVICE)
    tokens = k, k, v, 0 * gates, write * gates, (0, 64)
    out, _ = gated_delta_rule(*tokens, backend="triton")
    torch.testing.assert_close(out, gated_delta_rule_reference(*tokens)[0], atol=1e-5, rtol=1e-5)
    if write == 1.0:  # each value replaces the one before
        torch.testing.assert_close(out, v, atol=1e-5, rtol=1e-5)


def test_half_precision_keeps_its_states_in_float32() -> None:
    *tokens, state = _tokens(70, 1, 8, 8)
    half = [t.bfloat16() for t in tokens]
    out, final = gated_delta_rule(*half, (0, 70), state, "triton")
    assert (out.dtype, final.dtype) == (torch.bfloat16, torch.float32)
    exact, last = gated_delta_rule_reference(*(t.float() for t in half), (0, 70), state)
    torch.testing.assert_close(final, last, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(out.float(), exact, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(
    ("dtype", "size", "most"),
    [(torch.float16, 1.0, 2e-3), (torch.float16, 6000.0, 2e-3), (torch.bfloat16, 1.0, 2e-2)],
)
def test_half_precision_errs_no_more_in_long_sequences(dtype: torch.dtype, size: float, most: float) -> None:
    # Without decay nothing is forgotten, except what later tokens write over it.
    *tokens, state = _tokens(512, 1, 64, 64)
    tokens[2], tokens[3] = tokens[2] * size, tokens[3] * 0
    half = [t.to(dtype).requires_grad_() for t in tokens]
    wide = [t.detach().float().requires_grad_() for t in half]
    found = gated_delta_rule(*half, (0, 512), state * size, "triton")
    wanted = gated_delta_rule(*wide, (0, 512), state * size, "torch")
    torch.autograd.backward(found[0], torch.ones_like(found[0]) / size)
    torch.autograd.backward(wanted[0], torch.ones_like(wanted[0]) / size)
    found, wanted = ([*out.detach().split(128), final.detach()] for out, final in (found, wanted))
    found, wanted = found + [t.grad for t in half], wanted + [t.grad for t in wide]
    for a, b in zip(found, wanted, strict=True):
        assert float((a.float() - b).norm()) < most * float(b.norm())


def test_types_may_differ() -> None:
    *tokens, state = _tokens(20, 1, 4, 4)
    mixed = [tokens[0].half(), tokens[1].bfloat16(), *tokens[2:]]
    found = gated_delta_rule(*mixed, (0, 20), state, "triton")
    wanted = gated_delta_rule_reference(*(t.float() for t in mixed), (0, 20), state)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_chunks_hold_every_token_once_and_no_boundary() -> None:
    from pc_perception.ops.gpu.recurrence import cut

    many = tuple(sum(range(s)) % 7 + 70 * s for s in range(100))
    for offsets in ((0, 0, 5, 69, 69, 300), (0, 64, 128), (0, 1, 2, 3), (0, 0), (0, 70, 70), (0, *many)):
        edges = torch.tensor(offsets, device=DEVICE)
        chunks = cut(edges, offsets[-1] + 40, 64)  # with room for more tokens than there are
        rows = [range(a, b) for a, b in zip(chunks.starts.tolist(), chunks.stops.tolist(), strict=True)]
        assert [row for chunk in rows for row in chunk] == list(range(offsets[-1]))
        assert not any(chunk.start < edge < chunk.stop for chunk in rows for edge in offsets)
        counts = [-(-(b - a) // 64) for a, b in pairwise(offsets)]
        assert chunks.first.diff().tolist() == counts
        # Those that nobody needs follow on the last sequence, and are empty.
        number = torch.arange(len(rows), device=DEVICE)
        owner = torch.searchsorted(chunks.first[1:], number, right=True).clamp(max=len(counts) - 1)
        assert torch.equal(chunks.starts, edges[owner] + (number - chunks.first[owner]) * 64)
        assert torch.equal(chunks.stops, torch.minimum(chunks.starts + 64, edges[owner + 1]))


def test_nan_stays_within_its_sequence() -> None:
    inputs = _tokens(90, 3, 4, 4)
    clean = gated_delta_rule(*inputs[:5], (0, 20, 80, 90), inputs[5], "triton")
    inputs[1][30] = torch.nan
    out, final = gated_delta_rule(*inputs[:5], (0, 20, 80, 90), inputs[5], "triton")
    assert bool(out[31:80].isnan().any())
    for a, b in ((out[:20], clean[0][:20]), (out[80:], clean[0][80:]), (final[::2], clean[1][::2])):
        assert torch.equal(a, b)


def test_no_tokens_and_what_the_kernels_leave_to_torch() -> None:
    *tokens, state = _tokens(0, 2, 8, 8)
    out, final = gated_delta_rule(*tokens, (0, 0, 0), state, "triton")
    assert out.shape == (0, 1, 8)
    assert torch.equal(final, state)
    for tokens in (_tokens(9, 1, 130, 2), [t.double() for t in _tokens(9, 1, 4, 2)]):
        found = gated_delta_rule(*tokens[:5], (0, 9), tokens[5], "triton")
        for a, b in zip(found, gated_delta_rule(*tokens[:5], (0, 9), tokens[5], "torch"), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("offsets", [(0, 0, 1, 3, 40, 40, 42), (0, 0)])
def test_short_convolution_equals_the_reference(width: int, offsets: tuple[int, ...]) -> None:
    g, n = torch.Generator().manual_seed(0), offsets[-1]
    shapes = ((n, 90), (70, 1, width), (len(offsets) - 1, width - 1, 70))
    inputs = [torch.randn(shape, generator=g).to(DEVICE) for shape in shapes]
    inputs[0] = inputs[0][:, :70]
    leaves = [[t.clone().requires_grad_() for t in inputs] for _ in range(2)]
    results = []
    for leaf, backend in zip(leaves, ("triton", "torch"), strict=True):
        results.append(short_convolution(leaf[0][:, :70], leaf[1], offsets, leaf[2], backend))
        sum(
            (t * torch.arange(t.numel(), device=DEVICE).view_as(t).sin()).sum() for t in results[-1]
        ).backward()
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for a, b in zip(*leaves, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=2e-5, rtol=2e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash-linear-attention needs a CUDA device")
def test_flash_linear_attention_gives_the_same() -> None:
    pytest.importorskip("fla")
    inputs = [t.bfloat16() for t in _tokens(200, 4, 32, 32, 2)]
    inputs[5] = inputs[5].float()
    offsets = (0, 0, 70, 71, 200)
    found = gated_delta_rule(*inputs[:5], offsets, inputs[5], "fla")
    wanted = gated_delta_rule(*inputs[:5], offsets, inputs[5], "triton")
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.float(), b.float(), atol=3e-2, rtol=3e-2)
