# SPDX-License-Identifier: Apache-2.0
"""A whole residual neighbourhood block on the CPU, for inference: few passes over memory, rows shared among threads.

Torch's operations each read and write every row once; on a live scene that, not the arithmetic, is most of the
time. Here only the four matrix products are torch's. What lies between two of them is one kernel, which also rounds
to the dtype in which the next one multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional

from .grouping import Neighborhood
from .parallel import run_blocks


@dataclass(frozen=True)
class Affine:
    """Weight (C_out, C_in) and bias (C_out,) or None of a linear layer, float32 or rounded to bfloat16."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, rows: Tensor) -> Tensor:
        """Map (N, C_in) to (N, C_out), both of the weight's dtype."""
        return functional.linear(rows, self.weight, self.bias)


@dataclass(frozen=True)
class BlockWeights:
    """The parameters of ``models.layers.NeighborhoodBlock``; norms as (weight, bias) (C,) float32 arrays."""

    edge_norm: tuple[np.ndarray, np.ndarray]
    mlp_norm: tuple[np.ndarray, np.ndarray]
    position: np.ndarray
    edge: Affine
    mix: Affine
    widen: Affine
    narrow: Affine


def neighborhood_block(x: Tensor, position: Tensor, neighborhood: Neighborhood, w: BlockWeights) -> Tensor:
    """Compute ``NeighborhoodBlock.forward`` without a gradient.

    Args:
        x: (T, C) float32, contiguous.
        position: (T, 3) float32, in units of the level's voxel edge.
        neighborhood: lists over the T rows, each holding at least one.
        w: the block's parameters; with bfloat16 weights, factors of the four products are rounded to bfloat16.

    Returns:
        (T, C) float32, new. O(T C^2 + E C).
    """
    n, width = x.shape
    source, place = x.numpy(), position.contiguous().numpy()
    starts, index = neighborhood.starts.numpy(), neighborhood.index.numpy()
    offered, out = torch.empty_like(x), torch.empty_like(x)

    def offer(a: int, b: int) -> None:
        rows = padded(b - a, width, w.edge.weight.dtype)
        _norm(source[a:b], *w.edge_norm, *_targets(rows))
        edge = w.edge(rows)
        _add_position(*_sources(edge), place[a:b], w.position, offered.numpy()[a:b])

    def update(a: int, b: int) -> None:
        rows = padded(b - a, width, w.mix.weight.dtype)
        _strongest(offered.numpy(), starts[a : b + 1], index, place[a:b], w.position, *_targets(rows))
        mixed = w.mix(rows)
        _add_and_norm(source[a:b], *_sources(mixed), *w.mlp_norm, out.numpy()[a:b], *_targets(rows))
        _add(*_sources(w.narrow(w.widen(rows).relu_())), out.numpy()[a:b])

    run_blocks(offer, n)
    run_blocks(update, n)
    return out


def padded(n: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return at least ``n`` rows for a product, not initialised: one of eight counts an octave.

    oneDNN compiles a kernel for every new count of rows, which takes longer than the product itself.
    """
    step = 1 << max(n.bit_length() - 4, 4)
    return torch.empty(-(-n // step) * step, width, dtype=dtype)


_NO_FLOAT, _NO_BITS = np.empty((0, 0), np.float32), np.empty((0, 0), np.uint16)


def _targets(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The rows as float32 or as bits of bfloat16, the other one empty: Numba knows no bfloat16."""
    if rows.dtype == torch.bfloat16:
        return _NO_FLOAT, rows.view(torch.int16).numpy().view(np.uint16)
    return rows.numpy(), _NO_BITS


_sources = _targets


@njit(inline="always")
def _round(row: np.ndarray, bits: np.ndarray, out: np.ndarray) -> None:
    """Round a float32 row, seen through ``bits`` (uint32), to the nearest bfloat16, ties to even."""
    for c in range(len(row)):
        out[c] = np.uint16(
            (bits[c] + np.uint32(0x7FFF) + ((bits[c] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        )


@njit(inline="always")
def _widen(values: np.ndarray, bits: np.ndarray) -> None:
    """Write a row of bfloat16 as float32, the target seen through ``bits`` (uint32)."""
    for c in range(len(values)):
        bits[c] = np.uint32(values[c]) << np.uint32(16)


@njit(inline="always")
def _normalize(row: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    n = np.float32(len(row))
    mean, square = np.float32(0), np.float32(0)
    for c in range(len(row)):
        mean += row[c]
    mean /= n
    for c in range(len(row)):
        d = row[c] - mean
        square += d * d
    scale = np.float32(1) / np.sqrt(square / n + np.float32(1e-5))
    for c in range(len(row)):
        out[c] = (row[c] - mean) * scale * weight[c] + bias[c]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _norm(x, weight, bias, wide, low):  # type: ignore[no-untyped-def]
    row = np.empty(x.shape[1], np.float32)
    bits = row.view(np.uint32)
    for i in range(len(x)):
        if len(low):
            _normalize(x[i], weight, bias, row)
            _round(row, bits, low[i])
        else:
            _normalize(x[i], weight, bias, wide[i])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _add_position(wide, low, place, matrix, out):  # type: ignore[no-untyped-def]
    """Write edge + P p; ``matrix`` is P transposed, (3, C)."""
    edge = np.empty(out.shape[1], np.float32)
    bits = edge.view(np.uint32)
    a, b, c_ = matrix[0], matrix[1], matrix[2]
    for i in range(len(out)):
        row, x, y, z = out[i], place[i, 0], place[i, 1], place[i, 2]
        if len(low):
            _widen(low[i], bits)
            for c in range(len(row)):
                row[c] = edge[c] + (x * a[c] + y * b[c] + z * c_[c])
        else:
            offer = wide[i]
            for c in range(len(row)):
                row[c] = offer[c] + (x * a[c] + y * b[c] + z * c_[c])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _strongest(offered, starts, index, place, matrix, wide, low):  # type: ignore[no-untyped-def]
    """Write max(0, max over the neighbours of what they offer - P p)."""
    row = np.empty(offered.shape[1], np.float32)
    bits = row.view(np.uint32)
    for i in range(len(starts) - 1):
        first = offered[index[starts[i]]]
        for c in range(len(row)):
            row[c] = first[c]
        for e in range(starts[i] + 1, starts[i + 1]):
            other = offered[index[e]]
            for c in range(len(row)):
                row[c] = other[c] if other[c] > row[c] else row[c]
        x, y, z = place[i, 0], place[i, 1], place[i, 2]
        a, b, c_ = matrix[0], matrix[1], matrix[2]
        for c in range(len(row)):
            row[c] = max(row[c] - (x * a[c] + y * b[c] + z * c_[c]), np.float32(0))
        if len(low):
            _round(row, bits, low[i])
        else:
            wide[i] = row


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _add_and_norm(x, wide_in, low_in, weight, bias, out, wide, low):  # type: ignore[no-untyped-def]
    """Write x + what was mixed to ``out``, and its norm for the next product."""
    row, total = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
    bits, total_bits = row.view(np.uint32), total.view(np.uint32)
    for i in range(len(x)):
        before, after = x[i], out[i]
        if len(low):
            _widen(low_in[i], total_bits)
        else:
            total[:] = wide_in[i]
        for c in range(len(row)):
            total[c] += before[c]
        for c in range(len(row)):
            after[c] = total[c]
        if len(low):
            _normalize(total, weight, bias, row)
            _round(row, bits, low[i])
        else:
            _normalize(total, weight, bias, wide[i])


@njit(cache=True, nogil=True)
def _add(wide, low, out):  # type: ignore[no-untyped-def]
    row = np.empty(out.shape[1], np.float32)
    bits = row.view(np.uint32)
    for i in range(len(out)):
        total = out[i]
        if len(low):
            _widen(low[i], bits)
            for c in range(len(row)):
                total[c] += row[c]
        else:
            total += wide[i]
