# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule: its two matrix forms, its backends, its gradients, its memory and what it forgets."""

import tracemalloc
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pc_perception.ops.recurrence import gated_delta_rule, gated_delta_rule_reference

BACKENDS = ("numba", "torch")
OFFSETS = (0, 0, 1, 70, 102, 102, 150)  # empty, one token, several chunks, exactly one chunk


def _inputs(
    n: int = 150, n_sequences: int = 6, dtype: torch.dtype = torch.float64, largest_write: float = 1.0
) -> list[Tensor]:
    """Queries, unit keys, values, log decays, writes and first states; sizes that divide nothing."""
    g = torch.Generator().manual_seed(n)
    q, k = (torch.randn(n, 3, 7, generator=g, dtype=dtype) for _ in "qk")
    v, states = (
        torch.randn(*shape, generator=g, dtype=dtype) for shape in ((n, 3, 5), (n_sequences, 3, 7, 5))
    )
    decay, beta = (torch.rand(n, 3, generator=g, dtype=dtype) for _ in "gb")
    return [q / 7**0.5, functional.normalize(k, dim=-1), v, -decay, beta * largest_write, states]


def _run(inputs: list[Tensor], offsets: tuple[int, ...], backend: str) -> tuple[Tensor, Tensor]:
    return gated_delta_rule(*inputs[:5], offsets, inputs[5], backend)


def test_the_recurrence_is_the_matrix_form_of_the_paper() -> None:
    q, k, v, log_decay, beta, _ = _inputs(40, 1)
    out, final = gated_delta_rule_reference(q, k, v, log_decay, beta, (0, 40))
    for h in range(3):
        S = torch.zeros(5, 7, dtype=torch.float64)  # (d_v, d_k), as the paper has it
        for t in range(40):
            key = k[t, h]
            transition = log_decay[t, h].exp() * (torch.eye(7).double() - beta[t, h] * torch.outer(key, key))
            S = S @ transition + beta[t, h] * torch.outer(v[t, h], key)
            torch.testing.assert_close(S @ q[t, h], out[t, h], atol=1e-14, rtol=0)
        torch.testing.assert_close(S.T, final[0, h], atol=1e-14, rtol=0)


@pytest.mark.parametrize("negative", [False, True])
def test_a_transition_never_lengthens_the_memory(negative: bool) -> None:
    _, k, _, log_decay, beta, _ = _inputs(largest_write=2.0 if negative else 1.0)
    outer = k[..., :, None] * k[..., None, :]
    alpha = log_decay.exp()
    transition = alpha[..., None, None] * (torch.eye(7).double() - beta[..., None, None] * outer)
    norm = torch.linalg.matrix_norm(transition, 2)
    assert bool((norm <= alpha * (1 + 1e-12)).all())
    least = torch.linalg.eigvalsh(transition).amin()
    assert (float(least) < -0.1) == negative


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("largest_write", [1.0, 2.0])
def test_backends_equal_the_recurrence(
    backend: str, dtype: torch.dtype, tolerance: float, largest_write: float
) -> None:
    inputs = _inputs(dtype=dtype, largest_write=largest_write)
    expected = gated_delta_rule_reference(*inputs[:5], OFFSETS, inputs[5])
    for found, wanted in zip(_run(inputs, OFFSETS, backend), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("which", ["both", "reads", "state"])
def test_gradients_equal_those_of_the_recurrence(backend: str, which: str) -> None:
    inputs = [t.requires_grad_() for t in _inputs()]
    grads = []
    for results in (
        _run(inputs, OFFSETS, backend),
        gated_delta_rule_reference(*inputs[:5], OFFSETS, inputs[5]),
    ):
        kept = {"both": results, "reads": results[:1], "state": results[1:]}[which]
        loss = sum((t * torch.arange(t.numel()).view_as(t).sin()).sum() for t in kept)
        grads.append(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_differences(backend: str) -> None:
    inputs = [t.requires_grad_() for t in _inputs(5, 2)]
    assert torch.autograd.gradcheck(lambda *t: gated_delta_rule(*t[:5], (0, 2, 5), t[5], backend), inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scenes_with_resets_are_scenes_alone(backend: str) -> None:
    inputs = _inputs(dtype=torch.float32)
    out, _ = _run(inputs, OFFSETS, backend)
    for s, (start, stop) in enumerate(pairwise(OFFSETS)):
        alone = [t[start:stop] for t in inputs[:5]] + [inputs[5][s : s + 1]]
        torch.testing.assert_close(_run(alone, (0, stop - start), backend)[0], out[start:stop])
    # Without resets the first tokens stay what they were and the later ones learn of them.
    joined = _run([*inputs[:5], inputs[5][2:3]], (0, 150), backend)[0]
    first = _run([*inputs[:5], inputs[5][2:4]], (0, 70, 150), backend)[0]
    torch.testing.assert_close(joined[:70], first[:70])
    assert float((joined[70:] - first[70:]).abs().max()) > 1e-2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scene_in_pieces_is_the_scene_as_a_whole(backend: str) -> None:
    *tokens, state = _inputs(n_sequences=1, dtype=torch.float32)
    whole, final = _run([*tokens, state], (0, 150), backend)
    pieces = []
    for start, stop in pairwise((0, 1, 33, 64, 64, 150)):
        piece, state = _run([*(t[start:stop] for t in tokens), state], (0, stop - start), backend)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, final, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rule_recalls_associations_and_forgets(backend: str) -> None:
    keys = torch.eye(8, dtype=torch.float64)[:, None]
    values = torch.randn(8, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    k, v = torch.cat([keys, keys]), torch.cat([values, 0 * values])
    beta = torch.cat([torch.ones(8, 1), torch.zeros(8, 1)]).double()
    out, state = gated_delta_rule(k, k, v, torch.zeros_like(beta), beta, (0, 16), backend=backend)
    torch.testing.assert_close(out[8:], values, atol=1e-14, rtol=0)
    torch.testing.assert_close(state[0, 0], values[:, 0], atol=1e-14, rtol=0)
    out, _ = gated_delta_rule(k, k, v, torch.full_like(beta, -50.0), beta, (0, 16), backend=backend)
    assert float(out[8:].abs().max()) < 1e-12
    out, state = gated_delta_rule(k, k, v, torch.zeros_like(beta), 0 * beta, (0, 16), backend=backend)
    assert not out.any()
    assert not state.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_tokens_leave_the_state_as_it_was(backend: str) -> None:
    inputs = [t.requires_grad_() for t in _inputs(0, 2)]
    out, state = _run(inputs, (0, 0, 0), backend)
    assert out.shape == (0, 3, 5)
    torch.testing.assert_close(state, inputs[5])
    state.sum().backward()
    assert bool((inputs[5].grad == 1).all())


def test_memory_follows_the_tokens_and_not_the_scenes() -> None:
    n = 500_000
    tokens = [torch.zeros(n, 1, d) for d in (2, 2, 2)] + [torch.zeros(n, 1)] * 2
    gated_delta_rule(*(t[:1] for t in tokens), (0, 1), backend="numba")
    peaks = []
    # One scene; fifty of equal size; and one long beside many short ones, the worst case of padding.
    for offsets in ((0, n), range(0, n + 1, n // 50), (*range(1000), n)):
        tracemalloc.start()
        out, _ = gated_delta_rule(*tokens, tuple(offsets), backend="numba")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert out.shape == (n, 1, 2)
    assert peaks[0] < 1.2 * out.numel() * 4
    assert max(peaks) < peaks[0] + 200_000


def test_chunks_are_no_more_than_the_tokens_need() -> None:
    from pc_perception.ops.delta_rule_chunks import CHUNK, chunk_rows

    offsets = (*range(100), 20_000)
    rows, counts, _ = chunk_rows(offsets, CHUNK)
    assert rows.size <= offsets[-1] + CHUNK * 100
    assert sorted(rows[rows < 20_000].tolist()) == list(range(20_000))
    assert sum(counts) == len(rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("which", range(6))
def test_nan_stays_within_its_sequence(backend: str, which: int) -> None:
    inputs = _inputs(dtype=torch.float32)
    clean, states = _run(inputs, OFFSETS, backend)
    inputs[which][3 if which == 5 else 80] = torch.nan
    out, final = _run(inputs, OFFSETS, backend)
    assert bool(out[80:102].isnan().any())
    assert torch.equal(out[:70], clean[:70])
    assert torch.equal(out[102:], clean[102:])
    others = [0, 1, 2, 4, 5]
    assert torch.equal(final[others], states[others])


def test_fla_is_taken_only_by_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from pc_perception.ops.backend import available, resolve

    cpu = torch.device("cpu")
    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "fla")
    assert resolve(cpu) == "numba"
    assert "fla" not in available(cpu)
    with pytest.raises(ValueError, match="fla"):
        resolve(cpu, package="fla")


def test_what_does_not_belong_together_is_refused() -> None:
    q, k, v, log_decay, beta, state = _inputs(9, 2)
    with pytest.raises(ValueError, match="ascend from 0 to the 9 tokens"):
        gated_delta_rule(q, k, v, log_decay, beta, (0, 5, 4, 9))
    with pytest.raises(ValueError, match="one memory per sequence"):
        gated_delta_rule(q, k, v, log_decay, beta, (0, 9), state)
    with pytest.raises(ValueError, match=r"got .*8, 3, 7"):
        gated_delta_rule(q, k[:8], v, log_decay, beta, (0, 9))
    with pytest.raises(ValueError, match="log_decay and beta"):
        gated_delta_rule(q, k, v, log_decay[:, :1], beta, (0, 9))
    with pytest.raises(ValueError, match=r"fla' (needs the package|runs on CUDA)"):
        gated_delta_rule(q, k, v, log_decay, beta, (0, 9), backend="fla")
