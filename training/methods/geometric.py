# SPDX-License-Identifier: Apache-2.0
"""PointCSP's geometric consistency L_geo: features must still say where their neighbours lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.models.pyramid import Level


class GeometricConsistency(nn.Module):
    """L_geo = sum over levels of alpha_l L_geo^(l) with one light decoder per level (arXiv 2605.01759).

    Not said there, and ours: targets are offsets to a random neighbour in voxel edges, decoded from the difference
    of both features (as DeLA and CamPoint do), because absolute places cannot be known from what the
    network sees; decoders are C -> 32 -> 3; alpha_l = 1 / number of levels; a quarter of the tokens.
    """

    def __init__(self, widths: Sequence[int], share: float = 0.25) -> None:
        super().__init__()
        self.share = share
        self.decoders = nn.ModuleList(
            nn.Sequential(nn.Linear(w, 32), nn.GELU(), nn.Linear(32, 3)) for w in widths
        )

    def forward(self, levels: Sequence[tuple[Tensor, Level]]) -> Tensor:
        """Return the loss of (M_l, C_l) features on their levels; tokens and neighbours are drawn by torch."""
        each = []
        for (x, level), decode in zip(levels, self.decoders, strict=True):
            n = max(int(self.share * len(x)), 1)
            rows = torch.randint(len(x), (n,), device=x.device)
            each.append(geometric_loss(x, level, decode, rows, torch.rand(n, device=x.device)))
        return torch.stack(each).mean()


def geometric_loss(
    x: Tensor, level: Level, decode: Callable[[Tensor], Tensor], rows: Tensor, choice: Tensor
) -> Tensor:
    """Recover where a neighbour lies from the difference of features.

    Args:
        x: (M, C) features of the level's voxels.
        decode: (K, C) differences to (K, 3) offsets in voxel edges.
        rows: (K,) int64 voxels that are asked.
        choice: (K,) in 0 .. 1, which entry of each one's neighbour list.

    Returns:
        Scalar: mean squared error.
    """
    starts, lengths = level.neighbors.starts[rows], level.neighbors.starts.diff()[rows]
    other = level.neighbors.index[starts + (choice * lengths).long().clamp(max=lengths - 1)]
    offset = (level.xyz[other] - level.xyz[rows]) / level.edge
    return functional.mse_loss(decode(x[other] - x[rows]), offset)
