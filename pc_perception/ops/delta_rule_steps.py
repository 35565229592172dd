# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule token by token on the CPU, forward and backward, in Numba.

A token of one head takes a hundred nanoseconds or two. Chunks would take thousands of small matrix products.
Within a ``team`` the heads of all sequences are shared among its threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .parallel import LEAST_ROWS, run_blocks

CHUNK = 32
"""So many states are kept at once on the way back; those before are recomputed from every 32nd."""


def delta_rule_by_steps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    state: Tensor,
    starts: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Do what ``ops.recurrence.gated_delta_rule`` documents, for CPU tensors of one dtype."""
    return _Steps.apply(q, k, v, log_decay, beta, state, np.array(starts))


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *tensors, starts = inputs
        arrays = [np.ascontiguousarray(t.detach().numpy()) for t in tensors]
        ctx.set_materialize_grads(False)
        ctx.kept = (arrays, starts) if any(ctx.needs_input_grad) else None
        *tokens, state = arrays
        out, state = np.empty_like(tokens[2]), state.copy()
        n_jobs = state.shape[0] * state.shape[1]
        least = LEAST_ROWS * n_jobs // max(tokens[3].size, 1) + 1  # jobs with as many tokens, on average
        run_blocks(lambda a, b: _forward(*tokens, starts, state, out, a, b), n_jobs, least)  # type: ignore[call-arg]
        return torch.from_numpy(out), torch.from_numpy(state)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (arrays, starts) = ctx.kept  # type: ignore[attr-defined]
        d_out, d_state = (
            np.zeros_like(like) if g is None else np.array(g.numpy(), order="C")
            for g, like in zip(grads, (arrays[2], arrays[5]), strict=True)
        )
        found = [np.empty_like(a) for a in arrays[:5]]
        _backward(*arrays, starts, d_out, d_state, *found)  # type: ignore[call-arg]
        return (*(torch.from_numpy(g) for g in (*found, d_state)), None)


@njit(cache=True, nogil=True, fastmath=True)
def _forward(q, k, v, log_decay, beta, starts, state, out, begin, end):  # type: ignore[no-untyped-def]
    """Run jobs begin .. end - 1, of which each is one head of one sequence; ``state`` is moved on in place."""
    n_sequences, _, d_k, d_v = state.shape
    said, u = np.empty(d_v, v.dtype), np.empty(d_v, v.dtype)
    for job in range(begin, end):
        h, s = job // n_sequences, job % n_sequences
        memory = state[s, h]
        for t in range(starts[s], starts[s + 1]):
            o, q_t, k_t = out[t, h], q[t, h], k[t, h]
            for j in range(d_v):
                said[j] = 0
                o[j] = 0
            # Key and query read the memory in one pass, before it decays; the query adds what is then written.
            both = said[0]
            for i in range(d_k):
                row, k_i, q_i = memory[i], k_t[i], q_t[i]
                both += k_i * q_i
                for j in range(d_v):
                    said[j] += k_i * row[j]
                    o[j] += q_i * row[j]
            decay = np.exp(log_decay[t, h])
            for j in range(d_v):
                u[j] = beta[t, h] * (v[t, h, j] - decay * said[j])
                o[j] = decay * o[j] + both * u[j]
            for i in range(d_k):
                row, k_i = memory[i], k_t[i]
                for j in range(d_v):
                    row[j] = decay * row[j] + k_i * u[j]


@njit(cache=True, nogil=True, fastmath=True)
def _backward(q, k, v, log_decay, beta, state, starts, d_out, d_state, d_q, d_k, d_v, d_log_decay, d_beta):  # type: ignore[no-untyped-def]
    """Walk back chunk by chunk; inside a chunk the states are recomputed from the one at its start.

    ``d_state`` comes as the gradient by the last states and leaves as that by the first.
    """
    n_sequences, n_heads, n_k, n_v = state.shape
    longest = 0
    for s in range(n_sequences):
        longest = max(longest, starts[s + 1] - starts[s])
    chunk_starts = np.empty(((longest + CHUNK - 1) // CHUNK + 1, n_k, n_v), v.dtype)
    decayed = np.empty((CHUNK, n_k, n_v), v.dtype)
    written = np.empty((CHUNK, n_v), v.dtype)
    tokens = q, k, v, log_decay, beta
    grads = d_q, d_k, d_v, d_log_decay, d_beta
    for s in range(n_sequences):
        first, last = starts[s], starts[s + 1]
        n_chunks = (last - first + CHUNK - 1) // CHUNK
        for h in range(n_heads):
            chunk_starts[0] = state[s, h]
            for c in range(n_chunks):
                chunk_starts[c + 1] = chunk_starts[c]
                t = first + c * CHUNK
                _replay(chunk_starts[c + 1], tokens, h, t, min(last, t + CHUNK), decayed, written)
            for c in range(n_chunks - 1, -1, -1):
                begin = first + c * CHUNK
                end = min(last, begin + CHUNK)
                _replay(chunk_starts[c], tokens, h, begin, end, decayed, written)
                for t in range(end - 1, begin - 1, -1):
                    place = t - begin
                    _step_back(
                        decayed[place], written[place], d_state[s, h], t, h, tokens, d_out[t, h], grads
                    )


@njit(cache=True, nogil=True, fastmath=True)
def _replay(memory, tokens, h, begin, end, decayed, written):  # type: ignore[no-untyped-def]
    """Run one chunk forward, keeping the decayed memory and the write of every token."""
    _, k, v, log_decay, beta = tokens
    n_k, n_v = memory.shape
    for t in range(begin, end):
        here, u, decay = decayed[t - begin], written[t - begin], np.exp(log_decay[t, h])
        for j in range(n_v):
            u[j] = v[t, h, j]
        for i in range(n_k):
            k_i = k[t, h, i]
            for j in range(n_v):
                here[i, j] = decay * memory[i, j]
                u[j] -= k_i * here[i, j]
        for j in range(n_v):
            u[j] *= beta[t, h]
        for i in range(n_k):
            k_i = k[t, h, i]
            for j in range(n_v):
                memory[i, j] = here[i, j] + k_i * u[j]


@njit(cache=True, nogil=True, fastmath=True)
def _step_back(decayed, u, d_memory, t, h, tokens, d_o, grads):  # type: ignore[no-untyped-def]
    """Carry the gradient of the memory over one token and store that of its inputs."""
    q, k, v, log_decay, beta = tokens
    d_q, d_k, d_v, d_log_decay, d_beta = grads
    n_k, n_v = decayed.shape
    d_u = np.zeros(n_v, u.dtype)
    for i in range(n_k):
        k_i, q_i = k[t, h, i], q[t, h, i]
        to_q, to_k = u[0] * 0, u[0] * 0
        for j in range(n_v):
            to_q += (decayed[i, j] + k_i * u[j]) * d_o[j]
            d_memory[i, j] += q_i * d_o[j]
            to_k += d_memory[i, j] * u[j]
            d_u[j] += d_memory[i, j] * k_i
        d_q[t, h, i] = to_q
        d_k[t, h, i] = to_k
    missing = v[t, h].copy()  # v - S^T k, without dividing u by a beta that may be zero
    for i in range(n_k):
        for j in range(n_v):
            missing[j] -= k[t, h, i] * decayed[i, j]
    to_beta, to_decay = u[0] * 0, u[0] * 0
    for j in range(n_v):
        to_beta += d_u[j] * missing[j]
        d_u[j] *= beta[t, h]
        d_v[t, h, j] = d_u[j]
    decay = np.exp(log_decay[t, h])
    for i in range(n_k):
        to_k, k_i = u[0] * 0, k[t, h, i]
        for j in range(n_v):
            to_k += decayed[i, j] * d_u[j]
            d_memory[i, j] -= k_i * d_u[j]
            to_decay += d_memory[i, j] * decayed[i, j]
            d_memory[i, j] *= decay
        d_k[t, h, i] -= to_k
    d_beta[t, h], d_log_decay[t, h] = to_beta, to_decay
