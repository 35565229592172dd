# SPDX-License-Identifier: Apache-2.0
"""Sum, mean and maximum of the rows that share an index.

The ``.._into`` functions never wait for the device: with tensors of fixed capacity they can be captured in a CUDA
graph. Rows whose index is out of range (such as -1, for rows beyond those in use) are left out and raise a flag.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch, raised

ELEMENTS = 1024
"""Elements of ``values`` that one program handles."""


def scatter_sum_into(
    values: Tensor, index: Tensor, out: Tensor, flag: Tensor, count: Tensor | None = None
) -> None:
    """Add the rows of ``values`` to those of ``out``; the order of the additions is not fixed.

    Args:
        values: (N, C) float32 or float64, any strides.
        index: (N,) int64.
        out: (M, C) of the dtype of ``values``, contiguous, zero at first.
        flag: (1,) int32, becomes 1 where an index is out of range.
        count: (M,) int32, zero at first, receives how many rows each index had.
    """
    grid, blocks = _blocks(values)
    counted = flag if count is None else count
    sizes = (len(values), len(out), values.shape[1])
    strides = (*values.stride(), *index.stride())
    launch(_sum, grid, values, index, out, counted, flag, *sizes, *strides, count is not None, *blocks)


def scatter_winner_into(values: Tensor, index: Tensor, best: Tensor, winner: Tensor, flag: Tensor) -> None:
    """Find the first row that reached the maximum of each index and column; NaN is above any number.

    Args:
        values, index, flag: as ``scatter_sum_into``.
        best: (M, C) integer as wide as ``values``, for use within.
        winner: (M, C) int64, receives the row, or N where there is none.
    """
    best.fill_(torch.iinfo(best.dtype).min)
    winner.fill_(len(values))
    grid, blocks = _blocks(values)
    sizes = (len(values), len(best), values.shape[1])
    strides = (*values.stride(), *index.stride())
    launch(_best, grid, values, index, best, flag, *sizes, *strides, *blocks)
    launch(_winner, grid, values, index, best, winner, *sizes, *strides, *blocks)


def add_up(values: Tensor, index: Tensor, n_rows: int, mean: bool) -> Tensor:
    """Do what ``ops.scatter_sum`` and ``ops.scatter_mean`` document, by kernel."""
    return _Sum.apply(values, index, n_rows, mean)


def maximum(values: Tensor, index: Tensor, n_rows: int) -> Tensor:
    """Do what ``ops.scatter_max`` documents: kernels find the winners, torch gathers them, with gradient."""
    if not len(values):
        return values.new_zeros(n_rows, values.shape[1])
    wide = values.dtype == torch.float64
    winner = torch.empty(n_rows, values.shape[1], dtype=torch.int64, device=values.device)
    best = torch.empty_like(winner, dtype=torch.int64 if wide else torch.int32)
    flag = torch.zeros(1, dtype=torch.int32, device=values.device)
    scatter_winner_into(values.detach(), index, best, winner, flag)
    _refuse(flag, n_rows)
    found = winner < len(values)
    return torch.where(found, values.gather(0, winner.clamp_(max=len(values) - 1)), 0)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, n_rows: int, mean: bool) -> Tensor:
        out = values.new_zeros(n_rows, values.shape[1])
        flag = torch.zeros(1, dtype=torch.int32, device=values.device)
        count = torch.zeros(n_rows, dtype=torch.int32, device=values.device) if mean else None
        scatter_sum_into(values.detach(), index, out, flag, count)
        _refuse(flag, n_rows)
        share = None if count is None else count.clamp_(min=1)[:, None].to(values.dtype)
        ctx.save_for_backward(index, share)
        return out if share is None else out.div_(share)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        index, share = ctx.saved_tensors
        grad = grads[0] if share is None else grads[0] / share
        return grad[index], None, None, None


def _refuse(flag: Tensor, n_rows: int) -> None:
    if raised(flag):
        raise ValueError(f"an index is outside 0 .. {n_rows - 1}")


def _blocks(values: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the grid over rows and columns of ``values`` and the block of each program."""
    n, width = values.shape
    columns = min(triton.next_power_of_2(max(width, 1)), 64)
    rows = ELEMENTS // columns
    return (triton.cdiv(n, rows), triton.cdiv(width, columns)), (rows, columns)


@triton.jit
def _tile(index, n, n_rows, width, stride_i, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows and columns of this program, where the rows go, and which of them go anywhere."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    to = tl.load(index + row * stride_i, mask=row < n, other=0)
    inside = (to >= 0) & (to < n_rows)
    return row, column, to, inside


@triton.jit(do_not_specialize=["n", "n_rows"])
def _sum(
    values, index, out, count, flag, n, n_rows, width, stride_n, stride_c, stride_i,
    COUNT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column, to, inside = _tile(index, n, n_rows, width, stride_i, ROWS, COLUMNS)
    tl.store(flag + tl.zeros_like(to), 1, mask=(row < n) & ~inside)
    rows = (row < n) & inside
    mask = rows[:, None] & (column < width)[None, :]
    v = tl.load(values + row[:, None] * stride_n + column[None, :] * stride_c, mask=mask, other=0.0)
    tl.atomic_add(out + to[:, None] * width + column[None, :], v, mask=mask, sem="relaxed")
    if COUNT:
        tl.atomic_add(count + to, 1, mask=rows & (tl.program_id(1) == 0), sem="relaxed")


@triton.jit
def _ordered(v):
    """Return integers in the order of the floats: -0 beside 0, every NaN at the top."""
    v = tl.where(v == 0, 0.0, v)
    if v.dtype == tl.float64:
        bits = v.to(tl.int64, bitcast=True)
        key = tl.where(v != v, 0x7FFFFFFFFFFFFFFF, bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF))
    else:
        bits = v.to(tl.int32, bitcast=True)
        key = tl.where(v != v, 0x7FFFFFFF, bits ^ ((bits >> 31) & 0x7FFFFFFF))
    return key


@triton.jit(do_not_specialize=["n", "n_rows"])
def _best(
    values, index, best, flag, n, n_rows, width, stride_n, stride_c, stride_i,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column, to, inside = _tile(index, n, n_rows, width, stride_i, ROWS, COLUMNS)
    tl.store(flag + tl.zeros_like(to), 1, mask=(row < n) & ~inside)
    mask = ((row < n) & inside)[:, None] & (column < width)[None, :]
    v = tl.load(values + row[:, None] * stride_n + column[None, :] * stride_c, mask=mask, other=0.0)
    tl.atomic_max(best + to[:, None] * width + column[None, :], _ordered(v), mask=mask, sem="relaxed")


@triton.jit(do_not_specialize=["n", "n_rows"])
def _winner(
    values, index, best, winner, n, n_rows, width, stride_n, stride_c, stride_i,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column, to, inside = _tile(index, n, n_rows, width, stride_i, ROWS, COLUMNS)
    mask = ((row < n) & inside)[:, None] & (column < width)[None, :]
    v = tl.load(values + row[:, None] * stride_n + column[None, :] * stride_c, mask=mask, other=0.0)
    place = to[:, None] * width + column[None, :]
    reached = mask & (_ordered(v) == tl.load(best + place, mask=mask, other=0))
    tl.atomic_min(winner + place, row[:, None] + tl.zeros_like(place), mask=reached, sem="relaxed")
