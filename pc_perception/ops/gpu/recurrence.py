# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule in chunks of matrix products: buffers and launches of the kernels beside this file.

Nothing here waits for the device: which chunks there are follows from the offsets by operations on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from triton.runtime import driver

from . import delta_rule_backward, delta_rule_forward
from .launch import launch

MOST_KEYS = 128
"""Larger keys do not fit into registers and shared memory beside what a program needs of a chunk."""
VALUES = 32
"""Columns of the state that one program carries from chunk to chunk."""


class Chunks(NamedTuple):
    """Chunks that no sequence boundary runs through, in the order of the tokens.

    Attributes:
        edges: (S + 1,) int64, where sequences start and end.
        first: (S + 1,) int64, number of the first chunk of each sequence.
        starts, stops: (N,) int64, rows of each chunk; those behind the last one are empty.
    """

    edges: Tensor
    first: Tensor
    starts: Tensor
    stops: Tensor


def chunk_length(device: torch.device, d_k: int) -> int:
    """Return the tokens of a chunk: 64, or 32 where large keys meet a GPU with little shared memory.

    Beside keys of 128, 64 tokens take up to 176 kB; an H100 has 227 kB, an A100 163, most others 99.
    """
    if d_k <= 64 or device.type != "cuda":
        return 64
    there = driver.active.utils.get_device_properties(device.index or 0)["max_shared_mem"]
    return 64 if there > 200_000 else 32


def cut(edges: Tensor, n_tokens: int, chunk: int) -> Chunks:
    """Cut sequences (S > 0) into chunks; there are as many as ``n_tokens`` and S can need at most."""
    n = len(edges) - 1
    first = torch.zeros_like(edges)
    torch.cumsum((edges.diff() + (chunk - 1)) // chunk, 0, out=first[1:])
    number = torch.arange(n_tokens // chunk + n, device=edges.device)
    sequence = torch.searchsorted(first[1:], number, right=True).clamp_(max=n - 1)
    starts = edges[sequence] + (number - first[sequence]) * chunk
    return Chunks(edges, first, starts, torch.minimum(starts + chunk, edges[sequence + 1]))


def gated_delta_rule_into(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, edges: Tensor,
    state: Tensor, out: Tensor, final: Tensor,
) -> None:  # fmt: skip
    """Run the rule into buffers; can be captured in a CUDA graph.

    Args:
        q, k: (T, H, d_k) float16, bfloat16 or float32; v: (T, H, d_v); log_decay, beta: (T, H); all contiguous.
            Products of half precision run as TF32, those of float32 in three times TF32, which keeps their digits.
        edges: (S + 1,) int64 from 0 to at most T; rows behind the last are left alone.
        state: (S, H, d_k, d_v) float32, contiguous; ``final`` receives that after each sequence.
        out: as v.
    """
    chunks, _, u, states = _states(k, v, log_decay, beta, edges, state, final)
    rows, grid = (chunks.starts, chunks.stops), _grids(chunks, v)[2]
    _start(delta_rule_forward.read, grid, _sizes(k, v), q, k, log_decay, *rows, u, states, out)


def _states(
    k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, edges: Tensor, state: Tensor, final: Tensor
) -> tuple[Chunks, Tensor, Tensor, Tensor]:
    """Return the chunks, T diag(beta e^G) K, the writes, and the states before the chunks."""
    chunks = cut(edges, len(k), chunk_length(k.device, k.shape[2]))
    u, from_state = (torch.empty(t.shape, dtype=torch.float32, device=t.device) for t in (v, k))
    states = state.new_empty(len(chunks.starts), *state.shape[1:])
    sizes, (per_chunk, per_sequence, _) = _sizes(k, v), _grids(chunks, v)
    by, rows = delta_rule_forward, (chunks.starts, chunks.stops)
    _start(by.prepare, per_chunk, sizes, k, v, log_decay, beta, *rows, u, from_state)
    along = (edges, chunks.first, from_state, u, state, states, final)
    _start(by.walk, per_sequence, sizes, k, log_decay, *along)
    return chunks, from_state, u, states


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    starts: Sequence[int],
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """Do what ``ops.gated_delta_rule`` documents, by kernel."""
    if not len(q):
        return torch.zeros_like(v), state
    edges = torch.tensor(starts, device=q.device)
    return _Rule.apply(*(t.contiguous() for t in (q, k, v, log_decay, beta, state)), edges)


class _Rule(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, log_decay, beta, state, edges = (t.detach() for t in inputs)
        ctx.save_for_backward(q, k, v, log_decay, beta, state, edges)
        out, final = torch.empty_like(v), torch.empty_like(state)
        gated_delta_rule_into(q, k, v, log_decay, beta, edges, state, out, final)
        return out, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_out, d_final = (g.contiguous() for g in grads)
        q, k, v, log_decay, beta, state, edges = ctx.saved_tensors
        tokens = q, k, v, log_decay, beta
        # Run again rather than kept: the states of all chunks are as large as the tokens and more.
        chunks, from_state, u, states = _states(*tokens[1:], edges, state, torch.empty_like(state))
        found = [torch.empty_like(t) for t in tokens]
        d_u, d_states, d_state = torch.empty_like(u), torch.empty_like(states), torch.empty_like(state)
        sizes, (per_chunk, per_sequence, per_block) = _sizes(k, v), _grids(chunks, v)
        rows, by = (chunks.starts, chunks.stops), delta_rule_backward
        _start(by.read_back, per_block, sizes, q, k, log_decay, *rows, d_out, d_u)
        along = (edges, chunks.first, from_state, d_out, d_u, d_final, d_states, d_state)
        _start(by.walk_back, per_sequence, sizes, q, k, log_decay, *along)
        _start(by.tokens_back, per_chunk, sizes, *tokens, *rows, u, states, d_out, d_u, d_states, *found)
        return (*found, d_state, None)


def _sizes(k: Tensor, v: Tensor) -> tuple[object, ...]:
    """Return the constants that all kernels end with: H, d_k, d_v, tokens, block of keys and of values, precision."""
    n_heads, d_k, d_v = *k.shape[1:], v.shape[2]
    values = min(_block(d_v), VALUES)
    precision = "tf32x3" if v.dtype == torch.float32 else "tf32"
    return n_heads, d_k, d_v, chunk_length(k.device, d_k), _block(d_k), values, precision


def _block(size: int) -> int:
    return max(triton.next_power_of_2(size), 16)


def _start(kernel: Any, grid: tuple[int, ...], sizes: tuple[Any, ...], *arguments: Tensor) -> None:
    """Start a kernel with the warps its tiles fill, and tiles loaded ahead only where chunks follow one another."""
    ahead = 2 if kernel in (delta_rule_forward.walk, delta_rule_backward.walk_back) else 1
    launch(kernel, grid, *arguments, *sizes, num_warps=8 if sizes[4] > 32 else 4, num_stages=ahead)


def _grids(chunks: Chunks, v: Tensor) -> tuple[tuple[int, ...], ...]:
    n_heads, d_v = v.shape[1:]
    n_chunks, n_sequences, blocks = len(chunks.starts), len(chunks.edges) - 1, triton.cdiv(d_v, VALUES)
    # What may be large comes first: the other axes of a grid end at 65,535.
    return (n_chunks, n_heads), (n_sequences * n_heads, blocks), (n_chunks, n_heads, blocks)
