# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule in chunks of matrix products: buffers and launches of the kernels beside this file.

Nothing here waits for the device: which chunks there are follows from the offsets by operations on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from triton.runtime import driver

from . import delta_rule_backward, delta_rule_forward
from .launch import launch

MOST_KEYS = 128
"""Larger keys do not fit into registers and shared memory beside what a program needs of a chunk."""
TILES = {
    delta_rule_forward.prepare: (128, 4, 1),
    delta_rule_forward.walk: (32, 4, 3),
    delta_rule_forward.read: (128, 4, 1),
    delta_rule_backward.read_back: (128, 4, 1),
    delta_rule_backward.walk_back: (32, 4, 3),
    delta_rule_backward.tokens_back: (32, 8, 1),
}
"""Columns of the values in a tile, warps, and tiles under way at once, for half precision."""
LEAST_HALF = 64
"""Least d_k and d_v for products in half precision. Seen with Triton 3.6 on an H200: with tiles of 16 and 32 columns
``prepare`` reads outside of shared memory, where a product's left side is in registers."""
CHUNKS, SEQUENCES = 64, 32
"""Chunks that are found at once, and among how many sequences."""


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
    first = torch.empty_like(edges)
    starts, stops = (edges.new_empty(n_tokens // chunk + n) for _ in range(2))
    grid = (triton.cdiv(len(starts), CHUNKS),)
    launch(_cut, grid, edges, first, starts, stops, n, len(starts), chunk, CHUNKS, SEQUENCES)
    return Chunks(edges, first, starts, stops)


@triton.jit(do_not_specialize=["n", "n_chunks"])
def _cut(
    edges, first, starts, stops, n, n_chunks,
    C: tl.constexpr, CHUNKS: tl.constexpr, SEQUENCES: tl.constexpr,
):  # fmt: skip
    """Find the sequence of every chunk by a look at all of them: the last one owns those that nobody needs."""
    number = tl.program_id(0) * CHUNKS + tl.arange(0, CHUNKS)
    start, stop = tl.zeros((CHUNKS,), tl.int64), tl.zeros((CHUNKS,), tl.int64)
    before = tl.zeros((1,), tl.int64)
    for least in range(0, n, SEQUENCES):
        s = least + tl.arange(0, SEQUENCES)
        begin, end = tl.load(edges + s, s < n, 0), tl.load(edges + s + 1, s < n, 0)
        count = (end - begin + (C - 1)) // C
        past = before + tl.cumsum(count, 0)
        if tl.program_id(0) == 0:
            tl.store(first + s, past - count, s < n)
            tl.store(first + s + 1, past, s == n - 1)
        own = number[:, None] - (past - count)[None, :]
        owned = (own >= 0) & ((own < count[None, :]) | (s == n - 1)[None, :])
        at = begin[None, :] + own * C
        start += tl.sum(tl.where(owned, at, 0), 1)
        stop += tl.sum(tl.where(owned, tl.minimum(at + C, end[None, :]), 0), 1)
        before += tl.sum(count)
    tl.store(starts + number, start, number < n_chunks)
    tl.store(stops + number, stop, number < n_chunks)


def gated_delta_rule_into(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, edges: Tensor,
    state: Tensor, out: Tensor, final: Tensor,
) -> None:  # fmt: skip
    """Run the rule into buffers; can be captured in a CUDA graph.

    Args:
        q, k: (T, H, d_k), v: (T, H, d_v), all float16 or all bfloat16, of d_k and d_v from ``LEAST_HALF`` on, or all
            float32; log_decay, beta: (T, H); all contiguous. Operands of products, the writes and the states before
            chunks are of the type of the tokens, sums and the state carried along are float32; products of float32
            run in three times TF32, which keeps their digits. A state beyond 65,504 overflows in float16; with keys of
            length one it stays about as large as the values, which have the same limit.
        edges: (S + 1,) int64 from 0 to at most T; rows behind the last are left alone.
        state: (S, H, d_k, d_v) float32, contiguous; ``final`` receives that after each sequence.
        out: as v.

    Raises:
        ValueError: half precision of smaller keys or values.
    """
    if v.dtype != torch.float32 and min(k.shape[2], v.shape[2]) < LEAST_HALF:
        raise ValueError(f"keys and values of less than {LEAST_HALF} numbers must be float32, not {v.dtype}")
    chunks, gates, *_, u, states = _states(k, v, log_decay, beta, edges, state, final)
    _start(delta_rule_forward.read, chunks, k, v, q, k, gates, chunks.starts, chunks.stops, u, states, out)


def _states(
    k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, edges: Tensor, state: Tensor, final: Tensor,
    solved: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """Return the chunks, G, T if it is wanted, T diag(beta e^G) K, the writes, and the states before the chunks."""
    chunk = chunk_length(k.device, k.shape[2])
    chunks = cut(edges, len(k), chunk)
    u, from_state = torch.empty_like(v), torch.empty_like(k)
    states = v.new_empty(len(chunks.starts), *state.shape[1:])
    gates = state.new_empty(len(chunks.starts), k.shape[1], chunk)
    inverse = v.new_empty(*gates.shape, chunk) if solved else None
    rows, by = (chunks.starts, chunks.stops), delta_rule_forward
    _start(by.prepare, chunks, k, v, k, v, log_decay, beta, *rows, gates, u, from_state, inverse)
    along = (edges, chunks.first, from_state, u, state, states, final)
    _start(by.walk, chunks, k, v, k, gates, *along)
    return chunks, gates, inverse, from_state, u, states


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor,
    starts: Sequence[int] | Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """Do what ``ops.gated_delta_rule`` documents, by kernel."""
    if not len(q):
        return torch.zeros_like(v), state
    edges = torch.as_tensor(starts, device=q.device)
    wide = torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype)
    if min(k.shape[2], v.shape[2]) < LEAST_HALF:
        wide = torch.float32
    tokens = (t.to(wide) for t in (q, k, v))
    out, final = _Rule.apply(*(t.contiguous() for t in (*tokens, log_decay, beta, state)), edges)
    return out.to(v.dtype), final


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
        # Run again rather than kept: the states of all chunks are as large as the tokens and more.
        again = _states(k, v, log_decay, beta, edges, state, torch.empty_like(state), solved=True)
        chunks, gates, inverse, from_state, u, states = again
        found = [torch.empty_like(t) for t in (q, k, v, log_decay, beta)]
        d_u, d_states, d_state = torch.empty_like(u), torch.empty_like(states), torch.empty_like(state)
        rows, by = (chunks.starts, chunks.stops), delta_rule_backward
        _start(by.read_back, chunks, k, v, q, k, gates, *rows, d_out, d_u)
        along = (edges, chunks.first, from_state, d_out, d_u, d_final, d_states, d_state)
        _start(by.walk_back, chunks, k, v, q, k, gates, *along)
        tokens = q, k, v, beta, gates, *rows, inverse
        _start(by.tokens_back, chunks, k, v, *tokens, u, states, d_out, d_u, d_states, *found)
        return (*found, d_state, None)


def _start(kernel: Any, chunks: Chunks, k: Tensor, v: Tensor, *arguments: Tensor | None) -> None:
    """Start a kernel over all chunks, or all sequences, with the tiles that fit the type of the tokens."""
    (n_heads, d_k), d_v = k.shape[1:], v.shape[2]
    along = kernel in (delta_rule_forward.walk, delta_rule_backward.walk_back)
    keys = _block(d_k)
    if v.dtype == torch.float32:
        values, warps, stages, precision = 32, 8 if keys > 32 else 4, 2 if along else 1, "tf32x3"
    else:
        values, warps, stages, precision = *TILES[kernel], "tf32"
    values = min(_block(d_v), values)
    # What may be large comes first: the other axes of a grid end at 65,535.
    loops = kernel in (delta_rule_forward.prepare, delta_rule_backward.tokens_back)  # over the values
    blocks = 1 if loops else triton.cdiv(d_v, values)
    grid = n_heads * (len(chunks.first) - 1 if along else len(chunks.starts)), blocks
    sizes = (n_heads, d_k, d_v, chunk_length(k.device, d_k), keys, values, precision)
    launch(kernel, grid, *arguments, *sizes, num_warps=warps, num_stages=stages)


def _block(size: int) -> int:
    return max(triton.next_power_of_2(size), 16)
