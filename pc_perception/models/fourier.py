# SPDX-License-Identifier: Apache-2.0
"""Places as waves of eight frequencies: what fields and token centres are told of where they are (3DILG)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .linear import Linear

FREQUENCIES = 8
N_FEATURES = 3 + 6 * FREQUENCIES


def fourier_features(xyz: Tensor) -> Tensor:
    """Return (..., 51) of (..., 3) in -1 .. 1: the place, and sine and cosine of it times pi 2^0 .. pi 2^7."""
    frequency = math.pi * 2 ** torch.arange(FREQUENCIES, device=xyz.device, dtype=xyz.dtype)
    angle = (xyz[..., None] * frequency).flatten(-2)
    return torch.cat([xyz, angle.sin(), angle.cos()], -1)


class FourierPosition(nn.Module):
    """Embedding of a place: a linear layer on its waves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = Linear(N_FEATURES, width)

    def forward(self, xyz: Tensor) -> Tensor:
        """Map (..., 3) to (..., width)."""
        return self.linear(fourier_features(xyz))
