# SPDX-License-Identifier: Apache-2.0
"""Chamfer distance in Triton: both directions against tiles of the other cloud, no matrix of pairs, with gradient.

Small clouds have a kernel of their own (``chamfer_patches``), of large ones the nearest points are searched by buckets.
Nothing is read back on the host: all launches can be captured in a CUDA graph. Fused multiply-adds are off in
the search, for equally near points to be those of the reference.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .chamfer_patches import MOST, PatchChamfer
from .launch import launch
from .neighbors import ALL_PAIRS, search, searchable

OWN, OTHER = 32, 128
"""Points of a program, and points of the other cloud it holds against them at a time; fewer for small clouds."""
ROWS = 256


def chamfer(a: Tensor, b: Tensor, norm: str) -> Tensor:
    """Return the distance () of checked clouds (B, n, 3) and (B, m, 3), with gradient; see ``chamfer_distance``."""
    kind = PatchChamfer if max(a.shape[1], b.shape[1]) <= MOST else Chamfer
    return kind.apply(a, b, norm)


def nearest(a: Tensor, b: Tensor, square: Tensor, index: Tensor) -> None:
    """Write the nearest point of ``b`` for every point of ``a``, scene by scene; ties go to the lowest index.

    Args:
        a: (B, n, 3) float32 or float64, contiguous, finite, metres.
        b: (B, m, 3) as ``a``, m >= 1.
        square: (B, n) squared distances, as ``a``.
        index: (B, n) int32, rows of the scene of ``b``.
    """
    scenes, n, m = len(a), a.shape[1], b.shape[1]
    if a.dtype == torch.float32 and m > ALL_PAIRS and searchable(scenes, m, 1):
        _search_nearest(a, b, square, index)
        return
    other = min(max(triton.next_power_of_2(m), 16), OTHER)
    if scenes and n:
        # Scenes along the first axis: the others hold 65535 programs.
        launch(
            _nearest, (scenes, triton.cdiv(n, OWN)),
            a, b, square, index, n, m, OWN, other, num_warps=4 if m > 64 else 1, enable_fp_fusion=False,
        )  # fmt: skip


def _search_nearest(a: Tensor, b: Tensor, square: Tensor, index: Tensor) -> None:
    """``nearest`` by buckets: O((n + m) log m) a scene where points spread out."""
    scenes, n, m = len(a), a.shape[1], b.shape[1]
    starts, query_starts = (torch.arange(scenes + 1, device=a.device) * k for k in (m, n))
    found, metres = index.new_empty(scenes, n, 1, dtype=torch.int64), torch.empty_like(square)
    search(
        b.view(-1, 3), starts, m, a.view(-1, 3), query_starts, n, torch.inf, False, False,
        found.view(-1, 1), metres.view(-1, 1),
    )  # fmt: skip
    index.copy_(found[..., 0])
    # Anew, since a root and its square are not the distance to the last bit.
    dx, dy, dz = (a - b.gather(1, found.expand(-1, -1, 3))).square_().unbind(2)
    torch.add(dx + dy, dz, out=square)


def pull(
    a: Tensor, b: Tensor, square: Tensor, index: Tensor, slope: Tensor, root: bool, d_a: Tensor, d_b: Tensor
) -> None:
    """Add the gradient of the mean distance from ``a`` to ``b``, times ``slope``, to ``d_a`` and ``d_b``.

    Args:
        a, b, square, index: as ``nearest``.
        slope: () as ``a``, on its device.
        root: whether the distances are roots; those of zero have no gradient.
        d_a, d_b: as ``a`` and ``b``; an empty one is left out. Added to atomically, thus in any order.
    """
    rows = square.numel()
    if rows:
        launch(
            _pull, (triton.cdiv(rows, ROWS),),
            a, b, square, index, slope, d_a, d_b, rows, a.shape[1], b.shape[1],
            root, d_a.numel() > 0, d_b.numel() > 0, ROWS,
        )  # fmt: skip


@triton.jit
def _nearest(  # type: ignore[no-untyped-def]
    a, b, square, index, n, m, OWN: tl.constexpr, OTHER: tl.constexpr
):
    scene = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * OWN + tl.arange(0, OWN)
    inside = row < n
    own, others = a + 3 * (scene * n + row), b + 3 * scene * m
    x = tl.load(own, mask=inside, other=0.0)[:, None]
    y = tl.load(own + 1, mask=inside, other=0.0)[:, None]
    z = tl.load(own + 2, mask=inside, other=0.0)[:, None]
    # Each lane keeps its own nearest, the first of equals: one reduction at the end instead of one a tile.
    best = tl.full([OWN, OTHER], float("inf"), a.dtype.element_ty)
    who = tl.full([OWN, OTHER], 0, tl.int32)
    for begin in range(0, m, OTHER):
        point = begin + tl.arange(0, OTHER)
        there = point < m
        dx = x - tl.load(others + 3 * point, mask=there, other=0.0)[None, :]
        dy = y - tl.load(others + 3 * point + 1, mask=there, other=0.0)[None, :]
        dz = z - tl.load(others + 3 * point + 2, mask=there, other=0.0)[None, :]
        d = dx * dx + dy * dy + dz * dz
        nearer = there[None, :] & (d < best)
        best, who = tl.where(nearer, d, best), tl.where(nearer, point[None, :], who)
    least = tl.min(best, 1)
    first = tl.min(tl.where(best == least[:, None], who, 0x7FFFFFFF), 1)
    tl.store(square + scene * n + row, least, mask=inside)
    tl.store(index + scene * n + row, first, mask=inside)


@triton.jit
def _pull(  # type: ignore[no-untyped-def]
    a, b, square, index, slope, d_a, d_b, rows, n, m,
    ROOT: tl.constexpr, PULL_A: tl.constexpr, PULL_B: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    d = tl.load(square + row, mask=inside, other=0.0)
    other = row // n * m + tl.load(index + row, mask=inside, other=0)
    # The mean divides by the rows; a square has slope 2, a root 1 / root, by the difference of coordinates.
    weight = tl.load(slope) / rows
    weight = tl.where(d > 0, weight / tl.sqrt(tl.where(d > 0, d, 1.0)), 0.0) if ROOT else 2 * weight
    for axis in tl.static_range(3):
        difference = tl.load(a + 3 * row + axis, mask=inside, other=0.0)
        difference -= tl.load(b + 3 * other + axis, mask=inside, other=0.0)
        if PULL_A:
            tl.atomic_add(d_a + 3 * row + axis, weight * difference, mask=inside, sem="relaxed")
        if PULL_B:
            tl.atomic_add(d_b + 3 * other + axis, -weight * difference, mask=inside, sem="relaxed")


class Chamfer(torch.autograd.Function):
    """The distance of checked clouds (B, n, 3) and (B, m, 3), and its gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, norm: str) -> Tensor:
        """Return the distance () and keep who is nearest to whom."""
        a, b = a.contiguous(), b.contiguous()
        there, back = (
            (t.new_empty(t.shape[:2]), torch.empty(t.shape[:2], dtype=torch.int32, device=t.device))
            for t in (a, b)
        )
        nearest(a, b, *there)
        nearest(b, a, *back)
        ctx.save_for_backward(a, b, *there, *back)
        ctx.root = norm == "l1"
        if ctx.root:
            return (there[0].sqrt().mean() + back[0].sqrt().mean()) / 2
        return there[0].mean() + back[0].mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients (B, n, 3) and (B, m, 3), None for what nobody asks for."""
        a, b, square, index, square_back, index_back = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        # A target is rarely trained: what nobody asks for has no rows.
        d_a, d_b = (torch.zeros_like(t if w else t[:0]) for t, w in zip((a, b), wanted, strict=True))
        slope = grads[0] * (0.5 if ctx.root else 1.0)
        pull(a, b, square, index, slope, ctx.root, d_a, d_b)
        pull(b, a, square_back, index_back, slope, ctx.root, d_b, d_a)
        return d_a if wanted[0] else None, d_b if wanted[1] else None, None
