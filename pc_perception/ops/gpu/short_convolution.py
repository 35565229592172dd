# SPDX-License-Identifier: Apache-2.0
"""Short causal depthwise convolution along packed sequences, and its gradients.

Nothing here waits for the device: where sequences begin is looked up on it. Nothing is added atomically: results and
gradients are the same in every run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .launch import launch

ROWS, COLUMNS = 32, 64


def short_convolution_into(x: Tensor, kernel: Tensor, edges: Tensor, recent: Tensor, out: Tensor) -> None:
    """Convolve into ``out``; can be captured in a CUDA graph.

    Args:
        x: (T, C) float16, bfloat16 or float32; rows may lie apart, the values of a row may not.
        kernel: (C, 1, W), contiguous.
        edges: (S + 1,) int64 from 0 to at most T; what lies behind the last comes out as part of the last sequence.
        recent: (S, W - 1, C) of the dtype of x, contiguous.
        out: (T, C), contiguous.
    """
    sizes = (x.stride(0), *x.shape, kernel.shape[2], ROWS, COLUMNS)
    launch(_convolve, _grid(x), x, kernel, _sequences(edges, len(x)), edges, recent, out, *sizes)


def short_convolution(x: Tensor, kernel: Tensor, edges: Tensor, recent: Tensor) -> Tensor:
    """Do what ``ops.short_convolution`` documents for the tokens, by kernel."""
    if not len(x):
        return x * kernel[:, 0, 0]
    return _Convolution.apply(x, kernel, recent, edges)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        x, kernel, recent, edges = (t.detach() for t in inputs)
        x = x if x.stride(1) == 1 else x.contiguous()
        kernel, recent = kernel.contiguous(), recent.contiguous()
        ctx.save_for_backward(x, kernel, recent, edges)
        out = x.new_empty(x.shape)
        short_convolution_into(x, kernel, edges, recent, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel, recent, edges = ctx.saved_tensors
        d_out, d_x = grads[0].contiguous(), x.new_empty(x.shape)
        grid, width = _grid(x), kernel.shape[2]
        shares = torch.empty(grid[0], *kernel.shape, dtype=torch.float32, device=x.device)
        sizes = (x.stride(0), *x.shape, width, ROWS, COLUMNS)
        sequence = _sequences(edges, len(x))
        launch(_convolve_back, grid, x, kernel, sequence, edges, recent, d_out, d_x, shares, *sizes)
        return d_x, shares.sum(0).to(kernel.dtype), _recent_back(kernel, edges, d_out, recent), None


def _recent_back(kernel: Tensor, edges: Tensor, d_out: Tensor, recent: Tensor) -> Tensor:
    """Gradient by what came before: tap j of token i saw place i + j of it, as long as that was before the first."""
    found = torch.zeros_like(recent, dtype=torch.float32)
    for i in range(recent.shape[1]):
        row = edges[:-1] + i
        there = (row < edges[1:])[:, None]
        d_y = torch.where(there, d_out[row.clamp(max=len(d_out) - 1)].float(), 0.0)
        found[:, i:] += d_y[:, None] * kernel[:, 0, : recent.shape[1] - i].T.float()
    return found.to(recent.dtype)


def _sequences(edges: Tensor, n_tokens: int) -> Tensor:
    """Return the (T,) int32 sequence of each token."""
    row = torch.arange(n_tokens, device=edges.device)
    return torch.searchsorted(edges[1:-1], row, right=True, out_int32=True)


def _grid(x: Tensor) -> tuple[int, int]:
    return triton.cdiv(len(x), ROWS), triton.cdiv(x.shape[1], COLUMNS)


@triton.jit
def _source(x, recent, row, start, s, inside, column, back, stride, C: tl.constexpr, W: tl.constexpr):
    """Load the tokens ``back`` places before ``row``, from ``recent`` where they lie before the sequence."""
    there = (inside & (row - back >= start))[:, None] & (column < C)[None, :]
    value = tl.load(x + (row - back)[:, None] * stride + column[None, :], mask=there, other=0.0)
    place = (s * (W - 1) + (row - back - start + W - 1))[:, None] * C + column[None, :]
    before = (inside & (row - back < start))[:, None] & (column < C)[None, :]
    return value.to(tl.float32) + tl.load(recent + place, mask=before, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["stride", "n"])
def _convolve(
    x, kernel, sequence, edges, recent, out, stride, n,
    C: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column, inside = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS), row < n
    s = tl.load(sequence + row, mask=inside, other=0).to(tl.int64)
    start = tl.load(edges + s)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for back in tl.static_range(W):
        w = tl.load(kernel + column * W + W - 1 - back, mask=column < C, other=0.0).to(tl.float32)
        total += w[None, :] * _source(x, recent, row, start, s, inside, column, back, stride, C, W)
    tl.store(out + row[:, None] * C + column[None, :], total, mask=inside[:, None] & (column < C)[None, :])


@triton.jit(do_not_specialize=["stride", "n"])
def _convolve_back(
    x, kernel, sequence, edges, recent, d_out, d_x, shares, stride, n,
    C: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column, inside = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS), row < n
    s = tl.load(sequence + row, mask=inside, other=0).to(tl.int64)
    start, end = tl.load(edges + s), tl.load(edges + s + 1)
    mask = inside[:, None] & (column < C)[None, :]
    here = row[:, None] * C + column[None, :]
    d_y = tl.load(d_out + here, mask=mask, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for back in tl.static_range(W):
        w = tl.load(kernel + column * W + W - 1 - back, mask=column < C, other=0.0).to(tl.float32)
        seen = mask & (row + back < end)[:, None]
        total += w[None, :] * tl.load(d_out + here + back * C, mask=seen, other=0.0).to(tl.float32)
        share = tl.sum(d_y * _source(x, recent, row, start, s, inside, column, back, stride, C, W), 0)
        place = (tl.program_id(0).to(tl.int64) * C + column) * W + W - 1 - back
        tl.store(shares + place, share, mask=column < C)
    tl.store(d_x + here, total, mask=mask)
