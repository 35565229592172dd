# SPDX-License-Identifier: Apache-2.0
"""Chamfer distance between point clouds, squared or not, with gradient.

Fan, Su and Guibas, "A point set generation network for 3D object reconstruction from a single image", 2017,
eq. 3. Normalised as in the training code of Pang et al., "Masked autoencoders for point cloud self-supervised
learning" (Point-MAE), 2022.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from .all_pairs import nearest_of_all
from .backend import resolve
from .kd_tree import build_tree, nearest_in_tree
from .parallel import run_blocks, team

DENSE_PAIRS = 1 << 20
"""Up to this many pairs a scene every pair is looked at; beyond, a k-d tree is quicker."""


def chamfer_distance(a: Tensor, b: Tensor, norm: str = "l2", backend: str | None = None) -> Tensor:
    """Measure how far the points of each cloud are from the other cloud.

    Args:
        a: (B, n, 3) or (n, 3) float32 or float64, finite, metres, any strides; duplicates count each.
        b: (B, m, 3) or (m, 3), of the dtype of ``a``.
        norm: ``l2``: mean squared distance from a to b plus that from b to a (square metres); ``l1``: half the sum
            of the mean distances (metres).

    Returns:
        () of the dtype of ``a``. The gradient goes along the line to the nearest point, of equally near ones that
        of lowest index; none where two points coincide. Small clouds: O(B n m), no (n, m) matrix is kept; large
        ones: about O(B (n + m) log(n + m)) on the CPU, O(B n m) by blocks with torch.

    Raises:
        ValueError: wrong shapes, dtypes or norm, an empty cloud, NaN or Inf.
    """
    if a.ndim == 2 and b.ndim == 2:
        a, b = a[None], b[None]
    _check(a, b, norm)
    kernel = resolve(a.device, backend)
    if kernel == "numba":
        return _Chamfer.apply(a, b, norm)
    if kernel == "triton":
        from .gpu.chamfer import Chamfer

        return Chamfer.apply(a, b, norm)
    there, back = _distances_torch(a, b), _distances_torch(b, a)
    if norm == "l2":
        return there.mean() + back.mean()
    return (_root(there).mean() + _root(back).mean()) / 2


def _check(a: Tensor, b: Tensor, norm: str) -> None:
    shapes = f"{tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}"
    if a.ndim != 3 or b.ndim != 3 or len(a) != len(b) or a.shape[2] != 3 or b.shape[2] != 3:
        raise ValueError(f"clouds must be (B, n, 3) and (B, m, 3), they are {shapes}")
    if a.dtype != b.dtype or a.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"clouds must both be float32 or both float64, they are {shapes}")
    if not (a.numel() and b.numel()):
        raise ValueError(f"the distance from or to an empty cloud is not defined, clouds are {shapes}")
    if norm not in ("l1", "l2"):
        raise ValueError(f"norm '{norm}' is unknown; choose l1 or l2")
    # A sum passes on what is not finite, and is quicker than asking each number; waking threads for it is not.
    with team():
        total = float(a.detach().sum() + b.detach().sum())
    if not isfinite(total):
        raise ValueError("a cloud holds NaN or Inf; leave those points out first")


def _root(square: Tensor) -> Tensor:
    # The slope of a root at zero is infinite: keep it out of the graph.
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1).sqrt(), 0)


def _distances_torch(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance (B, n) of every point of ``a`` from the nearest of ``b``, with gradient."""
    rows = max(1, (1 << 22) // (len(a) * b.shape[1]))
    x, y, z = (t[:, None] for t in b.detach().unbind(2))
    index = []
    for part in a.detach().split(rows, dim=1):
        u, v, w = (t[:, :, None] for t in part.unbind(2))
        index.append(((u - x).square() + (v - y).square() + (w - z).square()).min(2).indices)
    nearest = b.gather(1, torch.cat(index, 1)[..., None].expand(-1, -1, 3))
    return (a - nearest).square().sum(2)


class _Chamfer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, norm: str) -> Tensor:
        p, q = (np.ascontiguousarray(t.detach().numpy()) for t in (a, b))
        there, back = _nearest_both(p, q)
        ctx.clouds, ctx.there, ctx.back, ctx.norm = (p, q), there, back, norm
        if norm == "l2":
            value = there[0].mean(dtype=np.float64) + back[0].mean(dtype=np.float64)
        else:
            value = (np.sqrt(there[0]).mean(dtype=np.float64) + np.sqrt(back[0]).mean(dtype=np.float64)) / 2
        return a.new_tensor(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        p, q = ctx.clouds
        # A target is rarely trained: what nobody asks for has no rows.
        d_p, d_q = (
            np.zeros_like(t if wanted else t[:0])
            for t, wanted in zip((p, q), ctx.needs_input_grad[:2], strict=True)
        )
        root = ctx.norm == "l1"
        scale = float(grads[0]) * (0.5 if root else 2.0)
        (square, index), (square_back, index_back) = ctx.there, ctx.back

        def pull(start: int, stop: int) -> None:
            s = slice(start, stop)
            _pull(p[s], q[s], square[s], index[s], root, scale / square.size, d_p[s], d_q[s])
            _pull(q[s], p[s], square_back[s], index_back[s], root, scale / square_back.size, d_q[s], d_p[s])

        with team():
            run_blocks(pull, len(p))
        d_a, d_b = (torch.from_numpy(d) if len(d) else None for d in (d_p, d_q))
        return d_a, d_b, None


Nearest = tuple[np.ndarray, np.ndarray]
"""Squared distances (B, n) and rows (B, n) int32 of the nearest points."""


def _nearest_both(p: np.ndarray, q: np.ndarray) -> tuple[Nearest, Nearest]:
    there = np.empty(p.shape[:2], p.dtype), np.empty(p.shape[:2], np.int32)
    back = np.empty(q.shape[:2], q.dtype), np.empty(q.shape[:2], np.int32)
    with team():
        if p.shape[1] * q.shape[1] <= DENSE_PAIRS:

            def dense(start: int, stop: int) -> None:
                part = slice(start, stop)
                nearest_of_all(p[part], q[part], there[0][part], there[1][part])
                nearest_of_all(q[part], p[part], back[0][part], back[1][part])

            run_blocks(dense, len(p))
        else:
            for s in range(len(p)):
                _nearest_far(p[s], q[s], (there[0][s], there[1][s]), (back[0][s], back[1][s]))
    return there, back


def _nearest_far(p: np.ndarray, q: np.ndarray, there: Nearest, back: Nearest) -> None:
    trees: list[Any] = [None, None]

    def build(start: int, stop: int) -> None:
        for i in range(start, stop):
            trees[i] = build_tree((p, q)[i])

    run_blocks(build, 2, least_rows=1)
    for own, other, cloud, result in ((0, 1, p, there), (1, 0, q, back)):
        order = trees[own][1]

        def search(start: int, stop: int, tree=trees[other], cloud=cloud, order=order, result=result) -> None:  # type: ignore[no-untyped-def]
            nearest_in_tree(tree, cloud, order[start:stop], *result)

        run_blocks(search, len(cloud))


@njit(cache=True, nogil=True)
def _pull(a, b, square, index, root, scale, d_a, d_b):  # type: ignore[no-untyped-def]
    """Add the gradient of ``scale / 2`` times the squared distances, or of ``scale`` times their roots."""
    pull_a, pull_b = len(d_a) > 0, len(d_b) > 0
    for s in range(len(a)):
        for i in range(a.shape[1]):
            j = index[s, i]
            weight = scale
            if root:
                weight = scale / np.sqrt(square[s, i]) if square[s, i] > 0 else 0.0
            for k in range(3):
                g = weight * (a[s, i, k] - b[s, j, k])
                if pull_a:
                    d_a[s, i, k] += g
                if pull_b:
                    d_b[s, j, k] -= g
