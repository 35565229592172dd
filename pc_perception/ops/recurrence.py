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

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve

CHUNK = 64


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, backend: str | None = None
) -> Tensor:
    """Run the rule along every sequence of a batch, each from an empty state.

    Args:
        q, k: (S, L, H, d_k) queries and keys; normalising and scaling them is the caller's part.
        v: (S, L, H, d_v) values.
        log_decay: (S, L, H), g <= 0.
        beta: (S, L, H), in [0, 1]; zero writes nothing (padding).
        backend: ``numba`` (recurrent, no gradient), ``torch`` (chunked, with gradient) or None:
            numba on the CPU where no gradient is wanted.

    Returns:
        (S, L, H, d_v). O(S L H d_k d_v) time; the state's size does not depend on L.
    """
    wants_grad = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, log_decay, beta))
    if backend is None and wants_grad:
        backend = "torch"
    if resolve(q.device, backend) == "numba":
        if wants_grad:
            raise ValueError("the numba gated delta rule has no gradient; use backend='torch'")
        arrays = (np.ascontiguousarray(t.detach().float().numpy()) for t in (q, k, v, log_decay, beta))
        return torch.from_numpy(_recurrent(*arrays)).to(v.dtype)
    # Decays are exponentials of sums and the triangular solve is ill-conditioned in half precision:
    # fp32 whatever autocast says (bf16 gave NaN).
    with torch.autocast(q.device.type, enabled=False):
        wide = torch.float64 if q.dtype == torch.float64 else torch.float32
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


@njit(cache=True, nogil=True, fastmath=True)
def _recurrent(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, log_decay: np.ndarray, beta: np.ndarray
) -> np.ndarray:
    S, L, H, d_k = q.shape
    d_v = v.shape[3]
    out = np.zeros((S, L, H, d_v), np.float32)
    for s in range(S):
        for h in range(H):
            state = np.zeros((d_k, d_v), np.float32)
            u = np.empty(d_v, np.float32)
            o = np.empty(d_v, np.float32)
            for t in range(L):
                decay = np.exp(log_decay[s, t, h])
                b = beta[s, t, h]
                for j in range(d_v):
                    u[j] = 0.0
                    o[j] = 0.0
                for i in range(d_k):
                    k_i = k[s, t, h, i] * decay
                    for j in range(d_v):
                        u[j] += k_i * state[i, j]
                for j in range(d_v):
                    u[j] = b * (v[s, t, h, j] - u[j])
                for i in range(d_k):
                    k_i, q_i = k[s, t, h, i], q[s, t, h, i]
                    for j in range(d_v):
                        new = decay * state[i, j] + k_i * u[j]
                        state[i, j] = new
                        o[j] += q_i * new
                for j in range(d_v):
                    out[s, t, h, j] = o[j]
    return out
