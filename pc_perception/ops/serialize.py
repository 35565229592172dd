# SPDX-License-Identifier: Apache-2.0
"""Space-filling curves: integers that keep neighbours in space near each other in sequence.

Z-order (Morton, 1966): the bits of x, y and z interleaved, x in the lowest place. A parent voxel of
twice the edge has the child's code shifted right by three, so one sort serves every level.
"""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 20
"""Bits per axis: coordinates run over 0 .. 2^20 - 1 and codes fit a signed 64-bit integer."""


def _spread(v: Tensor) -> Tensor:
    """Put two zero bits before each of the low 21 bits of ``v`` (int64)."""
    v = v & 0x1FFFFF
    v = (v | v << 32) & 0x1F00000000FFFF
    v = (v | v << 16) & 0x1F0000FF0000FF
    v = (v | v << 8) & 0x100F00F00F00F00F
    v = (v | v << 4) & 0x10C30C30C30C30C3
    return (v | v << 2) & 0x1249249249249249


def z_order(coords: Tensor, axes: tuple[int, int, int] = (0, 1, 2)) -> Tensor:
    """Return the Z-order code of each voxel.

    Args:
        coords: (N, 3) integer, each in 0 .. 2^20 - 1.
        axes: which axis takes the lowest, middle and highest bit; (1, 0, 2) is the transposed curve.

    Returns:
        (N,) int64. O(N), no gradient.
    """
    c = coords.to(torch.int64)
    return _spread(c[:, axes[0]]) | _spread(c[:, axes[1]]) << 1 | _spread(c[:, axes[2]]) << 2
