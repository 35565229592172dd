# SPDX-License-Identifier: Apache-2.0
"""Exact nearest neighbours and ball queries in three dimensions; see ``neighbor_search`` for the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backend import resolve
from .packed import Packed, check_out, numbers_on, pack
from .parallel import run_blocks, team

CHUNK = 4_000_000
"""Distances that the reference holds at a time."""
MANY_NEIGHBORS = 64
"""More than these are not worth ranking against each other in a small cloud."""

PIECES = 8
"""Blocks of queries a thread: where points crowd, a search takes longer."""


def k_nearest(
    points: Tensor,
    k: int,
    queries: Tensor | None = None,
    offsets: Tensor | Sequence[int] | None = None,
    query_offsets: Tensor | Sequence[int] | None = None,
    *,
    backend: str | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the k points nearest to each query, nearest first, ties by lowest index.

    Args:
        points: (N, 3) or dense (B, N, 3) float, finite, metres; any strides.
        k: neighbours per query, >= 1.
        queries: (Q, 3) or dense (B, Q, 3); None: the points themselves, each then among its own neighbours
            (not always first: a duplicate with a lower index precedes it).
        offsets: (B + 1,) rows where the scenes of packed points start and end; None: one scene.
        query_offsets: the same for packed queries.
        backend: ``torch``, ``numba``, ``triton`` or None for the choice by device. float64 is searched by the
            reference, and so is what Triton has no kernel for (``gpu.neighbors.LARGEST_K``).
        out: takes index and distance if given.

    Returns:
        index, (Q, k) or (B, Q, k) int64: rows of packed points, indices within the scene for dense ones;
        -1 where the scene holds fewer than k points.
        distance, the same shape, float32 (float64 for float64 points), metres; inf where there is none.
        All backends give identical indices. No gradient: compute distances to ``points[index]`` if one is
        needed. O(Q N log N) for the reference; about O((N + Q k) log N) otherwise, however points crowd.

    Raises:
        ValueError: non-finite points or queries, k < 1, scenes of the two that do not pair up.
    """
    return _search(points, queries, offsets, query_offsets, k, np.inf, False, backend, out)


def ball_query(
    points: Tensor,
    radius: float,
    k: int,
    queries: Tensor | None = None,
    offsets: Tensor | Sequence[int] | None = None,
    query_offsets: Tensor | Sequence[int] | None = None,
    *,
    by_index: bool = False,
    fill_first: bool = False,
    backend: str | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Find at most k points closer than ``radius`` to each query; arguments and results as ``k_nearest``.

    Args:
        radius: metres; a point at exactly this distance (squared, in float32) is outside, as in pointnet2_ops.
        by_index: take the k points of lowest index in ascending order, as pointnet2_ops does, instead of
            the k nearest.
        fill_first: repeat the first found in place of -1, as pointnet2_ops does. A query that finds nothing
            keeps -1 (pointnet2_ops returns point 0 there).
        backend: also ``pointnet2``: that package, on CUDA, for dense float32 points ``by_index``.

    Raises:
        ValueError: as ``k_nearest``, or a radius that is not positive.
    """
    if not radius > 0:
        raise ValueError(f"the radius must be positive, got {radius}")
    index, distance = _search(
        points, queries, offsets, query_offsets, k, float(radius), by_index, backend, out
    )
    if fill_first and k > 1:
        missing = index < 0
        index.copy_(torch.where(missing, index[..., :1], index))
        distance.copy_(torch.where(missing, distance[..., :1], distance))
    return index, distance


def _search(  # type: ignore[no-untyped-def]
    points, queries, offsets, query_offsets, k, radius, by_index, backend, out
) -> tuple[Tensor, Tensor]:
    p = pack(points, offsets)
    q = p if queries is None else pack(queries, query_offsets, "queries")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if len(p) != len(q) or p.dense != q.dense:
        raise ValueError(f"{len(p)} scenes of points but {len(q)} of queries, or only one of them dense")
    if p.xyz.dtype != q.xyz.dtype or p.xyz.device != q.xyz.device:
        raise ValueError(
            f"points are {p.xyz.dtype} on {p.xyz.device}, queries {q.xyz.dtype} on {q.xyz.device}"
        )
    shape = (*(points if queries is None else queries).shape[:-1], k)
    given = out or (None, None)
    index = check_out(given[0], shape, torch.int64, points.device)
    distance = check_out(given[1], shape, p.xyz.dtype, points.device)
    flat_index, flat_distance = index.view(-1, k), distance.view(-1, k)
    kernel = resolve(points.device, backend, "pointnet2" if by_index else None)
    if kernel == "pointnet2":
        if not p.dense or p.xyz.dtype != torch.float32:
            raise ValueError("pointnet2_ops searches dense float32 points")
        from .pointnet2_adapter import balls

        found = balls(points, points if queries is None else queries, radius, k)
        return index.copy_(found[0]), distance.copy_(found[1])
    if p.xyz.dtype != torch.float32:
        kernel = "torch"
    if kernel == "triton" and _search_triton(p, q, radius, by_index, flat_index, flat_distance):
        return index, distance
    scenes = list(range(len(p)))
    if kernel == "numba" and not by_index and k <= MANY_NEIGHBORS:
        scenes = _search_small(p, q, radius, flat_index, flat_distance)
    find = _scene_numba if kernel == "numba" else _scene_torch

    def work(begin: int, end: int) -> None:
        for b in scenes[begin:end]:
            rows = slice(q.starts[b], q.starts[b + 1])
            find(p, q, b, radius, by_index, flat_index[rows], flat_distance[rows])

    with team():
        run_blocks(work, len(scenes), least_rows=1)
    return index, distance


def _search_small(p: Packed, q: Packed, radius: float, index: Tensor, distance: Tensor) -> list[int]:
    """Search the small scenes, all in one go; return the others."""
    from .small_clouds import FEW, search_few

    starts, query_starts = np.array(p.starts, np.int64), np.array(q.starts, np.int64)
    large = np.flatnonzero(np.diff(starts) > FEW).tolist()
    if len(large) < len(p):
        squared: Any = np.float32(p.xyz.new_tensor(radius).square().item())
        arrays = p.xyz.numpy(), starts, q.xyz.numpy(), query_starts
        out = index.numpy(), distance.numpy()
        with team():
            run_blocks(lambda a, b: search_few(*arrays, a, b, squared, p.dense, *out), len(index))
    return large


def _search_triton(
    p: Packed, q: Packed, radius: float, by_index: bool, index: Tensor, distance: Tensor
) -> bool:
    """Search all scenes at once; say no where k or the scenes are too many for the kernels."""
    from .gpu.neighbors import search, searchable

    most, most_points = (int(max(np.diff(t.starts), default=0)) for t in (q, p))
    if not searchable(len(p), most_points, index.shape[1]):
        return False
    starts, query_starts = (numbers_on(index.device, t.starts) for t in (p, q))
    squared = torch.tensor(radius, dtype=torch.float32).square().item()  # on the host: no waiting for the GPU
    search(
        p.xyz, starts, most_points, q.xyz, query_starts, most, squared, by_index, not p.dense, index, distance
    )
    return True


def _scene_numba(
    p: Packed, q: Packed, b: int, radius: float, by_index: bool, index: Tensor, distance: Tensor
) -> None:
    from . import neighbor_search

    xyz, queries = p.scene(b).numpy(), q.scene(b).numpy()
    base = 0 if p.dense else p.starts[b]
    index_rows, distance_rows = index.numpy(), distance.numpy()
    if len(xyz) == 0:
        index_rows.fill(-1)
        distance_rows.fill(np.inf)
        return
    squared: Any = np.float32(p.xyz.new_tensor(radius).square().item())
    tree = neighbor_search.build(xyz, neighbor_search.BUCKET)
    order = tree[0] if q is p else neighbor_search.z_sorted(queries, neighbor_search.BUCKET)

    def work(start: int, stop: int) -> None:
        part = order[start:stop]
        neighbor_search.search(tree, queries, part, squared, by_index, base, index_rows, distance_rows)

    run_blocks(work, len(queries), pieces=PIECES)


def _scene_torch(
    p: Packed, q: Packed, b: int, radius: float, by_index: bool, index: Tensor, distance: Tensor
) -> None:
    xyz, k = p.scene(b), index.shape[1]
    found = min(k, len(xyz))
    index.fill_(-1)
    distance.fill_(torch.inf)
    base = 0 if p.dense else p.starts[b]
    rows_at_once = max(1, CHUNK // max(len(xyz), 1))
    limit = xyz.new_tensor(radius).square()
    for start in range(0, len(index) if found else 0, rows_at_once):
        rows = slice(start, min(start + rows_at_once, len(index)))
        dx, dy, dz = (q.scene(b)[rows, None] - xyz).unbind(-1)
        squared = dx * dx + dy * dy + dz * dz  # summed in this order on every backend
        squared = torch.where(squared < limit, squared, torch.inf)
        key = squared.isinf() if by_index else squared
        order = torch.sort(key.to(squared.dtype), dim=1, stable=True).indices[:, :found]
        nearest = squared.gather(1, order)
        index[rows, :found] = torch.where(nearest.isinf(), -1, order + base)
        distance[rows, :found] = nearest.sqrt()
