# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule: a linear-time sequence operator with a matrix as its memory.

Source: Yang, Kautz, Hatamizadeh, "Gated Delta Networks", arXiv 2412.06464, equation 10. With the
state S of shape (d_k, d_v), per head and per token t::

    S <- exp(g_t) S                          decay,        g_t <= 0
    u  = beta_t (v_t - S^T k_t)              what the memory does not yet say about key k_t
    S <- S + k_t u^T                         write
    o_t = S^T q_t                            read

The paper writes the transposed state, S <- S exp(g_t) (I - beta_t k_t k_t^T) + beta_t v_t k_t^T: the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .backend import resolve

Offsets = Sequence[int] | Tensor
"""S + 1 row numbers; sequence s owns rows offsets[s] .. offsets[s + 1]. As (S + 1,) int64 on the device they are for
Triton alone, are believed without a look, and may end before the last row: what lies behind is of no sequence."""


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    offsets: Offsets,
    state: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the rule along packed sequences; nothing is padded, and no sequence sees another.

    Args:
        q, k: (T, H, d_k) float queries and keys; normalising and scaling them is the caller's part.
        v: (T, H, d_v) values.
        log_decay: (T, H), g <= 0.
        beta: (T, H), in [0, 1], or [0, 2] for transitions with negative eigenvalues; zero writes nothing.
        offsets: where sequences begin and end (``Offsets``); they may be empty.
        state: (S, H, d_k, d_v) memory before each sequence; None: empty. What came back for the first part of a
            long sequence continues it in a second call.
        backend: ``numba`` (token by token), ``torch`` (chunked), ``triton`` (chunked), ``fla`` (flash-linear-attention,
            where it is installed, on CUDA), or None for the choice by device, which never takes ``fla``. Triton leaves
            float64 and keys of more than 128 to the chunks of torch.

    Returns:
        (T, H, d_v) of the dtype of v, and the (S, H, d_k, d_v) memory after each sequence in float32 (float64 for
        float64 inputs), both with gradient to all float arguments. O(T H d_k d_v) time and O(T) memory however the
        tokens are cut into sequences; the state's size does not depend on T. Whatever autocast says, states and sums
        are float32: the triangular solve gave NaN in bfloat16. NaN stays within its sequence.

    Raises:
        ValueError: shapes do not belong together, or offsets do not cut the rows.
    """
    starts = _check(q, k, v, log_decay, beta, offsets, state)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    if state is None:
        state = q.new_zeros(len(starts) - 1, *q.shape[1:], v.shape[-1], dtype=wide)
    chosen = resolve(q.device, backend, package="fla")
    if chosen == "fla":
        from .delta_rule_fla import delta_rule_by_fla

        return delta_rule_by_fla(q, k, v, log_decay, beta, on_host(starts), state)
    if chosen == "triton" and wide == torch.float32:  # float64 is for checking
        from .gpu.recurrence import MOST_KEYS
        from .gpu.recurrence import gated_delta_rule as by_triton

        if q.shape[-1] <= MOST_KEYS:
            return by_triton(q, k, v, log_decay, beta, starts, state.to(wide))
    starts = on_host(starts)
    dtype = v.dtype
    q, k, v, log_decay, beta, state = (t.to(wide) for t in (q, k, v, log_decay, beta, state))
    if chosen == "numba":
        from .delta_rule_steps import delta_rule_by_steps

        out, state = delta_rule_by_steps(q, k, v, log_decay, beta, state, starts)
    else:
        from .delta_rule_chunks import delta_rule_by_chunks

        with torch.autocast(q.device.type, enabled=False):
            out, state = delta_rule_by_chunks(q, k, v, log_decay, beta, state, starts)
    return out.to(dtype), state


def gated_delta_rule_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    offsets: Sequence[int],
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute ``gated_delta_rule`` token by token, exactly as the module's docstring reads."""
    if state is None:
        state = q.new_zeros(len(offsets) - 1, *q.shape[1:], v.shape[-1])
    outputs, finals = [v[:0]], [state[:0]]
    for S, (start, stop) in zip(state, pairwise(offsets), strict=True):
        for t in range(start, stop):
            S = S * log_decay[t, :, None, None].exp()
            missing = v[t] - torch.einsum("hkv,hk->hv", S, k[t])
            S = S + torch.einsum("hk,hv->hkv", k[t], beta[t, :, None] * missing)
            outputs.append(torch.einsum("hkv,hk->hv", S, q[t])[None])
        finals.append(S[None])
    return torch.cat(outputs), torch.cat(finals)


def checked_offsets(offsets: Offsets, n_tokens: int) -> tuple[int, ...] | Tensor:
    """Return ``offsets`` as integers, or as they are where they lie on the device.

    Raises:
        ValueError: they do not ascend from 0 to ``n_tokens``.
    """
    if isinstance(offsets, Tensor):
        return offsets
    starts = tuple(int(o) for o in offsets)
    if starts[:1] != (0,) or starts[-1] != n_tokens or any(a > b for a, b in pairwise(starts)):
        raise ValueError(f"offsets must ascend from 0 to the {n_tokens} tokens, got {starts[:8]} ..")
    return starts


def on_host(offsets: tuple[int, ...] | Tensor) -> tuple[int, ...]:
    """Return ``offsets`` as integers; those on a device are waited for."""
    return tuple(offsets.tolist()) if isinstance(offsets, Tensor) else offsets


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    offsets: Offsets,
    state: Tensor | None,
) -> tuple[int, ...] | Tensor:
    if q.ndim != 3 or q.shape != k.shape or v.ndim != 3 or v.shape[:2] != q.shape[:2]:
        found = ", ".join(str(tuple(t.shape)) for t in (q, k, v))
        raise ValueError(f"q and k must be (T, H, d_k) and v (T, H, d_v), got {found}")
    if not log_decay.shape == beta.shape == q.shape[:2]:
        found = f"{tuple(log_decay.shape)} and {tuple(beta.shape)}"
        raise ValueError(f"log_decay and beta must be {tuple(q.shape[:2])}, got {found}")
    starts = checked_offsets(offsets, len(q))
    wanted = (len(starts) - 1, *q.shape[1:], v.shape[-1])
    if state is not None and tuple(state.shape) != wanted:
        raise ValueError(f"the state must be {wanted}, one memory per sequence, got {tuple(state.shape)}")
    return starts
