# SPDX-License-Identifier: Apache-2.0
"""Which way sequence blocks go through the voxels of packed scenes, and where their memory is emptied."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .pyramid import CURVES, Level

Walk = Callable[[Level, int], tuple[Tensor, Sequence[int]]]
"""(level, number of the block in its stage) -> (M,) int64 order of the level's rows, and the places in that
order, from 0 to M, at which a new sequence begins."""


def along_curves(level: Level, block: int) -> tuple[Tensor, Sequence[int]]:
    """Walk along space-filling curves, each scene by itself: the way of every deployed model.

    A causal walk leaves its first tokens blind: every second block walks backwards, and every second pair
    along the transposed curve.
    """
    order = level.order(block // 2 % len(CURVES))
    return backwards(order, level.offsets) if block % 2 else (order, level.offsets)


def backwards(order: Tensor, resets: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
    """Return the same sequences walked from their ends to their beginnings."""
    return order.flip(0), tuple(resets[-1] - r for r in reversed(resets))
