# SPDX-License-Identifier: Apache-2.0
"""Chamfer distance of many small clouds in Triton: value and gradient in one kernel, without a matrix of pairs.

One warp holds two clouds at a time, a point of one in each lane and the others along its registers, once for either
direction: nothing is exchanged between lanes, nothing added atomically, and every sum has a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .launch import launch
from .nearest_lists import load_points

MOST = 64
"""Points of a cloud, at most."""
SCENES = 4
"""Pairs of clouds of one program, one after the other."""


def measure(a: Tensor, b: Tensor, root: bool, d_a: Tensor, d_b: Tensor) -> Tensor:
    """Return the mean squared distances from ``a`` to ``b`` and back, added; write their gradients.

    Args:
        a: (B, n, 3) float32 or float64, contiguous, finite, metres, B >= 1, 1 <= n <= MOST.
        b: (B, m, 3) as ``a``.
        root: give half the mean distances instead; those of zero have no gradient.
        d_a, d_b: as ``a`` and ``b``; an empty one is left out.

    Returns:
        () as ``a``. O(B n m); nothing is read back on the host. Fused multiply-adds are off, for equally near points
        to be those of the reference.
    """
    scenes, n, m = len(a), a.shape[1], b.shape[1]
    parts = a.new_empty(triton.cdiv(scenes, SCENES))
    launch(
        _patches, (len(parts),), a, b, parts, d_a, d_b, scenes, n, m,
        root, d_a.numel() > 0, d_b.numel() > 0, triton.next_power_of_2(n), triton.next_power_of_2(m), SCENES,
        num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
    return parts.sum()


class PatchChamfer(torch.autograd.Function):
    """The distance of checked clouds (B, n, 3) and (B, m, 3), whose gradient is made along with it."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, norm: str) -> Tensor:
        a, b = a.contiguous(), b.contiguous()
        # A target is rarely trained: what nobody asks for has no rows.
        ctx.slopes = [
            torch.empty_like(t if wanted else t[:0])
            for t, wanted in zip((a, b), ctx.needs_input_grad[:2], strict=True)
        ]
        return measure(a, b, norm == "l1", *ctx.slopes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        by_a, by_b = (d * grads[0] if len(d) else None for d in ctx.slopes)
        return by_a, by_b, None


@triton.jit
def _patches(  # type: ignore[no-untyped-def]
    a, b, parts, d_a, d_b, scenes, n, m,
    ROOT: tl.constexpr, PULL_A: tl.constexpr, PULL_B: tl.constexpr,
    N: tl.constexpr, M: tl.constexpr, SCENES: tl.constexpr,
):  # fmt: skip
    i, j = tl.arange(0, N), tl.arange(0, M)
    there, back = tl.zeros([N], a.dtype.element_ty), tl.zeros([M], a.dtype.element_ty)
    # The mean divides by all points of all clouds; the slope of a square is twice the difference, of half a root half
    # the direction.
    factor: tl.constexpr = 0.5 if ROOT else 2.0
    weight_a = factor / (tl.full((), scenes, a.dtype.element_ty) * n)
    weight_b = factor / (tl.full((), scenes, a.dtype.element_ty) * m)
    first = tl.program_id(0) * SCENES
    for scene in range(first, tl.minimum(first + SCENES, scenes)):
        base, other_base = tl.cast(scene, tl.int64) * n, tl.cast(scene, tl.int64) * m
        row, other_row = base + i, other_base + j
        own, other = load_points(a, row, i < n), load_points(b, other_row, j < m)
        least, who = _closest(own, i < n, other, j, j < m)
        other_least, other_who = _closest(other, j < m, own, i, i < n)
        there += tl.sqrt(least) if ROOT else least
        back += tl.sqrt(other_least) if ROOT else other_least
        pull, other_pull = _weights(least, weight_a, ROOT), _weights(other_least, weight_b, ROOT)
        if PULL_A:
            near = load_points(b, other_base + who, i < n)
            _write_slopes(d_a, row, i < n, own, near, pull, i, other, other_pull, other_who)
        if PULL_B:
            near = load_points(a, base + other_who, j < m)
            _write_slopes(d_b, other_row, j < m, other, near, other_pull, j, own, pull, who)
    share: tl.constexpr = 1.0 if ROOT else 0.5  # of the factor
    tl.store(parts + tl.program_id(0), (tl.sum(there, 0) * weight_a + tl.sum(back, 0) * weight_b) * share)


@triton.jit
def _closest(own, asked, other, number, there):  # type: ignore[no-untyped-def]
    """Return the squared distance of each own point from the nearest other one, 0 where not asked, and its number."""
    x, y, z = own
    u, v, w = other
    dx, dy, dz = x[None, :] - u[:, None], y[None, :] - v[:, None], z[None, :] - w[:, None]
    square = tl.where(there[:, None], dx * dx + dy * dy + dz * dz, float("inf"))
    least = tl.min(square, 0)
    who = tl.min(tl.where(square == least[None, :], number[:, None], 0x7FFFFFFF), 0)
    return tl.where(asked, least, 0.0), tl.where(asked, who, -1)


@triton.jit
def _weights(square, weight, ROOT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return what the difference of two points is multiplied by; zero where they coincide."""
    apart = square > 0
    by_root = tl.where(apart, weight / tl.sqrt(tl.where(apart, square, 1.0)), 0.0)
    return by_root if ROOT else tl.where(apart, weight, 0.0)


@triton.jit
def _write_slopes(out, row, asked, own, near, pull, number, other, other_pull, other_who):  # type: ignore[no-untyped-def]
    """Store what pulls own points: towards their nearest, and towards those whose nearest they are."""
    hit = other_who[:, None] == number[None, :]
    for axis in tl.static_range(3):
        difference = own[axis][None, :] - other[axis][:, None]
        pulled = tl.sum(tl.where(hit, other_pull[:, None] * difference, 0.0), 0)
        tl.store(out + 3 * row + axis, pull * (own[axis] - near[axis]) + pulled, mask=asked)
