# SPDX-License-Identifier: Apache-2.0
"""Training kernels of the patch embedding: batch norm with ReLU, and the maximum over the points of a patch.

A batch of patches is a quarter of a million points of some hundred channels: time goes to reading and writing them.
Normalising, adding what a patch shares and ReLU are one pass here, and the gradient of a maximum is written as such
instead of looked for by comparisons. Points lie as (P M, C) rows, those of a patch behind each other. Sums are float32
and of fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .launch import launch

PATCHES, CHANNELS = 8, 128
"""Patches and channels of one program."""


def norm_relu(x: Tensor, shared: Tensor | None, norm: nn.BatchNorm1d, n_points: int) -> Tensor:
    """Return ReLU of the batch norm of ``x`` plus, for each patch, its row of ``shared``; update running values.

    Args:
        x: (P M, C) float, contiguous, P M > 1.
        shared: (P, C) float.
        norm: with running values and a momentum; normalises by the batch, whatever its mode.
        n_points: M.
    """
    y, mean, variance = _NormRelu.apply(x, shared, norm.weight, norm.bias, norm.eps, n_points)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (len(x) / (len(x) - 1)), norm.momentum)
    return y


def patch_max(x: Tensor, n_points: int) -> Tensor:
    """Return (P, C), the maximum over each patch of ``x`` (P M, C); the gradient goes to the first that has it."""
    return _Max.apply(x, n_points)


def linear_and_max(x: Tensor, weight: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
    """Return x W^T, (P M, D), for ``weight`` (D, C) of the dtype of ``x``, and ``patch_max(x)``.

    Two uses of ``x``, whose gradients need no pass of their own to be added.
    """
    return _LinearAndMax.apply(x, weight, n_points)


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shared: Tensor | None, weight: Tensor, bias: Tensor, eps: float, n_points: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, shared = x.contiguous(), None if shared is None else shared.contiguous()
        grid, sizes = _grid(x, n_points)
        pivot, partial = x.new_empty(x.shape[1], dtype=torch.float32), _partial(x, grid)
        launch(_sums, grid, x, shared, pivot, partial, *sizes)
        # About a value that the channel takes: the mean's square does not swallow the variance.
        first, second = (partial.sum(1) / len(x)).unbind()
        variance = torch.addcmul(second, first, first, value=-1).clamp_(min=0)
        mean, rstd = first + pivot, (variance + eps).rsqrt_()
        y = torch.empty_like(x)
        launch(_norm, grid, x, shared, mean, rstd, weight, bias, y, *sizes)
        ctx.save_for_backward(x, shared, mean, rstd, weight, bias)
        ctx.n_points = n_points
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, shared, slope = saved[0], saved[1], grads[0].contiguous()
        grid, sizes = _grid(x, ctx.n_points)
        partial = _partial(x, grid)
        launch(_sums_back, grid, *saved, slope, partial, *sizes)
        sums = partial.sum(1)
        d_x, d_shared = torch.empty_like(x), None if shared is None else torch.empty_like(shared)
        launch(_norm_back, grid, *saved, slope, sums, 1 / len(x), d_x, d_shared, *sizes)
        return d_x, d_shared, sums[1].to(saved[4].dtype), sums[0].to(saved[5].dtype), None, None


class _Max(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, n_points: int) -> Tensor:
        best, index = _winners(x.contiguous(), n_points)
        ctx.save_for_backward(index)
        ctx.n_points = n_points
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,), slope = ctx.saved_tensors, grads[0].contiguous()
        d_x = slope.new_empty(len(index) * ctx.n_points, index.shape[1])
        grid, sizes = _grid(d_x, ctx.n_points)
        launch(_spread, grid, slope, index, d_x, *sizes)
        return d_x, None


class _LinearAndMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        best, index = _winners(x, n_points)
        ctx.save_for_backward(x, weight, index)
        ctx.n_points = n_points
        return x @ weight.T, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, index = ctx.saved_tensors
        slope, best_slope = grads[0].contiguous(), grads[1].contiguous()
        d_x = slope @ weight
        grid, sizes = _grid(d_x, ctx.n_points)
        launch(_add_to_winners, grid, best_slope, index, d_x, *sizes[:-1])
        return d_x, slope.T @ x, None


def _grid(x: Tensor, n_points: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Return the grid over (P M, C) rows and the last arguments of the kernels."""
    n_patches, width = len(x) // n_points, x.shape[1]
    grid = (triton.cdiv(n_patches, PATCHES), triton.cdiv(width, CHANNELS))
    rows = triton.next_power_of_2(n_points)
    return grid, (n_patches, n_points, width, PATCHES, CHANNELS, rows)


def _partial(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return x.new_empty((2, grid[0], x.shape[1]), dtype=torch.float32)


def _winners(x: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
    best = x.new_empty(len(x) // n_points, x.shape[1])
    index = torch.empty_like(best, dtype=torch.int32)
    grid, sizes = _grid(x, n_points)
    launch(_most, grid, x, best, index, *sizes)
    return best, index


@triton.jit
def _places(patch, n_points, channel, width, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where the elements of a patch lie, and which of the tile there are."""
    row = tl.arange(0, ROWS)
    at = (patch.to(tl.int64) * n_points + row)[:, None] * width + channel[None, :]
    return at, (row < n_points)[:, None] & (channel < width)[None, :]


@triton.jit
def _values(x, shared, at, inside, patch, channel, width):  # type: ignore[no-untyped-def]
    """The input of the norm, float32."""
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if shared is not None:
        same = tl.load(shared + patch.to(tl.int64) * width + channel, mask=channel < width, other=0.0)
        value += same.to(tl.float32)[None, :]
    return value


@triton.jit
def _channel(table, channel, width):  # type: ignore[no-untyped-def]
    return tl.load(table + channel, mask=channel < width, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _sums(  # type: ignore[no-untyped-def]
    x, shared, pivot, partial, n_patches, n_points, width,
    PATCHES: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sums of differences from the first row, and of their squares."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    origin = _channel(x, channel, width)
    if shared is not None:
        origin += _channel(shared, channel, width)
    first = tl.zeros([ROWS, CHANNELS], tl.float32)
    second = tl.zeros([ROWS, CHANNELS], tl.float32)
    for i in range(PATCHES):
        patch = tl.program_id(0) * PATCHES + i
        if patch < n_patches:
            at, inside = _places(patch, n_points, channel, width, ROWS)
            value = _values(x, shared, at, inside, patch, channel, width)
            value = tl.where(inside, value - origin, 0.0)
            first += value
            second += value * value
    own = partial + tl.program_id(0) * width + channel
    tl.store(own, tl.sum(first, 0), mask=channel < width)
    tl.store(own + tl.num_programs(0) * width, tl.sum(second, 0), mask=channel < width)
    if tl.program_id(0) == 0:
        tl.store(pivot + channel[None, :], origin, mask=(channel < width)[None, :])


@triton.jit
def _norm(  # type: ignore[no-untyped-def]
    x, shared, mean, rstd, weight, bias, y, n_patches, n_points, width,
    PATCHES: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    center, scale = _channel(mean, channel, width), _channel(rstd, channel, width)
    gain, offset = _channel(weight, channel, width), _channel(bias, channel, width)
    for i in range(PATCHES):
        patch = tl.program_id(0) * PATCHES + i
        if patch < n_patches:
            at, inside = _places(patch, n_points, channel, width, ROWS)
            value = _values(x, shared, at, inside, patch, channel, width)
            value = (value - center) * scale * gain + offset
            value = tl.where(value <= 0, 0.0, value)  # NaN stays
            tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _sums_back(  # type: ignore[no-untyped-def]
    x, shared, mean, rstd, weight, bias, slope, partial, n_patches, n_points, width,
    PATCHES: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Gradients of bias and weight."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    center, scale = _channel(mean, channel, width), _channel(rstd, channel, width)
    gain, offset = _channel(weight, channel, width), _channel(bias, channel, width)
    by_bias = tl.zeros([ROWS, CHANNELS], tl.float32)
    by_weight = tl.zeros([ROWS, CHANNELS], tl.float32)
    for i in range(PATCHES):
        patch = tl.program_id(0) * PATCHES + i
        if patch < n_patches:
            at, inside = _places(patch, n_points, channel, width, ROWS)
            normal = (_values(x, shared, at, inside, patch, channel, width) - center) * scale
            d = tl.load(slope + at, mask=inside, other=0.0).to(tl.float32)
            d = tl.where(normal * gain + offset > 0, d, 0.0)
            by_bias += d
            by_weight += d * normal
    own = partial + tl.program_id(0) * width + channel
    tl.store(own, tl.sum(by_bias, 0), mask=channel < width)
    tl.store(own + tl.num_programs(0) * width, tl.sum(by_weight, 0), mask=channel < width)


@triton.jit
def _norm_back(  # type: ignore[no-untyped-def]
    x, shared, mean, rstd, weight, bias, slope, sums, share, d_x, d_shared, n_patches, n_points, width,
    PATCHES: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    center, scale = _channel(mean, channel, width), _channel(rstd, channel, width)
    gain, offset = _channel(weight, channel, width), _channel(bias, channel, width)
    by_bias, by_weight = (
        _channel(sums, channel, width) * share,
        _channel(sums + width, channel, width) * share,
    )
    for i in range(PATCHES):
        patch = tl.program_id(0) * PATCHES + i
        if patch < n_patches:
            at, inside = _places(patch, n_points, channel, width, ROWS)
            normal = (_values(x, shared, at, inside, patch, channel, width) - center) * scale
            d = tl.load(slope + at, mask=inside, other=0.0).to(tl.float32)
            d = tl.where(normal * gain + offset > 0, d, 0.0)
            d = (d - by_bias - normal * by_weight) * scale * gain
            tl.store(d_x + at, d.to(d_x.dtype.element_ty), mask=inside)
            if d_shared is not None:
                total = tl.sum(tl.where(inside, d, 0.0), 0)
                to = d_shared + patch.to(tl.int64) * width + channel
                tl.store(to, total.to(d_shared.dtype.element_ty), mask=channel < width)


@triton.jit
def _most(  # type: ignore[no-untyped-def]
    x, best, index, n_patches, n_points, width,
    PATCHES: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    row = tl.arange(0, ROWS)
    for i in range(PATCHES):
        patch = tl.program_id(0) * PATCHES + i
        if patch < n_patches:
            at, inside = _places(patch, n_points, channel, width, ROWS)
            value = tl.load(x + at, mask=inside, other=float("-inf")).to(tl.float32)
            top = tl.max(value, 0)
            first = tl.min(tl.where(value == top[None, :], row[:, None], ROWS), 0)
            to = patch.to(tl.int64) * width + channel
            tl.store(best + to, top.to(best.dtype.element_ty), mask=channel < width)
            tl.store(index + to, first, mask=channel < width)


@triton.jit
def _spread(  # type: ignore[no-untyped-def]
    slope, index, d_x, n_patches, n_points, width,
    PATCHES: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    row = tl.arange(0, ROWS)
    for i in range(PATCHES):
        patch = tl.program_id(0) * PATCHES + i
        if patch < n_patches:
            at, inside = _places(patch, n_points, channel, width, ROWS)
            own = patch.to(tl.int64) * width + channel
            d = tl.load(slope + own, mask=channel < width, other=0.0)
            who = tl.load(index + own, mask=channel < width, other=-1)
            tl.store(d_x + at, tl.where(row[:, None] == who[None, :], d[None, :], 0.0), mask=inside)


@triton.jit
def _add_to_winners(  # type: ignore[no-untyped-def]
    slope, index, d_x, n_patches, n_points, width, PATCHES: tl.constexpr, CHANNELS: tl.constexpr
):
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    patch = tl.program_id(0).to(tl.int64) * PATCHES + tl.arange(0, PATCHES)
    own = patch[:, None] * width + channel[None, :]
    inside = (patch < n_patches)[:, None] & (channel < width)[None, :]
    who = tl.load(index + own, mask=inside, other=0)
    inside = inside & (who < n_points)
    to = d_x + (patch[:, None] * n_points + who) * width + channel[None, :]
    d = tl.load(to, mask=inside, other=0.0).to(tl.float32)
    d += tl.load(slope + own, mask=inside, other=0.0).to(tl.float32)
    tl.store(to, d.to(d_x.dtype.element_ty), mask=inside)
