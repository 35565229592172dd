# SPDX-License-Identifier: Apache-2.0
"""An addition with the layer norm behind it, for training: one pass forward, one back, casts included.

The tokens of a batch of objects fit the cache: what a small transformer waits for is the start of each kernel.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .launch import launch

TOKENS = 4
"""Tokens in registers at a time."""
PASSES = 4
"""Times as many that one program handles in the backward pass, for fewer partial sums."""


def add_norm(x: Tensor, y: Tensor, scale: Tensor | None, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Return x + scale y, and the norm of that.

    Args:
        x, y: (B, T, C) float.
        scale: one number for each of the B objects, float, without gradient; None: 1.
        norm: over C, with weight and bias.

    Returns:
        The sum, of the wider dtype of the two; its norm, of autocast's dtype where that is on, else the sum's.
    """
    device = x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    low = torch.get_autocast_dtype(device) if on else None
    return _AddNorm.apply(x, y, scale, norm.weight, norm.bias, norm.eps, low)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        scale: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        low: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        x, y = x.contiguous(), y.contiguous()
        total = torch.empty_like(x, dtype=torch.promote_types(x.dtype, y.dtype))
        normal = torch.empty_like(x, dtype=low or total.dtype)
        n_rows, sizes = _sizes(x)
        grid = (triton.cdiv(n_rows, TOKENS),)
        launch(_add_norm, grid, x, y, scale, weight, bias, eps, total, normal, *sizes)
        ctx.save_for_backward(total, scale, weight)
        ctx.eps, ctx.dtypes = eps, (x.dtype, y.dtype)
        return total, normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total, scale, weight = ctx.saved_tensors
        slope, normal_slope = (g.contiguous() for g in grads)
        d_x = torch.empty_like(total, dtype=ctx.dtypes[0])
        same = scale is None and ctx.dtypes[0] == ctx.dtypes[1]
        d_y = None if same else torch.empty_like(total, dtype=ctx.dtypes[1])
        n_rows, sizes = _sizes(total)
        grid = (triton.cdiv(n_rows, TOKENS * PASSES),)
        partial = weight.new_empty((2, *grid, len(weight)), dtype=torch.float32)
        launch(
            _add_norm_back, grid,
            total, scale, weight, ctx.eps, slope, normal_slope, d_x, d_y, partial, *sizes, PASSES,
        )  # fmt: skip
        d_weight, d_bias = partial.sum(1).to(weight.dtype).unbind()
        return d_x, d_x if d_y is None else d_y, None, d_weight, d_bias, None, None


def _sizes(x: Tensor) -> tuple[int, tuple[int, ...]]:
    """Return the number of tokens, and the last arguments of the kernels."""
    n_rows, width = x.shape[:-1].numel(), x.shape[-1]
    return n_rows, (n_rows, x.shape[-2], width, TOKENS, triton.next_power_of_2(width))


@triton.jit
def _add_norm(  # type: ignore[no-untyped-def]
    x, y, scale, weight, bias, eps, total, normal, n_rows, n_tokens, width,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row, channel = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, CHANNELS)
    at = row[:, None].to(tl.int64) * width + channel[None, :]
    inside = (row < n_rows)[:, None] & (channel < width)[None, :]
    s = tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
    if scale is not None:
        s *= tl.load(scale + row // n_tokens, mask=row < n_rows, other=0.0).to(tl.float32)[:, None]
    s += tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    rounded = s.to(total.dtype.element_ty)
    tl.store(total + at, rounded, mask=inside)
    s = rounded.to(tl.float32)
    s = tl.where(inside, s - (tl.sum(s, 1) / width)[:, None], 0.0)
    rstd = 1 / tl.sqrt(tl.sum(s * s, 1) / width + eps)
    gain = tl.load(weight + channel, mask=channel < width, other=0.0).to(tl.float32)[None, :]
    offset = tl.load(bias + channel, mask=channel < width, other=0.0).to(tl.float32)[None, :]
    tl.store(normal + at, (s * rstd[:, None] * gain + offset).to(normal.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm_back(  # type: ignore[no-untyped-def]
    total, scale, weight, eps, slope, normal_slope, d_x, d_y, partial, n_rows, n_tokens, width,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr, PASSES: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, CHANNELS)
    gain = tl.load(weight + channel, mask=channel < width, other=0.0).to(tl.float32)[None, :]
    by_weight = tl.zeros([TOKENS, CHANNELS], tl.float32)
    by_bias = tl.zeros([TOKENS, CHANNELS], tl.float32)
    for i in range(PASSES):
        row = (tl.program_id(0) * PASSES + i) * TOKENS + tl.arange(0, TOKENS)
        at = row[:, None].to(tl.int64) * width + channel[None, :]
        inside = (row < n_rows)[:, None] & (channel < width)[None, :]
        s = tl.load(total + at, mask=inside, other=0.0).to(tl.float32)
        s = tl.where(inside, s - (tl.sum(s, 1) / width)[:, None], 0.0)
        rstd = 1 / tl.sqrt(tl.sum(s * s, 1) / width + eps)[:, None]
        s *= rstd
        d = tl.load(normal_slope + at, mask=inside, other=0.0).to(tl.float32)
        by_weight += d * s
        by_bias += d
        d *= gain
        d = (d - (tl.sum(d, 1) / width)[:, None] - s * (tl.sum(d * s, 1) / width)[:, None]) * rstd
        d += tl.load(slope + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(d_x + at, d.to(d_x.dtype.element_ty), mask=inside)
        if d_y is not None:
            if scale is not None:
                d *= tl.load(scale + row // n_tokens, mask=row < n_rows, other=0.0).to(tl.float32)[:, None]
            tl.store(d_y + at, d.to(d_y.dtype.element_ty), mask=inside)
    own = partial + tl.program_id(0) * width + channel
    tl.store(own, tl.sum(by_weight, 0), mask=channel < width)
    tl.store(own + tl.num_programs(0) * width, tl.sum(by_bias, 0), mask=channel < width)
