# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule: a linear-time sequence operator with a matrix as its memory.

Source: Yang, Kautz, Hatamizadeh, "Gated Delta Networks", arXiv 2412.06464, equation 10. With the
state S of shape (d_k, d_v), per head and per token t::

    S <- exp(g_t) S                          decay,        g_t <= 0
    u  = beta_t (v_t - S^T k_t)              what the memory does not yet say about key k_t
    S <- S + k_t u^T                         write
    o_t = S^T q_t                            read
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve

CHUNK = 32


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, backend: str | None = None
) -> Tensor:
    """Run the rule along every sequence of a batch, each from an empty state.

    Args:
        q, k: (S, L, H, d_k) queries and keys; normalising and scaling them is the caller's part.
        v: (S, L, H, d_v) values.
        log_decay: (S, L, H), g <= 0.
        beta: (S, L, H), in [0, 1]; zero writes nothing (padding).
        backend: ``numba`` (recurrent), ``torch`` (chunked) or None for the choice by device.

    Returns:
        (S, L, H, d_v). O(S L H d_k d_v) time; the state's size does not depend on L.
    """
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    if resolve(q.device, backend) == "numba":
        return _RecurrentRule.apply(*(t.to(wide) for t in (q, k, v, log_decay, beta))).to(v.dtype)
    # Decays are exponentials of sums and the triangular solve is ill-conditioned in half precision:
    # fp32 whatever autocast says (bf16 gave NaN).
    with torch.autocast(q.device.type, enabled=False):
        return _chunked(*(t.to(wide) for t in (q, k, v, log_decay, beta))).to(v.dtype)


def gated_delta_rule_reference(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> Tensor:
    """Compute ``gated_delta_rule`` token by token, exactly as the module's docstring reads."""
    S, L, H, d_k = q.shape
    state = q.new_zeros(S, H, d_k, v.shape[-1])
    outputs = []
    for t in range(L):
        state = state * log_decay[:, t, :, None, None].exp()
        missing = v[:, t] - torch.einsum("shkv,shk->shv", state, k[:, t])
        state = state + torch.einsum("shk,shv->shkv", k[:, t], beta[:, t, :, None] * missing)
        outputs.append(torch.einsum("shkv,shk->shv", state, q[:, t]))
    return torch.stack(outputs, 1) if outputs else torch.zeros_like(v)


def _chunked(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> Tensor:
    """Unroll the rule inside chunks by one triangular solve; carry the state from chunk to chunk.

    With G_i the sum of g from the chunk's start to i and S_0 the state before the chunk, the writes u
    of a chunk obey (I + A) U = diag(beta) (V - diag(e^G) K S_0), where A is strictly lower triangular,
    A_ij = beta_i e^(G_i - G_j) k_i.k_j (arXiv 2412.06464, section 3.3, in one matrix instead of WY form).
    """
    S, L, H, _ = q.shape
    pad = -L % CHUNK
    n_chunks = (L + pad) // CHUNK

    def split(t: Tensor) -> Tensor:  # (S, L, H, ...) -> (S, H, n_chunks, CHUNK, ...)
        t = torch.cat([t, t.new_zeros(S, pad, *t.shape[2:])], 1) if pad else t
        return t.unflatten(1, (n_chunks, CHUNK)).movedim(3, 1)

    q, k, v, log_decay, beta = (split(t) for t in (q, k, v, log_decay, beta))
    G = log_decay.cumsum(-1)
    lower = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).tril()
    # Masked before exp: above the diagonal the exponent is positive and would overflow.
    ratio = (G[..., :, None] - G[..., None, :]).masked_fill(~lower, -torch.inf).exp()
    A = (beta[..., None] * ratio * (k @ k.mT)).tril(-1)
    right = torch.cat([beta[..., None] * v, (beta * G.exp())[..., None] * k], -1)
    solved = torch.linalg.solve_triangular(
        A + torch.eye(CHUNK, dtype=A.dtype, device=A.device), right, upper=False, unitriangular=True
    )
    own, from_state = solved.split([v.shape[-1], k.shape[-1]], -1)
    reads = ratio * (q @ k.mT)
    q_decayed = q * G.exp()[..., None]
    k_to_end = k * (G[..., -1:] - G).exp()[..., None]
    end_decay = G[..., -1].exp()[..., None, None]
    state = q.new_zeros(S, H, k.shape[-1], v.shape[-1])
    outputs = []
    # unbind, not indexing: its backward is one stack instead of one zero-filled tensor per chunk.
    per_chunk = (t.unbind(2) for t in (own, from_state, q_decayed, reads, end_decay, k_to_end))
    for own_c, from_state_c, q_c, reads_c, end_c, k_c in zip(*per_chunk, strict=True):
        u = own_c - from_state_c @ state
        outputs.append(q_c @ state + reads_c @ u)
        state = end_c * state + k_c.mT @ u
    out = torch.stack(outputs, 2) if outputs else own
    return out.movedim(1, 3).flatten(1, 2)[:, :L]


class _RecurrentRule(torch.autograd.Function):
    """Token by token in Numba: on a CPU a few hundred nanoseconds a token, where chunking costs
    thousands of small matrix calls (measured: 4 times the time of the rest of the network in training)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        arrays = [np.ascontiguousarray(t.detach().numpy()) for t in inputs]
        ctx.arrays = arrays if any(ctx.needs_input_grad) else None
        return torch.from_numpy(_forward(*arrays))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        d_out = np.ascontiguousarray(grads[0].numpy())
        return tuple(torch.from_numpy(g) for g in _backward(*ctx.arrays, d_out))  # type: ignore[call-arg]


@njit(cache=True, nogil=True, fastmath=True)
def _step(state, q, k, v, decay, beta, u):  # type: ignore[no-untyped-def]
    """Decay ``state`` (d_k, d_v) in place and leave beta (v - S^T k) in ``u``; nothing is written yet."""
    d_k, d_v = state.shape
    for j in range(d_v):
        u[j] = v[j]
    for i in range(d_k):
        for j in range(d_v):
            state[i, j] *= decay
            u[j] -= k[i] * state[i, j]
    for j in range(d_v):
        u[j] *= beta


@njit(cache=True, nogil=True, fastmath=True)
def _forward(q, k, v, log_decay, beta):  # type: ignore[no-untyped-def]
    S, L, H, d_k = q.shape
    d_v = v.shape[3]
    out = np.zeros((S, L, H, d_v), v.dtype)
    u = np.empty(d_v, v.dtype)
    for s in range(S):
        for h in range(H):
            state = np.zeros((d_k, d_v), v.dtype)
            for t in range(L):
                decay = np.exp(log_decay[s, t, h])
                _step(state, q[s, t, h], k[s, t, h], v[s, t, h], decay, beta[s, t, h], u)
                o = out[s, t, h]
                for i in range(d_k):
                    k_i, q_i = k[s, t, h, i], q[s, t, h, i]
                    for j in range(d_v):
                        state[i, j] += k_i * u[j]
                        o[j] += q_i * state[i, j]
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _backward(q, k, v, log_decay, beta, d_out):  # type: ignore[no-untyped-def]
    """Walk back chunk by chunk; inside a chunk the states are recomputed from the one at its start."""
    S, L, H, d_k = q.shape
    d_v = v.shape[3]
    grads = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v), np.zeros_like(beta), np.zeros_like(beta)
    n_chunks = (L + CHUNK - 1) // CHUNK
    starts = np.zeros((n_chunks + 1, d_k, d_v), v.dtype)
    decayed = np.empty((CHUNK, d_k, d_v), v.dtype)
    written = np.empty((CHUNK, d_v), v.dtype)
    for s in range(S):
        for h in range(H):
            for c in range(n_chunks):
                starts[c + 1] = starts[c]
                _replay(starts[c + 1], q, k, v, log_decay, beta, s, h, c * CHUNK, L, decayed, written)
            d_state = np.zeros((d_k, d_v), v.dtype)
            for c in range(n_chunks - 1, -1, -1):
                state = starts[c].copy()
                _replay(state, q, k, v, log_decay, beta, s, h, c * CHUNK, L, decayed, written)
                for t in range(min(L, (c + 1) * CHUNK) - 1, c * CHUNK - 1, -1):
                    place = t - c * CHUNK
                    _step_back(
                        decayed[place],
                        written[place],
                        d_state,
                        s,
                        t,
                        h,
                        q,
                        k,
                        v,
                        log_decay,
                        beta,
                        d_out,
                        grads,
                    )
    d_q, d_k_, d_v_, d_log_decay, d_beta = grads
    return d_q, d_k_, d_v_, d_log_decay, d_beta


@njit(cache=True, nogil=True, fastmath=True)
def _replay(state, q, k, v, log_decay, beta, s, h, begin, L, decayed, written):  # type: ignore[no-untyped-def]
    """Run one chunk forward, keeping the decayed state and the write of every token."""
    d_k, d_v = state.shape
    for t in range(begin, min(L, begin + CHUNK)):
        u = written[t - begin]
        _step(state, q[s, t, h], k[s, t, h], v[s, t, h], np.exp(log_decay[s, t, h]), beta[s, t, h], u)
        for i in range(d_k):
            k_i = k[s, t, h, i]
            for j in range(d_v):
                decayed[t - begin, i, j] = state[i, j]
                state[i, j] += k_i * u[j]


@njit(cache=True, nogil=True, fastmath=True)
def _step_back(decayed, u, d_state, s, t, h, q, k, v, log_decay, beta, d_out, grads):  # type: ignore[no-untyped-def]
    """Carry the gradient of the state over one token and store that of its inputs."""
    d_q, d_k, d_v, d_log_decay, d_beta = grads
    n_k, n_v = decayed.shape
    d_o, b = d_out[s, t, h], beta[s, t, h]
    d_u = np.zeros(n_v, u.dtype)
    for i in range(n_k):
        k_i, q_i = k[s, t, h, i], q[s, t, h, i]
        to_q, to_k = u[0] * 0, u[0] * 0
        for j in range(n_v):
            to_q += (decayed[i, j] + k_i * u[j]) * d_o[j]
            d_state[i, j] += q_i * d_o[j]
            to_k += d_state[i, j] * u[j]
            d_u[j] += d_state[i, j] * k_i
        d_q[s, t, h, i] = to_q
        d_k[s, t, h, i] = to_k
    missing = v[s, t, h].copy()  # v - S^T k, without dividing u by a beta that may be zero
    for i in range(n_k):
        for j in range(n_v):
            missing[j] -= k[s, t, h, i] * decayed[i, j]
    to_beta, to_decay = u[0] * 0, u[0] * 0
    for j in range(n_v):
        to_beta += d_u[j] * missing[j]
        d_u[j] *= b
        d_v[s, t, h, j] = d_u[j]
    decay = np.exp(log_decay[s, t, h])
    for i in range(n_k):
        to_k, k_i = u[0] * 0, k[s, t, h, i]
        for j in range(n_v):
            to_k += decayed[i, j] * d_u[j]
            d_state[i, j] -= k_i * d_u[j]
            to_decay += d_state[i, j] * decayed[i, j]
            d_state[i, j] *= decay
        d_k[s, t, h, i] -= to_k
    d_beta[s, t, h], d_log_decay[s, t, h] = to_beta, to_decay
