# SPDX-License-Identifier: Apache-2.0
"""Score planes against points in Triton: all hypotheses in one launch."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

PLANES, POINTS, ROUNDS = 16, 128, 8
"""Planes of a program, points it holds against them at a time, and how many times."""


def count_near(points: Tensor, normals: Tensor, offsets: Tensor, limit: float, counts: Tensor) -> None:
    """Write how many points lie within ``limit`` of each plane.

    Args:
        points: (N, 3) float32, contiguous, metres.
        normals: (K, 3) float32, contiguous, of unit length.
        offsets: (K,) float32, metres.
        limit: metres, a float32.
        counts: (K,) int64, contiguous.

    O(N K). Fused multiply-adds are off, for the reference's counts.
    """
    counts.zero_()
    n, k = len(points), len(normals)
    if n and k:
        # Points along the first axis: the other holds 65535 programs.
        launch(
            _count, (triton.cdiv(n, POINTS * ROUNDS), triton.cdiv(k, PLANES)),
            points, normals, offsets, counts, limit, n, k, PLANES, POINTS, ROUNDS, enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit
def _count(  # type: ignore[no-untyped-def]
    points, normals, offsets, counts, limit, n, k,
    PLANES: tl.constexpr, POINTS: tl.constexpr, ROUNDS: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(1) * PLANES + tl.arange(0, PLANES)
    asked = plane < k
    u = tl.load(normals + 3 * plane, mask=asked, other=0.0)[:, None]
    v = tl.load(normals + 3 * plane + 1, mask=asked, other=0.0)[:, None]
    w = tl.load(normals + 3 * plane + 2, mask=asked, other=0.0)[:, None]
    shift = tl.load(offsets + plane, mask=asked, other=0.0)[:, None]
    total = tl.zeros([PLANES, POINTS], tl.int32)
    for part in range(ROUNDS):
        row = (tl.program_id(0).to(tl.int64) * ROUNDS + part) * POINTS + tl.arange(0, POINTS)
        inside = row < n
        x = tl.load(points + 3 * row, mask=inside, other=0.0)[None, :]
        y = tl.load(points + 3 * row + 1, mask=inside, other=0.0)[None, :]
        z = tl.load(points + 3 * row + 2, mask=inside, other=0.0)[None, :]
        near = (tl.abs(x * u + y * v + z * w + shift) <= limit) & inside[None, :]
        total += near.to(tl.int32)
    tl.atomic_add(counts + plane, tl.sum(total, 1).to(tl.int64), mask=asked, sem="relaxed")
