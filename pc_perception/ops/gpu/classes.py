# SPDX-License-Identifier: Apache-2.0
"""From the logits of voxels to the class of every point, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

BLOCK = 256


def classes_of(logits: Tensor, row: Tensor, none: int) -> tuple[Tensor, Tensor]:
    """Return each point's class and how sure it is; never waits for the device.

    Args:
        logits: (M, C) float, contiguous.
        row: (N,) int64 row of each point, -1 for points of none.
        none: the class of those, an int16.

    Returns:
        (N,) int16, the first of the highest logits, and (N,) float32, its softmax, 0 for points of no row.
    """
    label = torch.empty(len(row), dtype=torch.int16, device=row.device)
    confidence = torch.empty(len(row), dtype=torch.float32, device=row.device)
    grid = (triton.cdiv(len(row), BLOCK),)
    launch(_classes, grid, logits, row, label, confidence, len(row), none, logits.shape[1], BLOCK)
    return label, confidence


@triton.jit(do_not_specialize=["n", "none"])
def _classes(logits, row, label, confidence, n, none, C: tl.constexpr, BLOCK: tl.constexpr):
    point = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at = tl.load(row + point, point < n, -1)
    there = at >= 0
    highest = tl.load(logits + at * C, there, 0.0).to(tl.float32)
    best = tl.zeros((BLOCK,), tl.int32)
    for c in range(1, C):
        value = tl.load(logits + at * C + c, there, 0.0).to(tl.float32)
        best = tl.where(value > highest, c, best)
        highest = tl.maximum(highest, value)
    total = tl.zeros((BLOCK,), tl.float32)
    for c in range(C):
        total += tl.exp(tl.load(logits + at * C + c, there, 0.0).to(tl.float32) - highest)
    tl.store(label + point, tl.where(there, best, none).to(tl.int16), point < n)
    tl.store(confidence + point, tl.where(there, 1 / total, 0.0), point < n)
