# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution: gather rows, multiply by one weight matrix, add up where the pairs say.

Nothing here waits for the device: where the pairs of an offset end is read by the kernels, from ``starts``.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .launch import launch

PAIRS = 64
"""Pairs that are multiplied at once."""
MAX_SHARES = 16
"""So many programs share the pairs of one offset where all add to the same weight."""


def convolve_into(
    features: Tensor, weight: Tensor, in_row: Tensor, out_row: Tensor, starts: Tensor, out: Tensor
) -> None:
    """Add the convolution of ``features`` to ``out``; can be captured in a CUDA graph.

    Products of float32 are not rounded to TF32; all are summed in float32, in no fixed order.

    Args:
        features: (M, C) float16, bfloat16 or float32, any strides.
        weight: (K, C, D) of that dtype, any strides.
        in_row, out_row: (capacity,) int64, contiguous; starts: (K + 1,) int64: as ``KernelMap``. Pairs beyond the
            capacity are left out.
        out: (N, D) float32, contiguous.
    """
    # Twice the mean number of pairs: few programs then find nothing, and the fullest offset's take a few rounds.
    n_tiles = triton.cdiv(2 * len(in_row), len(weight) * PAIRS)
    columns = _block(weight.shape[2])
    grid = (len(weight) * n_tiles, triton.cdiv(weight.shape[2], columns))
    sizes = (len(in_row), n_tiles, *weight.shape[1:])
    pairs = (in_row, out_row, starts)
    strides = (*features.stride(), *weight.stride())
    blocks = (PAIRS, min(_block(weight.shape[1]), 32), columns)
    launch(_convolve, grid, features, weight, *pairs, out, *sizes, *strides, *blocks)


def weight_gradient_into(
    features: Tensor, grad: Tensor, in_row: Tensor, out_row: Tensor, starts: Tensor, out: Tensor
) -> None:
    """Add the gradient by the weight to ``out`` (K, C, D), given ``grad`` (N, D), that by the result.

    Otherwise as ``convolve_into``.
    """
    n_offsets, n_in, n_out = out.shape
    n_shares = min(triton.cdiv(2 * len(in_row), n_offsets * PAIRS), MAX_SHARES)
    blocks = (PAIRS, _block(n_in), _block(n_out))
    grid = (n_offsets * n_shares, triton.cdiv(n_in, blocks[1]), triton.cdiv(n_out, blocks[2]))
    sizes = (len(in_row), n_shares, n_in, n_out)
    strides = (*features.stride(), *grad.stride())
    launch(_weight_gradient, grid, features, grad, in_row, out_row, starts, out, *sizes, *strides, *blocks)


def sparse_convolution(
    features: Tensor, weight: Tensor, in_row: Tensor, out_row: Tensor, starts: Tensor, n_out: int
) -> Tensor:
    """Do what ``ops.sparse_convolution`` documents, by kernel."""
    pairs = (in_row.contiguous(), out_row.contiguous(), starts.contiguous())
    return _Convolution.apply(features, weight, *pairs, n_out)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        in_row: Tensor,
        out_row: Tensor,
        starts: Tensor,
        n_out: int,
    ) -> Tensor:
        ctx.save_for_backward(features, weight, in_row, out_row, starts)
        out = _zeros(features, n_out, weight.shape[2])
        convolve_into(features.detach(), weight.detach(), in_row, out_row, starts, out)
        return out.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, in_row, out_row, starts = ctx.saved_tensors
        by_features, by_weight = None, None
        if ctx.needs_input_grad[0]:
            total = _zeros(features, *features.shape)
            convolve_into(grads[0], weight.transpose(1, 2), out_row, in_row, starts, total)
            by_features = total.to(features.dtype)
        if ctx.needs_input_grad[1]:
            total = _zeros(weight, *weight.shape)
            weight_gradient_into(features, grads[0], in_row, out_row, starts, total)
            by_weight = total.to(weight.dtype)
        return by_features, by_weight, None, None, None, None


def _zeros(like: Tensor, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32, device=like.device)


def _block(n: int) -> int:
    return min(max(triton.next_power_of_2(n), 16), 64)  # tensor cores take no less than 16


@triton.jit
def _range_of(starts, capacity, n_shares, PAIRS: tl.constexpr):
    """Offset of this program, its first pair and the end of the offset's pairs."""
    k = tl.program_id(0) // n_shares
    share = tl.program_id(0) % n_shares
    first = tl.load(starts + k) + share.to(tl.int64) * PAIRS
    return k, first, tl.minimum(tl.load(starts + k + 1), capacity.to(tl.int64))


@triton.jit(do_not_specialize=["capacity", "n_shares"])
def _convolve(
    features, weight, in_row, out_row, starts, out, capacity, n_shares, n_in, n_out,
    stride_n, stride_c, stride_k, stride_i, stride_o,
    PAIRS: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    k, first, end = _range_of(starts, capacity, n_shares, PAIRS)
    d = tl.program_id(1) * OUT + tl.arange(0, OUT)
    for begin in range(first, end, n_shares * PAIRS):
        pair = begin + tl.arange(0, PAIRS)
        row = tl.load(in_row + pair, mask=pair < end, other=0)
        to = tl.load(out_row + pair, mask=pair < end, other=0)
        total = tl.zeros((PAIRS, OUT), tl.float32)
        for c0 in range(0, n_in, IN):
            c = c0 + tl.arange(0, IN)
            mask = (pair < end)[:, None] & (c < n_in)[None, :]
            x = tl.load(features + row[:, None] * stride_n + c[None, :] * stride_c, mask=mask, other=0.0)
            mask = (c < n_in)[:, None] & (d < n_out)[None, :]
            place = k.to(tl.int64) * stride_k + c[:, None] * stride_i + d[None, :] * stride_o
            w = tl.load(weight + place, mask=mask, other=0.0)
            total = tl.dot(x, w, total, input_precision="ieee")
        mask = (pair < end)[:, None] & (d < n_out)[None, :]
        tl.atomic_add(out + to[:, None] * n_out + d[None, :], total, mask=mask, sem="relaxed")


@triton.jit(do_not_specialize=["capacity", "n_shares"])
def _weight_gradient(
    features, grad, in_row, out_row, starts, out, capacity, n_shares, n_in, n_out,
    stride_n, stride_c, stride_m, stride_d,
    PAIRS: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    k, first, end = _range_of(starts, capacity, n_shares, PAIRS)
    c = tl.program_id(1) * IN + tl.arange(0, IN)
    d = tl.program_id(2) * OUT + tl.arange(0, OUT)
    total = tl.zeros((IN, OUT), tl.float32)
    for begin in range(first, end, n_shares * PAIRS):
        pair = begin + tl.arange(0, PAIRS)
        row = tl.load(in_row + pair, mask=pair < end, other=0)
        to = tl.load(out_row + pair, mask=pair < end, other=0)
        mask = (c < n_in)[:, None] & (pair < end)[None, :]
        x = tl.load(features + row[None, :] * stride_n + c[:, None] * stride_c, mask=mask, other=0.0)
        mask = (pair < end)[:, None] & (d < n_out)[None, :]
        g = tl.load(grad + to[:, None] * stride_m + d[None, :] * stride_d, mask=mask, other=0.0)
        total = tl.dot(x, g, total, input_precision="ieee")
    mask = (c < n_in)[:, None] & (d < n_out)[None, :] & (first < end)
    place = k.to(tl.int64) * n_in * n_out + c[:, None] * n_out + d[None, :]
    tl.atomic_add(out + place, total, mask=mask, sem="relaxed")
