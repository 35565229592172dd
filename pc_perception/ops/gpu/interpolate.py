# SPDX-License-Identifier: Apache-2.0
"""Weighted sums of gathered rows with their gradient, and labels of the nearest labelled point, in Triton.

Nothing is read back on the host: all launches can be captured in a CUDA graph.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .launch import launch

ROWS = 32
"""Rows of a tile of features; with 32 channels it is read in whole cache lines."""
QUERIES, POINTS = 32, 128


def gather_weighted(features: Tensor, index: Tensor, weight: Tensor, out: Tensor) -> None:
    """Write the sum over j of ``weight[q, j] * features[index[q, j]]``.

    Args:
        features: (N, C) float32 or float64, contiguous.
        index: (Q, K) int64 in 0 .. N - 1, contiguous.
        weight: (Q, K) as ``features``.
        out: (Q, C) as ``features``.
    """
    _over_tiles(_gather, features, index, weight, out, out.shape)


def scatter_weighted(grad: Tensor, index: Tensor, weight: Tensor, out: Tensor) -> None:
    """Add ``weight[q, j] * grad[q]`` to row ``index[q, j]`` of ``out``: the gradient of ``gather_weighted``.

    Atomically, thus in any order: sums differ in the last bits from run to run. ``out``: (N, C), zeroed by the caller.
    """
    _over_tiles(_scatter, grad, index, weight, out, grad.shape)


def _over_tiles(kernel, values, index, weight, out, shape) -> None:  # type: ignore[no-untyped-def]
    rows, channels = shape
    if rows and channels and index.shape[1]:
        block = min(triton.next_power_of_2(channels), 32)
        grid = (triton.cdiv(rows, ROWS), triton.cdiv(channels, block))
        launch(kernel, grid, values, index, weight, out, rows, channels, index.shape[1], ROWS, block)
    elif kernel is _gather:
        out.zero_()


@triton.jit
def _gather(  # type: ignore[no-untyped-def]
    features, index, weight, out, rows, channels, K: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    inside = row < rows
    wanted = inside[:, None] & (channel < channels)
    total = tl.zeros([ROWS, CHANNELS], out.dtype.element_ty)
    for j in range(K):
        source = tl.load(index + row * K + j, mask=inside, other=0)
        w = tl.load(weight + row * K + j, mask=inside, other=0.0)
        total += w[:, None] * tl.load(features + source[:, None] * channels + channel, mask=wanted, other=0.0)
    tl.store(out + row[:, None] * channels + channel, total, mask=wanted)


@triton.jit
def _scatter(  # type: ignore[no-untyped-def]
    grad, index, weight, out, rows, channels, K: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    inside = row < rows
    wanted = inside[:, None] & (channel < channels)
    value = tl.load(grad + row[:, None] * channels + channel, mask=wanted, other=0.0)
    for j in range(K):
        target = tl.load(index + row * K + j, mask=inside, other=0)
        w = tl.load(weight + row * K + j, mask=inside, other=0.0)
        tl.atomic_add(
            out + target[:, None] * channels + channel, w[:, None] * value, mask=wanted, sem="relaxed"
        )


class WeightedSum(torch.autograd.Function):
    """``gather_weighted`` with gradients to the features and, as in the reference, to the weights."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        index, weight = index.contiguous(), weight.contiguous()
        ctx.n_rows = len(features)
        ctx.save_for_backward(index, weight, features if ctx.needs_input_grad[2] else None)
        out = features.new_empty(len(index), features.shape[1])
        gather_weighted(features.contiguous(), index, weight, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        index, weight, features = ctx.saved_tensors
        grad = grads[0].contiguous()
        d_features = None
        if ctx.needs_input_grad[0]:
            d_features = grad.new_zeros(ctx.n_rows, grad.shape[1])
            scatter_weighted(grad, index, weight, d_features)
        d_weight = None if features is None else (grad[:, None] * features[index]).sum(2)
        return d_features, None, d_weight


def nearest_labels(
    xyz: Tensor,
    labels: Tensor,
    starts: Tensor,
    queries: Tensor,
    query_starts: Tensor,
    most_queries: int,
    squared: float,
    unlabeled: int,
    out: Tensor,
) -> None:
    """Write the label of the nearest point that has one, within a radius; ties go to the lowest index.

    Args:
        xyz: (N, 3) float32, contiguous, finite, metres.
        labels: (N,) int64; points with ``unlabeled`` are not asked.
        starts: (B + 1,) int64, rows where the scenes of points start and end; a scene has less than 2^31.
        queries: (Q, 3) as ``xyz``.
        query_starts: (B + 1,) int64.
        most_queries: queries of any scene, at most.
        squared: radius squared, that the point must be below, a float32.
        out: (Q,) int64; ``unlabeled`` where there is none.

    O(Q N), no gradient.
    """
    scenes = len(starts) - 1
    if scenes and most_queries:
        launch(
            _labels, (triton.cdiv(most_queries, QUERIES), scenes),
            xyz, labels, starts, queries, query_starts, squared, out, unlabeled, QUERIES, POINTS,
            enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit
def _labels(  # type: ignore[no-untyped-def]
    xyz, labels, starts, queries, query_starts, squared, out,
    unlabeled: tl.constexpr, QUERIES: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    scene = tl.program_id(1)
    row = tl.load(query_starts + scene) + tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    asked = row < tl.load(query_starts + scene + 1)
    base = tl.load(starts + scene)
    count = (tl.load(starts + scene + 1) - base).to(tl.int32)
    x = tl.load(queries + 3 * row, mask=asked, other=0.0)[:, None]
    y = tl.load(queries + 3 * row + 1, mask=asked, other=0.0)[:, None]
    z = tl.load(queries + 3 * row + 2, mask=asked, other=0.0)[:, None]
    # Each lane keeps its own nearest, the first of equals: one reduction at the end instead of one a tile.
    best = tl.full([QUERIES, POINTS], float("inf"), tl.float32)
    who = tl.full([QUERIES, POINTS], 0x7FFFFFFF, tl.int32)
    for begin in range(0, count, POINTS):
        point = begin + tl.arange(0, POINTS)
        column = xyz + 3 * (base + point)
        there = tl.load(labels + base + point, mask=point < count, other=unlabeled) != unlabeled
        dx = x - tl.load(column, mask=there, other=0.0)[None, :]
        dy = y - tl.load(column + 1, mask=there, other=0.0)[None, :]
        dz = z - tl.load(column + 2, mask=there, other=0.0)[None, :]
        square = dx * dx + dy * dy + dz * dz
        nearer = there[None, :] & (square < squared) & (square < best)
        best, who = tl.where(nearer, square, best), tl.where(nearer, point[None, :], who)
    nearest = tl.min(best, 1)
    first = tl.min(tl.where(best == nearest[:, None], who, 0x7FFFFFFF), 1)
    label = tl.load(labels + base + first, mask=asked & (first != 0x7FFFFFFF), other=unlabeled)
    tl.store(out + row, label, mask=asked)
