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
from .packed import capturing
from .parallel import run_blocks, team

AT_ONCE = 16
"""Small clouds, so that what is known of them is used before it leaves the nearest cache."""
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
        ones: about O(B (n + m) log(n + m)), O(B n m) by blocks with torch and in float64 on a GPU.

    Raises:
        ValueError: wrong shapes, dtypes or norm, an empty cloud, NaN or Inf (not looked for while a CUDA graph is
            being captured).
    """
    if a.ndim == 2 and b.ndim == 2:
        a, b = a[None], b[None]
    _check(a, b, norm)
    kernel = resolve(a.device, backend)
    if kernel == "numba":
        if not torch.is_grad_enabled():
            a, b = a.detach(), b.detach()
        return _Chamfer.apply(a, b, norm)
    if kernel == "triton":
        from .gpu.chamfer import chamfer

        return chamfer(a, b, norm)
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
    if capturing(a):
        return
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
    """The gradient is made along with the value, while the points are in the nearest cache."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, norm: str) -> Tensor:
        p, q = (np.ascontiguousarray(t.detach().numpy()) for t in (a, b))
        # A target is rarely trained: what nobody asks for has no rows.
        d_p, d_q = (
            np.zeros_like(t if wanted else t[:0])
            for t, wanted in zip((p, q), ctx.needs_input_grad[:2], strict=True)
        )
        ctx.slopes = d_p, d_q
        measure = _measure_all if p.shape[1] * q.shape[1] <= DENSE_PAIRS else _measure_far
        with team():
            there, back = measure(p, q, norm == "l1", d_p, d_q)
        return a.new_tensor((there + back) / 2 if norm == "l1" else there + back)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        by_a, by_b = (torch.from_numpy(d) * grads[0] if len(d) else None for d in ctx.slopes)
        return by_a, by_b, None


Nearest = tuple[np.ndarray, np.ndarray]
"""Squared distances (B, n) and rows (B, n) int32 of the nearest points."""


def _measure_all(
    p: np.ndarray, q: np.ndarray, root: bool, d_p: np.ndarray, d_q: np.ndarray
) -> tuple[float, float]:
    """Mean distances (or their squares) there and back by looking at every pair; add their gradient."""
    sums: dict[int, tuple[float, float]] = {}

    def work(start: int, stop: int) -> None:
        s = slice(start, stop)
        sums[start] = _sum_all(p[s], q[s], root, p[..., 0].size, q[..., 0].size, d_p[s], d_q[s])

    run_blocks(work, len(p))
    there, back = (sum(sums[start][i] for start in sorted(sums)) for i in range(2))
    return there / p[..., 0].size, back / q[..., 0].size


def _measure_far(
    p: np.ndarray, q: np.ndarray, root: bool, d_p: np.ndarray, d_q: np.ndarray
) -> tuple[float, float]:
    """The same by trees."""
    there = np.empty(p.shape[:2], p.dtype), np.empty(p.shape[:2], np.int32)
    back = np.empty(q.shape[:2], q.dtype), np.empty(q.shape[:2], np.int32)
    for s in range(len(p)):
        _nearest_far(p[s], q[s], (there[0][s], there[1][s]), (back[0][s], back[1][s]))
    n, m = there[0].size, back[0].size
    return _pull(p, q, *there, root, n, d_p, d_q) / n, _pull(q, p, *back, root, m, d_q, d_p) / m


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
def _sum_all(p, q, root, n, m, d_p, d_q):  # type: ignore[no-untyped-def]
    """Sum up a few clouds at a time there and back; ``n`` and ``m`` as in ``_pull``."""
    there, back, most = 0.0, 0.0, min(AT_ONCE, len(p))
    square, index = np.empty((most, p.shape[1]), p.dtype), np.empty((most, p.shape[1]), np.int32)
    square_b, index_b = np.empty((most, q.shape[1]), p.dtype), np.empty((most, q.shape[1]), np.int32)
    for first in range(0, len(p), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        nearest_of_all(p[some], q[some], square, index)
        nearest_of_all(q[some], p[some], square_b, index_b)
        there += _pull(p[some], q[some], square, index, root, n, d_p[some], d_q[some])
        back += _pull(q[some], p[some], square_b, index_b, root, m, d_q[some], d_p[some])
    return there, back


@njit(cache=True, nogil=True)
def _pull(a, b, square, index, root, n, d_a, d_b):  # type: ignore[no-untyped-def]
    """Sum up the squared distances, or their roots; add the gradient of what they contribute to the result.

    That is 1 / n of the squares, half of it of the roots.
    """
    pull_a, pull_b = len(d_a) > 0, len(d_b) > 0
    total, weight = _total(square[: len(a)], root), a.dtype.type((0.5 if root else 2.0) / n)
    for s in range(len(a) if pull_a or pull_b else 0):
        for i in range(a.shape[1]):
            j = index[s, i]
            w = weight
            if root:
                w = weight / np.sqrt(square[s, i]) if square[s, i] > 0 else 0 * weight
            for k in range(3):
                g = w * (a[s, i, k] - b[s, j, k])
                if pull_a:
                    d_a[s, i, k] += g
                if pull_b:
                    d_b[s, j, k] -= g
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _total(square, root):  # type: ignore[no-untyped-def]
    total = 0.0
    for s in range(len(square)):
        row = square[s]
        for i in range(len(row)):
            total += float(np.sqrt(row[i]) if root else row[i])
    return total
