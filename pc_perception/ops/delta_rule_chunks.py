# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule in chunks of matrix products, in plain torch for any device.

With G_i the sum of g from the chunk's start to i and S_0 the state before the chunk, the writes u of a chunk obey
(I + A) U = diag(beta) (V - diag(e^G) K S_0), where A is strictly lower triangular, A_ij = beta_i e^(G_i - G_j) k_i.k_j
(arXiv 2412.06464, section 3.3, in one matrix instead of WY form).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

CHUNK = 32


def delta_rule_by_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    state: Tensor,
    starts: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Do what ``ops.recurrence.gated_delta_rule`` documents, for tensors of one dtype."""
    rows, counts, order = chunk_rows(starts, CHUNK)
    if not counts:
        return torch.zeros_like(v), state
    index = torch.from_numpy(rows).to(q.device)

    def split(t: Tensor) -> Tensor:  # (T, H, ...) -> (chunks, H, CHUNK, ...); behind a sequence's end zeros
        return torch.cat([t, t.new_zeros(1, *t.shape[1:])])[index].movedim(2, 1)

    first = torch.from_numpy(order).to(q.device)
    chunks = _solve(*(split(t) for t in (q, k, v, log_decay, beta)))
    out, state = _walk(chunks, counts, state[first])
    flat = out.movedim(2, 1).flatten(0, 1)
    place = np.argsort(rows.ravel(), kind="stable")[: starts[-1]]
    return flat[torch.from_numpy(place).to(q.device)], state[first.argsort()]


def chunk_rows(starts: Sequence[int], chunk: int) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Cut sequences into chunks that no boundary runs through, and put side by side what can be walked side by side.

    Returns:
        The (N, chunk) rows of the tokens of each chunk, T where a sequence has ended: first the first chunk of every
        sequence, longest sequence first, then every second chunk, and so on; how many chunks each of these steps has;
        and the sequences in the order of their lengths.
    """
    edges = np.array(starts, np.int64)
    lengths = np.diff(edges)
    order = np.argsort(-lengths, kind="stable")
    n_chunks = -(-lengths[order] // chunk)
    n_steps = int(n_chunks.max(initial=0))
    counts = len(order) - np.searchsorted(n_chunks[::-1], np.arange(n_steps), "right")
    step = np.repeat(np.arange(n_steps), counts)
    sequence = order[np.arange(len(step)) - np.repeat(counts.cumsum() - counts, counts)]
    rows = (edges[sequence] + step * chunk)[:, None] + np.arange(chunk)
    return np.where(rows < edges[sequence + 1][:, None], rows, edges[-1]), counts.tolist(), order


def _solve(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> list[Tensor]:
    """Do for all chunks at once what does not need the state before them."""
    G = log_decay.cumsum(-1)
    lower = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).tril()
    # Masked before exp: above the diagonal the exponent is positive and would overflow.
    ratio = (G[..., :, None] - G[..., None, :]).masked_fill(~lower, -torch.inf).exp()
    A = (beta[..., None] * ratio * (k @ k.mT)).tril(-1)
    right = torch.cat([beta[..., None] * v, (beta * G.exp())[..., None] * k], -1)
    eye = torch.eye(CHUNK, dtype=A.dtype, device=A.device)
    solved = torch.linalg.solve_triangular(A + eye, right, upper=False, unitriangular=True)
    own, from_state = solved.split([v.shape[-1], k.shape[-1]], -1)
    reads = ratio * (q @ k.mT)
    q_decayed = q * G.exp()[..., None]
    k_to_end = k * (G[..., -1:] - G).exp()[..., None]
    return [own, from_state, q_decayed, reads, G[..., -1].exp()[..., None, None], k_to_end]


def _walk(chunks: list[Tensor], counts: list[int], state: Tensor) -> tuple[Tensor, Tensor]:
    """Carry the state from chunk to chunk, in all sequences at once; the shorter ones stop earlier."""
    outputs, ended = [], []
    # split, not indexing: its backward is one concatenation instead of one zero-filled tensor per step.
    for own, from_state, q, reads, end_decay, k in zip(*(t.split(counts) for t in chunks), strict=True):
        ended.append(state[len(own) :])
        state = state[: len(own)]
        u = own - from_state @ state
        outputs.append(q @ state + reads @ u)
        state = end_decay * state + k.mT @ u
    return torch.cat(outputs), torch.cat([state, *reversed(ended)])
