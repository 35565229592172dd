# SPDX-License-Identifier: Apache-2.0
"""A whole residual neighbourhood block on the GPU, for inference: two kernels, each of which takes a tile of rows.

One by one, its operations take less time than to start them. What lies between two reads of other rows stays in
registers here: the first kernel ends where neighbours are needed, the second does everything else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime import driver

from pc_perception.ops.grouping import Neighborhood

from .launch import launch

MOST_CHANNELS = 256
"""With more, the rows of a tile no longer fit in registers."""
TILES = {16: (32, 4, 32), 32: (32, 4, 64), 64: (32, 4, 32), 128: (16, 8, 32), 256: (16, 8, 32)}
"""Channels, padded -> rows of a tile, warps that share it and hidden units that are computed at once.

Compiled for an H100, these leave all but 4 words in registers (in float32 at 256 channels all 255 of a thread's) and
need at most 165 KiB of shared memory. Where there are many channels there are few rows: tiles are small, to be many.
"""
PART = 64
"""Channels of which neighbours are read, and products taken, at once."""


def most_channels(device: torch.device, weights: torch.dtype) -> int:
    """Return how many channels ``device`` has shared memory for: 165 KiB are needed, in bfloat16 74."""
    if device.type != "cuda":
        return MOST_CHANNELS
    there = driver.active.utils.get_device_properties(device.index or 0)["max_shared_mem"]
    if there < 90_000:
        return 32
    return MOST_CHANNELS if weights == torch.bfloat16 or there >= 170_000 else 128


class Weights(NamedTuple):
    """The parameters of ``models.layers.NeighborhoodBlock`` on the device, as its layers hold them, contiguous.

    Norms and ``position`` (C, 3) are float32; the products' factors (``edge`` and ``mix`` (C, C), ``widen`` (H, C),
    ``narrow`` (C, H), each (out, in)) and biases are all float32 or all bfloat16, which their rows are then rounded to.
    """

    edge_norm: Tensor
    edge_norm_bias: Tensor
    edge: Tensor
    position: Tensor
    mix: Tensor
    mix_bias: Tensor
    mlp_norm: Tensor
    mlp_norm_bias: Tensor
    widen: Tensor
    widen_bias: Tensor
    narrow: Tensor
    narrow_bias: Tensor


def neighborhood_block_into(
    x: Tensor,
    position: Tensor,
    starts: Tensor,
    index: Tensor,
    weights: Weights,
    offered: Tensor,
    out: Tensor,
    eps: float = 1e-5,
) -> None:
    """Compute ``NeighborhoodBlock.forward`` without a gradient; can be captured in a CUDA graph.

    Sums, norms and residuals are float32; products of float32 keep its digits (three times TF32).

    Args:
        x: (T, C) float32, contiguous, C <= ``MOST_CHANNELS``.
        position: (T, 3) float32, contiguous, in units of the level's voxel edge.
        starts, index: as ``Neighborhood``, over the T rows; for rows beyond those in use repeat the last start. What
            those rows receive is not defined.
        weights: the block's parameters.
        offered: (T, C) float32, contiguous, receives what each row offers to those that list it.
        out: (T, C) float32, contiguous, none of the above, receives the result. O(T C^2 + E C).
        eps: of both norms.
    """
    n, width = x.shape
    w, columns = weights, max(triton.next_power_of_2(width), 16)  # tensor cores take no less than 16
    rows, warps, units = TILES[columns]
    part, n_tiles = min(columns, PART), triton.cdiv(n, rows)
    under_way = min(2048 * warps // (rows * part), 8)  # neighbours, in 64 registers of a thread
    launch(
        _normed, (n_tiles, triton.cdiv(width, part)),
        x, position, starts, w.edge_norm, w.edge_norm_bias, w.edge, w.position, offered,
        n, eps, width, width, rows, columns, part, True, num_warps=warps,
    )  # fmt: skip
    launch(
        _update, (n_tiles,),
        x, position, starts, index, offered, w.position, w.mix, w.mix_bias, w.mlp_norm, w.mlp_norm_bias,
        w.widen, w.widen_bias, w.narrow, w.narrow_bias, out,
        n, eps, width, len(w.widen), rows, columns, part, units, under_way, num_warps=warps,
    )  # fmt: skip


def neighborhood_block(
    x: Tensor, position: Tensor, lists: Neighborhood, weights: Weights, eps: float = 1e-5
) -> Tensor:
    """Return the (T, C) result of ``neighborhood_block_into``, given x and position of any strides."""
    x = x.contiguous()
    # Rows that are not in use stay as they are: nobody reads them, but the interpreter warns of what they overflow to.
    made = torch.empty_like if x.is_cuda else torch.zeros_like
    offered, out = made(x), made(x)
    where = position.contiguous(), lists.starts.contiguous(), lists.index.contiguous()
    neighborhood_block_into(x, *where, weights, offered, out, eps)
    return out


def norm_linear(
    x: Tensor, norm: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> Tensor:
    """Return a linear layer of layer-normalised rows, without a gradient; can be captured in a CUDA graph.

    Args:
        x: (T, C) float32, contiguous, C <= ``MOST_CHANNELS``.
        norm, norm_bias: (C,) float32.
        weight, bias: (D, C) and (D,), both float32 or both bfloat16, which the rows are then rounded to; contiguous.

    Returns:
        (T, D) float32. O(T C D).
    """
    n, width = x.shape
    columns = max(triton.next_power_of_2(width), 16)
    rows, warps, _ = TILES[columns]
    part, out = min(columns, PART), x.new_empty(n, len(weight))
    launch(
        _normed, (triton.cdiv(n, rows), triton.cdiv(len(weight), part)),
        x, x, weight, norm, norm_bias, weight, bias, out,
        n, eps, width, len(weight), rows, columns, part, False, num_warps=warps,
    )  # fmt: skip
    return out


@triton.jit
def _row(vector, column, inside):
    return tl.load(vector + column, inside, 0.0).to(tl.float32)


@triton.jit
def _moments(rows, inside, eps, WIDTH: tl.constexpr):
    """Mean and reciprocal deviation (R, 1) of rows (R, C) that are 0 outside."""
    mean = tl.sum(rows, 1, keep_dims=True) / WIDTH
    rows = tl.where(inside, rows - mean, 0.0)
    return mean, tl.rsqrt(tl.sum(rows * rows, 1, keep_dims=True) / WIDTH + eps)


@triton.jit
def _scaled(rows, mean, scale, column, inside, weight, bias):
    return (rows - mean) * scale * _row(weight, column, inside) + _row(bias, column, inside)


@triton.jit
def _placed(position, row, there, matrix, column, inside):
    """P p of rows (R, 1) and columns (1, C)."""
    total = tl.load(position + row * 3, there, 0.0) * tl.load(matrix + column * 3, inside, 0.0)
    for axis in tl.static_range(1, 3):
        p = tl.load(position + row * 3 + axis, there, 0.0)
        total += p * tl.load(matrix + column * 3 + axis, inside, 0.0)
    return total


@triton.jit
def _transposed(weight, column, row, n_columns, n_rows):
    """Tile (R, C) of the transpose of a matrix (n_columns, n_rows), for rows (R, 1) and columns (1, C)."""
    return tl.load(weight + column * n_rows + row, (column < n_columns) & (row < n_rows), 0.0)


@triton.jit
def _product(rows, weight, total):
    return tl.dot(rows.to(weight.dtype), weight, total, input_precision="tf32x3")


@triton.jit(do_not_specialize=["n", "eps"])
def _normed(
    x, position, starts, norm_weight, norm_bias, factors, term, out, n, eps,
    WIDTH: tl.constexpr, OUT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PART: tl.constexpr,
    PLACED: tl.constexpr,
):  # fmt: skip
    """A linear layer of normalised rows, with ``term`` for a bias or, PLACED, for the matrix of their positions."""
    begin = tl.program_id(0).to(tl.int64) * ROWS
    if PLACED:  # noqa: SIM102 (a constant, to be decided by itself)
        if tl.load(starts + begin) == tl.load(starts + n):
            return  # no row from here on is in use
    row = begin + tl.arange(0, ROWS)[:, None]
    there = row < n
    every = tl.arange(0, COLUMNS)[None, :]
    rows = tl.load(x + row * WIDTH + every, there & (every < WIDTH), 0.0)
    mean, scale = _moments(rows, every < WIDTH, eps, WIDTH)
    column = tl.program_id(1) * PART + tl.arange(0, PART)[None, :]
    if PLACED:
        total = _placed(position, row, there, term, column, column < OUT)
    else:
        total = _row(term, column, column < OUT) + tl.zeros((ROWS, PART), tl.float32)
    for c in range(0, WIDTH, PART):
        channel = c + tl.arange(0, PART)[None, :]
        inside = channel < WIDTH
        part = tl.load(x + row * WIDTH + channel, there & inside, 0.0)
        part = _scaled(part, mean, scale, channel, inside, norm_weight, norm_bias)
        weight = _transposed(factors, column, c + tl.arange(0, PART)[:, None], OUT, WIDTH)
        total = _product(part, weight, total)
    tl.store(out + row * OUT + column, total, there & (column < OUT))


@triton.jit(do_not_specialize=["n", "eps"])
def _update(
    x, position, starts, index, offered, matrix, mix, mix_bias, norm_weight, norm_bias,
    widen, widen_bias, narrow, narrow_bias, out, n, eps,
    WIDTH: tl.constexpr, HIDDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PART: tl.constexpr,
    UNITS: tl.constexpr, UNDER_WAY: tl.constexpr,
):  # fmt: skip
    begin = tl.program_id(0).to(tl.int64) * ROWS
    if tl.load(starts + begin) == tl.load(starts + n):
        return
    row = begin + tl.arange(0, ROWS)[:, None]
    there = row < n
    first = tl.load(starts + row, there, 0)
    length = tl.load(starts + row + 1, there, 0) - first
    longest = tl.max(length)
    column = tl.arange(0, COLUMNS)[None, :]
    inside = column < WIDTH
    total = _row(mix_bias, column, inside) + tl.zeros((ROWS, COLUMNS), tl.float32)
    for c in range(0, WIDTH, PART):
        channel = c + tl.arange(0, PART)[None, :]
        known = channel < WIDTH
        best = tl.full((ROWS, PART), float("-inf"), tl.float32)
        for e in range(0, longest, UNDER_WAY):
            listed = ()  # all are asked for before the first is waited for
            for k in tl.static_range(UNDER_WAY):
                listed += (tl.load(index + first + e + k, e + k < length, -1),)  # type: ignore[assignment]
            for k in tl.static_range(UNDER_WAY):
                j = listed[k]  # type: ignore[var-annotated]
                v = tl.load(offered + j * WIDTH + channel, (j >= 0) & known, float("-inf"))
                best = tl.maximum(best, v)
        strongest = tl.maximum(best - _placed(position, row, there, matrix, channel, known), 0.0)
        weight = _transposed(mix, column, c + tl.arange(0, PART)[:, None], WIDTH, WIDTH)
        total = _product(strongest, weight, total)
    total += tl.load(x + row * WIDTH + column, there & inside, 0.0)
    mean, scale = _moments(total, inside, eps, WIDTH)
    rows = _scaled(total, mean, scale, column, inside, norm_weight, norm_bias)
    total += _row(narrow_bias, column, inside)
    for h in range(0, HIDDEN, UNITS):
        unit = h + tl.arange(0, UNITS)[None, :]
        hidden = _row(widen_bias, unit, unit < HIDDEN) + tl.zeros((ROWS, UNITS), tl.float32)
        weight = _transposed(widen, unit, tl.arange(0, COLUMNS)[:, None], HIDDEN, WIDTH)
        hidden = _product(rows, weight, hidden)
        weight = _transposed(narrow, column, h + tl.arange(0, UNITS)[:, None], WIDTH, HIDDEN)
        total = _product(tl.maximum(hidden, 0.0), weight, total)
    tl.store(out + row * WIDTH + column, total, there & inside)
