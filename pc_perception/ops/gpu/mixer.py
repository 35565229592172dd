# SPDX-License-Identifier: Apache-2.0
"""What a gated delta net does around its rule, on the GPU, for inference: one kernel before it and one behind it.

One by one, the operations between two products take less time than to start them. The kernels also follow the
order that sequences walk through the tokens: nothing is put into that order and back.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

ROWS, SEQUENCES = 16, 32
MOST_CHANNELS = 256
"""Of a head: with more, the rows of a tile no longer fit in registers."""


class Tokens(NamedTuple):
    """What the rule takes: q, k (T, H, d_k), v (T, H, d_v), log_decay, beta (T, H), float32, contiguous."""

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor
    beta: Tensor


def tokens_into(
    projected: Tensor,
    order: Tensor | None,
    edges: Tensor,
    kernel: Tensor,
    log_A: Tensor,
    step_bias: Tensor,
    largest_write: float,
    out: Tokens,
) -> None:
    """Convolve, activate and scale what ``GatedDeltaNet`` projected; can be captured in a CUDA graph.

    Args:
        projected: (T, 2 H d_k + 2 H d_v + 2 H) queries, keys, values, output gates, decays and writes, float; rows
            may lie apart, the values of a row may not.
        order: (T,) int64, contiguous, row of the t-th token of the walk; None: as they lie.
        edges: (S + 1,) int64, contiguous, where sequences start and end in the walk, from 0 to at most T; what
            lies behind the last comes out as part of the last sequence.
        kernel: (2 H d_k + H d_v, 1, W), contiguous, of the short convolution, which sees zeros before a sequence.
        log_A, step_bias: (H,), contiguous.
        out: receives the tokens in the order of the walk, d_k and d_v <= ``MOST_CHANNELS``.
            O(T H (S + (d_k + d_v) W)).
    """
    (n, n_heads, d_k), d_v = out.q.shape, out.v.shape[2]
    launch(
        _tokens, (triton.cdiv(n, ROWS), n_heads),
        projected, order, edges, kernel, log_A, step_bias, *out,
        n, len(edges) - 1, projected.stride(0), largest_write, d_k**-0.5,
        n_heads, d_k, d_v, kernel.shape[2],
        ROWS, SEQUENCES, triton.next_power_of_2(d_k), triton.next_power_of_2(d_v),
    )  # fmt: skip


def tokens(
    projected: Tensor,
    order: Tensor | None,
    edges: Tensor,
    kernel: Tensor,
    log_A: Tensor,
    step_bias: Tensor,
    largest_write: float,
    d_k: int,
    d_v: int,
) -> Tokens:
    """Return what ``tokens_into`` writes."""
    n, n_heads = len(projected), len(log_A)
    shapes = ((n, n_heads, d_k),) * 2 + ((n, n_heads, d_v),) + ((n, n_heads),) * 2
    out = Tokens(*(projected.new_empty(shape, dtype=torch.float32) for shape in shapes))
    tokens_into(projected, order, edges, kernel, log_A, step_bias, largest_write, out)
    return out


def gated_into(
    read: Tensor,
    projected: Tensor,
    order: Tensor | None,
    edges: Tensor,
    weight: Tensor,
    out: Tensor,
    eps: float = 1e-5,
) -> None:
    """Normalise what the rule read and multiply it by its gates; can be captured in a CUDA graph.

    Args:
        read: (T, H, d_v) float32, contiguous, in the order of the walk.
        projected, order, edges: as ``tokens_into``.
        weight: (d_v,) of the norm over a head.
        out: (T, H d_v) float32, contiguous, in the order of ``projected``; zeros where no sequence is.
    """
    n, n_heads, d_v = read.shape
    gates = projected.shape[1] - n_heads * (d_v + 2)
    launch(
        _gated, (triton.cdiv(n, ROWS), n_heads),
        read, projected, order, edges, weight, out, n, len(edges) - 1, projected.stride(0), eps,
        n_heads, d_v, gates, ROWS, triton.next_power_of_2(d_v),
    )  # fmt: skip


def gated(read: Tensor, projected: Tensor, order: Tensor | None, edges: Tensor, weight: Tensor) -> Tensor:
    """Return what ``gated_into`` writes."""
    out = torch.empty_like(read).flatten(1)
    gated_into(read, projected, order, edges, weight, out)
    return out


@triton.jit
def _silu(x):
    return x / (1.0 + tl.exp(-x))


@triton.jit
def _softplus(x):
    small = tl.exp(-tl.abs(x))
    one_more = 1.0 + small  # what rounding took from the small one, its share of the logarithm gives back
    log1p = tl.where(one_more == 1.0, small, tl.log(one_more) * (small / tl.maximum(one_more - 1.0, 1e-30)))
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def _unit(x):
    return x * tl.rsqrt(tl.sum(x * x, 1, keep_dims=True) + 1e-6)


@triton.jit
def _row_of(order, place, there):
    """Row (R,) of places in the walk."""
    return place if order is None else tl.load(order + place, there, 0)


@triton.jit
def _start_of(edges, place, n_sequences, SEQUENCES: tl.constexpr):
    """First place (R,) of the sequences that places (R,) are in."""
    start = tl.zeros_like(place)
    for first in range(0, n_sequences, SEQUENCES):
        s = first + tl.arange(0, SEQUENCES)[None, :]
        edge = tl.load(edges + s, s < n_sequences, 0)
        start = tl.maximum(start, tl.max(tl.where(edge <= place[:, None], edge, 0), 1))
    return start


@triton.jit
def _head(projected, order, kernel, place, there, start, first, stride, W: tl.constexpr, D: tl.constexpr,
          BLOCK: tl.constexpr):  # fmt: skip
    """Convolve and activate D columns from ``first`` on: (R, BLOCK), zeros beyond D."""
    column = tl.arange(0, BLOCK)[None, :]
    inside = column < D
    total = tl.zeros((place.shape[0], BLOCK), tl.float32)
    for back in tl.static_range(W):
        known = there & (place - back >= start)
        row = _row_of(order, place - back, known)[:, None]
        w = tl.load(kernel + (first + column) * W + (W - 1 - back), inside, 0.0).to(tl.float32)
        x = tl.load(projected + row * stride + first + column, known[:, None] & inside, 0.0).to(tl.float32)
        total += w * x
    return _silu(total)


@triton.jit
def _put(out, value, place, there, h, H: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr):
    """Store head h of rows of a (T, H, D) tensor."""
    column = tl.arange(0, BLOCK)[None, :]
    tl.store(out + (place[:, None] * H + h) * D + column, value, there[:, None] & (column < D))


@triton.jit(do_not_specialize=["n", "n_sequences", "stride", "largest_write", "scale"])
def _tokens(
    projected, order, edges, kernel, log_A, step_bias, q, k, v, log_decay, beta,
    n, n_sequences, stride, largest_write, scale,
    H: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, W: tl.constexpr,
    ROWS: tl.constexpr, SEQUENCES: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    h = tl.program_id(1)
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = place < n
    start = _start_of(edges, place, n_sequences, SEQUENCES)
    query = _head(projected, order, kernel, place, there, start, h * DK, stride, W, DK, BK)
    _put(q, _unit(query) * scale, place, there, h, H, DK, BK)
    key = _head(projected, order, kernel, place, there, start, (H + h) * DK, stride, W, DK, BK)
    _put(k, _unit(key), place, there, h, H, DK, BK)
    value = _head(projected, order, kernel, place, there, start, 2 * H * DK + h * DV, stride, W, DV, BV)
    _put(v, value, place, there, h, H, DV, BV)
    gates = projected + _row_of(order, place, there) * stride + (2 * H * (DK + DV) + h)
    step = tl.load(gates, there, 0.0).to(tl.float32) + tl.load(step_bias + h).to(tl.float32)
    rate = -tl.exp(tl.load(log_A + h).to(tl.float32))
    tl.store(log_decay + place * H + h, rate * _softplus(step), there)
    write = tl.load(gates + H, there, 0.0).to(tl.float32)
    tl.store(beta + place * H + h, largest_write / (1.0 + tl.exp(-write)), there)


@triton.jit(do_not_specialize=["n", "n_sequences", "stride", "eps"])
def _gated(
    read, projected, order, edges, weight, out, n, n_sequences, stride, eps,
    H: tl.constexpr, DV: tl.constexpr, GATES: tl.constexpr, ROWS: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    h = tl.program_id(1)
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = place < n
    column = tl.arange(0, BV)[None, :]
    inside = column < DV
    mask = (there & (place < tl.load(edges + n_sequences)))[:, None] & inside
    x = tl.load(read + (place[:, None] * H + h) * DV + column, mask, 0.0)
    x *= tl.rsqrt(tl.sum(x * x, 1, keep_dims=True) / DV + eps)
    x *= tl.load(weight + column, inside, 0.0).to(tl.float32)
    row = _row_of(order, place, there)
    gate = tl.load(projected + row[:, None] * stride + GATES + h * DV + column, mask, 0.0).to(tl.float32)
    _put(out, x * _silu(gate), row, there, h, H, DV, BV)
