# SPDX-License-Identifier: Apache-2.0
"""Carry features and labels from some points to others, and gather groups of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from pc_perception.labels import UNLABELED

from .backend import resolve
from .neighbors import ball_query, k_nearest
from .packed import pack
from .parallel import run_blocks, team

NEAREST = 1e-8
"""Added to squared distances, square metres, as PointNet++ does: a query on a point does not divide by 0."""


def three_interpolate(
    points: Tensor,
    features: Tensor,
    queries: Tensor,
    offsets: Tensor | Sequence[int] | None = None,
    query_offsets: Tensor | Sequence[int] | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Interpolate features at the queries from the three nearest points, weighted by 1 / squared distance.

    Qi et al., "PointNet++", 2017, equation 2 with p = 2 and k = 3.

    Args:
        points: (N, 3) float, finite, metres.
        features: (N, C) float; the gradient flows back to them, not to the coordinates.
        queries: (Q, 3).
        offsets, query_offsets: rows where the scenes of packed points and queries start and end.
        backend: ``torch``, ``numba``, ``triton`` or None for the choice by device.

    Returns:
        (Q, C) of the features' dtype. With fewer than three points in a scene, those there are. O(Q C) after
        the search.

    Raises:
        ValueError: as ``k_nearest``, features of another length, or queries in a scene without points.
    """
    if features.ndim != 2 or len(features) != len(points) or points.ndim != 2:
        raise ValueError(
            f"points {tuple(points.shape)} and features {tuple(features.shape)} must pair up by row"
        )
    index, distance = k_nearest(points, 3, queries, offsets, query_offsets, backend=backend)
    if bool((index[:, 0] < 0).any()):
        raise ValueError("some queries lie in a scene without points: nothing to interpolate from")
    weight = 1 / (distance.square() + NEAREST)  # 1 / inf = 0 where there is no third point
    weight = (weight / weight.sum(1, keepdim=True)).to(features.dtype)
    return weighted_sum(features, index.clamp_(min=0), weight, backend)


def weighted_sum(features: Tensor, index: Tensor, weight: Tensor, backend: str | None = None) -> Tensor:
    """Sum ``weight[q, j] * features[index[q, j]]`` over j.

    Args:
        features: (N, C) float; receives a gradient.
        index: (Q, K) int64 in 0 .. N - 1.
        weight: (Q, K) of the features' dtype; receives none on the numba backend.

    Returns:
        (Q, C). The reference holds (Q, K, C). O(Q K C).
    """
    kernel = resolve(features.device, backend)
    if kernel == "numba" and features.dtype in (torch.float32, torch.float64):
        return _WeightedSum.apply(features, index, weight)
    if kernel == "triton" and features.dtype in (torch.float32, torch.float64):
        from .gpu.interpolate import WeightedSum

        return WeightedSum.apply(features, index, weight)
    return (features[index] * weight[..., None]).sum(1)


class _WeightedSum(torch.autograd.Function):
    """The Numba sum with its gradient, float32 or float64 on the CPU; shapes as in ``weighted_sum``."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """Return the (Q, C) sums of (N, C) features and remember where they came from."""
        ctx.save_for_backward(index, weight)
        ctx.n_rows = len(features)
        values, rows = features.detach().contiguous().numpy(), index.contiguous().numpy()
        weights = weight.detach().contiguous().numpy()
        out = np.zeros((len(rows), values.shape[1]), values.dtype)
        with team():
            run_blocks(lambda a, b: _gather(values, rows[a:b], weights[a:b], out[a:b]), len(out))
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Spread (Q, C) gradients over the rows that were summed: (N, C) for the features alone."""
        index, weight = ctx.saved_tensors
        grad = grads[0].contiguous().numpy()
        out = np.zeros((ctx.n_rows, grad.shape[1]), grad.dtype)
        _scatter(grad, index.contiguous().numpy(), weight.detach().contiguous().numpy(), out)
        return torch.from_numpy(out), None, None


@njit(cache=True, nogil=True)
def _gather(values: np.ndarray, index: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    for q in range(len(index)):
        total = out[q]
        for j in range(index.shape[1]):
            row, w = values[index[q, j]], weight[q, j]
            for c in range(len(total)):
                total[c] += w * row[c]


@njit(cache=True, nogil=True)
def _scatter(grad: np.ndarray, index: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    for q in range(len(index)):
        for j in range(index.shape[1]):
            row, w = out[index[q, j]], weight[q, j]
            for c in range(len(row)):
                row[c] += w * grad[q, c]


def propagate_labels(
    points: Tensor,
    labels: Tensor,
    queries: Tensor,
    radius: float,
    offsets: Tensor | Sequence[int] | None = None,
    query_offsets: Tensor | Sequence[int] | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Give each query the label of the nearest labelled point closer than ``radius``, else ``UNLABELED``.

    Where queries are the points a voxelisation was made from, ``labels[voxels.inverse]`` does it without a
    search.

    Args:
        points: (N, 3) float, finite, metres.
        labels: (N,) integer or uint16; points with ``UNLABELED`` are not asked.
        queries: (Q, 3).
        radius: metres.
        offsets, query_offsets: rows where the scenes of packed points and queries start and end.

    Returns:
        (Q,) of the labels' dtype; ties go to the lowest index. O((N + Q) log N). No gradient.

    Raises:
        ValueError: as ``ball_query``, or labels of another length.
    """
    if labels.shape != points.shape[:1]:
        raise ValueError(f"points {tuple(points.shape)} need one label each, got {tuple(labels.shape)}")
    wide = labels.to(torch.int64)
    if resolve(points.device, backend) == "triton" and points.dtype == queries.dtype == torch.float32:
        return _propagate_triton(points, wide, queries, radius, offsets, query_offsets).to(labels.dtype)
    asked = wide != UNLABELED
    kept = torch.nonzero(asked)[:, 0]
    if offsets is not None:
        before = torch.cat([asked.new_zeros(1, dtype=torch.int64), asked.cumsum(0)])
        offsets = before[torch.as_tensor(offsets, device=before.device)]
    index, _ = ball_query(points[kept], radius, 1, queries, offsets, query_offsets, backend=backend)
    padded = torch.cat([wide[kept], wide.new_full((1,), UNLABELED)])  # index -1 reads the last
    return padded[index[:, 0]].to(labels.dtype)


def _propagate_triton(  # type: ignore[no-untyped-def]
    points, labels, queries, radius, offsets, query_offsets
) -> Tensor:
    from .gpu.interpolate import nearest_labels

    if not radius > 0:
        raise ValueError(f"the radius must be positive, got {radius}")
    p, q = pack(points, offsets), pack(queries, query_offsets, "queries")
    if len(p) != len(q):
        raise ValueError(f"{len(p)} scenes of points but {len(q)} of queries")
    out = torch.empty(len(queries), dtype=torch.int64, device=points.device)
    starts, query_starts = (torch.tensor(t.starts, device=out.device) for t in (p, q))
    most = int(max(np.diff(q.starts), default=0))
    squared = torch.tensor(float(radius), dtype=torch.float32).square().item()
    nearest_labels(p.xyz, labels.contiguous(), starts, q.xyz, query_starts, most, squared, UNLABELED, out)
    return out


def gather_groups(values: Tensor, index: Tensor) -> Tensor:
    """Gather the rows of each group; zero where the index is -1.

    Args:
        values: (N, C) with an index of packed rows (..., K), or (B, N, C) with a dense (B, Q, K) one.
        index: int64, -1 .. N - 1, from ``k_nearest`` or ``ball_query``.

    Returns:
        (..., K, C); the gradient flows back to ``values``. O(size of the result).
    """
    if values.ndim == 3:
        if index.ndim != 3 or len(index) != len(values):
            raise ValueError(f"values {tuple(values.shape)} need a (B, Q, K) index, got {tuple(index.shape)}")
        scene = torch.arange(len(values), device=values.device)[:, None, None]
        gathered = values[scene, index.clamp(min=0)] if values.shape[1] else None
    else:
        gathered = values[index.clamp(min=0)] if len(values) else None
    if gathered is None:
        return values.new_zeros(*index.shape, values.shape[-1])
    return torch.where((index >= 0)[..., None], gathered, 0)
