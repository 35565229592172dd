# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule by flash-linear-attention, where that package is installed: the one place that knows it.

Asked for by ``backend="fla"`` or ``PC_PERCEPTION_BACKEND=fla``; ``pip install flash-linear-attention`` (MIT). Written
against ``fla.ops.gated_delta_rule.chunk_gated_delta_rule`` of release 0.5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def delta_rule_by_fla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    starts: Sequence[int],
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """Do what ``ops.recurrence.gated_delta_rule`` documents, on CUDA.

    Queries and keys come normalised and scaled: the package is told to do neither. It multiplies in the precision of
    v; releases that take half precision only refuse float32 themselves.
    """
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    # It numbers sequences by counting first chunks: an empty one, which has none, would shift all that follow.
    filled = [s for s, (start, stop) in enumerate(pairwise(starts)) if stop > start]
    if not filled:
        return torch.zeros_like(v), state
    rows = torch.tensor(filled, device=q.device)
    edges = torch.tensor([starts[s] for s in filled] + [starts[-1]], device=q.device)
    # One batch entry that cu_seqlens cuts into sequences.
    tokens = (t[None] for t in (q.to(v.dtype), k.to(v.dtype), v, log_decay.float(), beta.float()))
    out, final = chunk_gated_delta_rule(
        *tokens,
        scale=1.0,
        initial_state=state[rows].float(),
        output_final_state=True,
        use_qk_l2norm_in_kernel=False,
        cu_seqlens=edges,
    )
    return out[0], state.float().index_copy(0, rows, final)
