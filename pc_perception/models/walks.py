# SPDX-License-Identifier: Apache-2.0
"""Which way sequence blocks go through the voxels of packed scenes, and where their memory is emptied."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pc_perception.ops.recurrence import Offsets

from .pyramid import CURVES, Level

Walk = Callable[[Level, int], tuple[Tensor, Offsets]]
"""(level, number of the block in its stage) -> (M,) int64 order of the level's rows, and the places in that
order, from 0 to M, at which a new sequence begins."""


def along_curves(level: Level, block: int) -> tuple[Tensor, Offsets]:
    """Walk along space-filling curves, each scene by itself: the way of every deployed model.

    A causal walk leaves its first tokens blind: every second block walks backwards, and every second pair
    along the transposed curve.
    """
    order = level.order(block // 2 % len(CURVES))
    sequences = level.offsets if level.in_use is None else level.in_use
    return backwards(order, sequences) if block % 2 else (order, sequences)


def backwards(order: Tensor, resets: Offsets) -> tuple[Tensor, Offsets]:
    """Return the same sequences walked from their ends to their beginnings."""
    if isinstance(
        resets, Tensor
    ):  # places before the first are counted from the end: rows of no sequence stay there
        place = resets[-1] + torch.arange(-1, -len(order) - 1, -1, device=order.device)
        return order[place], resets[-1] - resets.flip(0) if len(resets) > 2 else resets
    return order.flip(0), tuple(resets[-1] - r for r in reversed(resets))
