# SPDX-License-Identifier: Apache-2.0
"""A whole residual neighbourhood block on the CPU, for inference: two kernels, rows shared among threads.

Torch's operations each read and write every row once, and take Python in between; on a live scene that, not the
arithmetic, is most of the time. Here some rows go through all of it, four products included, while they are in the
nearest cache. Threads meet once, before a voxel asks what its neighbours offer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .dense_rows import TILE, Packed, multiply, normalize, put, whole
from .grouping import Neighborhood
from .parallel import run_blocks
from .row_maximum import highest


@dataclass(frozen=True)
class BlockWeights:
    """The parameters of ``models.layers.NeighborhoodBlock``; norms as (weight, bias) (C,) float32 arrays."""

    edge_norm: tuple[np.ndarray, np.ndarray]
    mlp_norm: tuple[np.ndarray, np.ndarray]
    position: np.ndarray
    edge: Packed
    mix: Packed
    widen: Packed
    narrow: Packed


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
    offered, out = torch.empty_like(x).numpy(), torch.empty_like(x)
    target = out.numpy()

    def offer(a: int, b: int) -> None:
        room = w.edge.inputs(width), w.edge.outputs()
        _offer(source[a:b], *w.edge_norm, *_layer(w.edge), place[a:b], w.position, *room, offered[a:b])

    def update(a: int, b: int) -> None:
        narrow = w.mix.inputs(width), w.mix.outputs()
        wide = w.narrow.inputs(w.widen.n_out), w.widen.outputs()
        _update(
            source[a:b], offered, starts[a : b + 1], index, place[a:b], w.position, *_layer(w.mix), *w.mlp_norm,
            *_layer(w.widen), *_layer(w.narrow), *narrow, *wide, target[a:b],
        )  # fmt: skip

    run_blocks(offer, n)
    run_blocks(update, n)
    return out


def _layer(layer: Packed) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight, layer.bias


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _offer(x, gain, offset, weight, bias, place, matrix, factors, products, out):  # type: ignore[no-untyped-def]
    """Write W norm(x) + P p; ``matrix`` is P transposed, (3, C)."""
    row = np.empty(x.shape[1], np.float32)
    a, b, c_ = matrix[0], matrix[1], matrix[2]
    for start in range(0, len(x), TILE):
        n = min(TILE, len(x) - start)
        for i in range(n):
            normalize(x[start + i], gain, offset, row)
            put(row, row.view(np.uint32), factors[i])
        multiply(factors, weight, bias, products, whole(n))  # type: ignore[call-arg]
        for i in range(n):
            at, product, own = place[start + i], products[i], out[start + i]
            for c in range(len(own)):
                own[c] = product[c] + (at[0] * a[c] + at[1] * b[c] + at[2] * c_[c])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _update(  # type: ignore[no-untyped-def]
    x, offered, starts, index, place, matrix, mix, mix_bias, gain, offset, widen, widen_bias, narrow, narrow_bias,
    factors, products, wide_factors, wide_products, out,
):  # fmt: skip
    """Write y + MLP(y) for y = x + M max(0, max over the neighbours of what they offer - P p)."""
    row, wide_row = np.empty(x.shape[1], np.float32), np.empty(wide_products.shape[1], np.float32)
    for start in range(0, len(x), TILE):
        n = min(TILE, len(x) - start)
        for i in range(n):
            _strongest(
                offered, index, starts[start + i], starts[start + i + 1], place[start + i], matrix, row
            )
            put(row, row.view(np.uint32), factors[i])
        multiply(factors, mix, mix_bias, products, whole(n))  # type: ignore[call-arg]
        for i in range(n):
            before, after, product = x[start + i], out[start + i], products[i]
            for c in range(len(after)):
                after[c] = before[c] + product[c]
            normalize(after, gain, offset, row)
            put(row, row.view(np.uint32), factors[i])
        multiply(factors, widen, widen_bias, wide_products, whole(n))  # type: ignore[call-arg]
        for i in range(n):
            product = wide_products[i]
            for c in range(len(product)):
                wide_row[c] = max(product[c], np.float32(0))
            put(wide_row[: wide_factors.shape[1]], wide_row.view(np.uint32), wide_factors[i])
        multiply(wide_factors, narrow, narrow_bias, products, whole(n))  # type: ignore[call-arg]
        for i in range(n):
            after, product = out[start + i], products[i]
            for c in range(len(after)):
                after[c] += product[c]


@njit(inline="always")
def _strongest(offered, index, start, end, at, matrix, row):  # type: ignore[no-untyped-def]
    highest(offered, index, start, end, row)
    a, b, c_ = matrix[0], matrix[1], matrix[2]
    for c in range(len(row)):
        row[c] = max(row[c] - (at[0] * a[c] + at[1] * b[c] + at[2] * c_[c]), np.float32(0))
