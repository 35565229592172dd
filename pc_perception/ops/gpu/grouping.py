# SPDX-License-Identifier: Apache-2.0
"""Neighbour lists of voxels and the maximum over them."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .kernel_maps import neighbors_into
from .launch import launch

BLOCK = 256
ELEMENTS = 512
"""Elements of a result that one program of ``neighbor_max`` handles."""


def count_into(table: Tensor, starts: Tensor) -> None:
    """Write where the list of each column of ``table`` begins: the first half of ``lists_into``."""
    m = table.shape[1]
    counts = torch.empty(m + 1, dtype=torch.int32, device=table.device)
    launch(_lengths, (triton.cdiv(m + 1, BLOCK),), table, counts, m, len(table), BLOCK)
    torch.cumsum(counts, 0, out=starts)


def lists_into(table: Tensor, starts: Tensor, index: Tensor) -> None:
    """List the entries of a (K, M) int32 table column by column; never waits for the device.

    Args:
        table: contiguous, -1 where there is no entry (``kernel_maps.neighbors_into``).
        starts: (M + 1,) int64, receives where the list of each column begins.
        index: (capacity,) int64, receives the lists; entries beyond are left out: compare ``starts[-1]`` with the
            capacity when it is read.
    """
    count_into(table, starts)
    _fill_lists(table, starts, index)


def _fill_lists(table: Tensor, starts: Tensor, index: Tensor) -> None:
    grid = (triton.cdiv(table.shape[1], BLOCK),)
    launch(_lists, grid, table, starts, index, table.shape[1], len(index), len(table), BLOCK)


def voxel_neighbors(coords: Tensor) -> tuple[Tensor, Tensor]:
    """Return starts and index of ``ops.voxel_neighbors``."""
    table = torch.empty(27, len(coords), dtype=torch.int32, device=coords.device)
    flag = torch.zeros(1, dtype=torch.int64, device=coords.device)
    edges = torch.full((2,), len(coords), dtype=torch.int64, device=coords.device)
    edges[:1].zero_()
    neighbors_into(coords, edges, table, flag)
    starts = torch.empty(len(coords) + 1, dtype=torch.int64, device=coords.device)
    count_into(table, starts)
    index = torch.empty(int(starts[-1]), dtype=torch.int64, device=coords.device)
    _fill_lists(table, starts, index)
    return starts, index


def neighbor_max_into(
    features: Tensor, starts: Tensor, index: Tensor, out: Tensor, winner: Tensor | None = None
) -> None:
    """Take the maximum over each list; never waits for the device.

    Args:
        features: (N, C) float, any strides; NaN counts as greater than any number.
        starts, index: as ``Neighborhood``; for rows beyond those in use repeat the last start.
        out: (M, C), contiguous, of the dtype of ``features``; -inf for an empty list.
        winner: (M, C) int32, contiguous, receives the first row that reached the maximum, -1 for an empty list.
    """
    grid, blocks = _blocks(out)
    kept = out if winner is None else winner
    sizes = (len(out), out.shape[1])
    launch(
        _max,
        grid,
        features,
        starts,
        index,
        out,
        kept,
        *sizes,
        *features.stride(),
        winner is not None,
        *blocks,
    )


def neighbor_max(features: Tensor, starts: Tensor, index: Tensor) -> Tensor:
    """Do what ``ops.neighbor_max`` documents, by kernel."""
    return _NeighborMax.apply(features, starts.contiguous(), index.contiguous())


class _NeighborMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, starts: Tensor, index: Tensor) -> Tensor:
        out = features.new_empty(len(starts) - 1, features.shape[1])
        winner = torch.empty_like(out, dtype=torch.int32) if features.requires_grad else None
        neighbor_max_into(features.detach(), starts, index, out, winner)
        ctx.winner, ctx.n_rows = winner, len(features)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grad = grads[0].contiguous()
        wide = torch.float64 if grad.dtype == torch.float64 else torch.float32
        total = torch.zeros(ctx.n_rows, grad.shape[1], dtype=wide, device=grad.device)
        grid, blocks = _blocks(grad)
        launch(_max_backward, grid, grad, ctx.winner, total, *grad.shape, *blocks)
        return total.to(grad.dtype), None, None


def _blocks(out: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    columns = min(triton.next_power_of_2(max(out.shape[1], 1)), 128)
    rows = ELEMENTS // columns
    return (triton.cdiv(len(out), rows), triton.cdiv(out.shape[1], columns)), (rows, columns)


@triton.jit(do_not_specialize=["m"])
def _lengths(table, counts, m, K: tl.constexpr, BLOCK: tl.constexpr):
    """Write 0, then the entries of each column: what sums up to where the lists begin."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    column = place - 1
    inside = (column >= 0) & (column < m)
    length = tl.zeros((BLOCK,), tl.int32)
    for k in range(K):
        length += (tl.load(table + k * m + column, inside, -1) >= 0).to(tl.int32)
    tl.store(counts + place, length, place <= m)


@triton.jit(do_not_specialize=["m", "capacity"])
def _lists(table, starts, index, m, capacity, K: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(starts + row, mask=row < m, other=0)
    for k in range(K):
        entry = tl.load(table + row + k * m, mask=row < m, other=-1)
        there = entry >= 0
        tl.store(index + place, entry.to(tl.int64), mask=there & (place < capacity))
        place += there.to(tl.int64)


@triton.jit(do_not_specialize=["m"])
def _max(
    features, starts, index, out, winner, m, width, stride_n, stride_c,
    KEEP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    # Rows as a column and columns as a row from the beginning: from vectors that are expanded in the loop, Triton 3.6
    # makes a load whose mask and addresses disagree in layout, and fails.
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    first = tl.load(starts + row, mask=row < m, other=0)
    length = tl.load(starts + row + 1, mask=row < m, other=0) - first
    best = tl.full((ROWS, COLUMNS), float("-inf"), features.dtype.element_ty)
    best_row = tl.full((ROWS, COLUMNS), -1, tl.int32)
    for e in range(tl.max(length)):
        there = e < length
        j = tl.load(index + first + e, mask=there, other=0)
        mask = there & (column < width)
        v = tl.load(features + j * stride_n + column * stride_c, mask=mask, other=0.0)
        better = mask & ((v > best) | ((v != v) & (best == best)) | (best_row < 0))
        best = tl.where(better, v, best)
        best_row = tl.where(better, j.to(tl.int32), best_row)
    mask = (row < m) & (column < width)
    place = row * width + column
    tl.store(out + place, best, mask=mask)
    if KEEP:
        tl.store(winner + place, best_row, mask=mask)


@triton.jit(do_not_specialize=["m"])
def _max_backward(grad, winner, total, m, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    mask = (row < m)[:, None] & (column < width)[None, :]
    place = row[:, None] * width + column[None, :]
    to = tl.load(winner + place, mask=mask, other=-1).to(tl.int64)
    g = tl.load(grad + place, mask=mask, other=0.0).to(total.dtype.element_ty)
    tl.atomic_add(total + to * width + column[None, :], g, mask=mask & (to >= 0), sem="relaxed")
