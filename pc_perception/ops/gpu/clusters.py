# SPDX-License-Identifier: Apache-2.0
"""Connected components of points in Triton: a union-find that all pairs in reach work on at once.

The parent of a point only ever becomes lower, by an atomic minimum; a link that this overwrites is joined anew
(as in Komura, "GPU-based cluster-labeling algorithm without the use of conventional iteration", 2015). Hence
one launch joins everything, whatever the length of the chains, and no flag is read back on the host.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

TILE = 64


def components(points: Tensor, limit: float, parent: Tensor) -> None:
    """Write the lowest index of each point's component, of the graph that joins points in reach.

    Args:
        points: (N, 3) float32, contiguous, finite, metres.
        limit: largest squared distance of joined points, a float32.
        parent: (N,) int64, contiguous.

    O(N^2), by tiles. No gradient.
    """
    n = len(points)
    if n:
        tiles = triton.cdiv(n, TILE)
        launch(_alone, (tiles,), parent, n, TILE)
        launch(_join, (tiles, tiles), points, parent, n, limit, TILE, num_warps=4, enable_fp_fusion=False)
        launch(_flatten, (tiles,), parent, n, TILE)


@triton.jit
def _alone(parent, n, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(parent + row, row.to(tl.int64), mask=row < n)


@triton.jit
def _root(parent, row, inside):  # type: ignore[no-untyped-def]
    root = tl.load(parent + row, mask=inside, other=0)
    above = tl.load(parent + root, mask=inside, other=0)
    while tl.max((above != root).to(tl.int32), 0) > 0:
        root = above
        above = tl.load(parent + root, mask=inside, other=0)
    return root


@triton.jit
def _points(points, row, inside):  # type: ignore[no-untyped-def]
    x = tl.load(points + 3 * row, mask=inside, other=0.0)
    y = tl.load(points + 3 * row + 1, mask=inside, other=0.0)
    z = tl.load(points + 3 * row + 2, mask=inside, other=0.0)
    return x, y, z


@triton.jit
def _join(points, parent, n, limit, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    j = tl.program_id(1).to(tl.int64) * TILE + tl.arange(0, TILE)
    if tl.program_id(1) <= tl.program_id(0):  # the other half are the same pairs
        x, y, z = _points(points, i, i < n)
        u, v, w = _points(points, j, j < n)
        dx, dy, dz = x[:, None] - u[None, :], y[:, None] - v[None, :], z[:, None] - w[None, :]
        near = (dx * dx + dy * dy + dz * dz <= limit) & (i < n)[:, None] & (j < n)[None, :]
        if tl.max(tl.max(near.to(tl.int32), 1), 0) > 0:
            # A root read too early is still connected: those that agree need no joining.
            a = tl.broadcast_to(_root(parent, i, i < n)[:, None], [TILE, TILE])
            b = tl.broadcast_to(_root(parent, j, j < n)[None, :], [TILE, TILE])
            apart = near & (a != b)
            while tl.max(tl.max(apart.to(tl.int32), 1), 0) > 0:
                high, low = tl.maximum(a, b), tl.minimum(a, b)
                old = tl.atomic_min(parent + high, low, mask=apart, sem="relaxed")
                apart = apart & (old != high) & (old != low)  # else it had another parent: join that
                a, b = tl.where(apart, old, a), tl.where(apart, low, b)


@triton.jit
def _flatten(parent, n, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    # Other programs may shorten the same chains meanwhile: they lead to the same root.
    tl.store(parent + row, _root(parent, row, row < n), mask=row < n)
