# SPDX-License-Identifier: Apache-2.0
"""Occupancy of space from latent vectors that lie in it, after 3DILG (Zhang et al., arXiv 2205.13914).

At a place x the latents are blended with weights softmax_j(-exp(log_sigma) |x - c_j|^2), and an MLP reads the blend
together with x. Constants as in 3DILG's public code. Ours: each latent also draws quadrics about its
centre, and the MLP is told their blended values at x: a plate, a leg or a rim is one quadric, so that little has to be
learned before surfaces are where they should be. The MLP's width is free; no weight normalisation.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .fourier import N_FEATURES, fourier_features

N_QUADRICS = 8
REACH = 0.2
"""Length that quadrics are measured in: about the radius of a patch."""


class FieldDecoder(nn.Module):
    """Logits of occupancy; at least 0 is inside.

    Args:
        width: of the latents.
        hidden: of the MLP.
        depth: layers before the place and the blend are joined on once more, and after.
    """

    def __init__(self, width: int, hidden: int = 512, depth: int = 3) -> None:
        super().__init__()
        n_inputs = width + N_FEATURES + N_QUADRICS
        self.quadrics = nn.Linear(width, 10 * N_QUADRICS)
        self.log_sigma = nn.Parameter(torch.tensor(3.0))
        self.before = _layers([n_inputs, *[hidden] * depth])
        self.after = nn.Sequential(
            _layers([hidden + n_inputs, *[hidden] * (depth - 1)]), nn.Linear(hidden, 1)
        )

    def weights(self, queries: Tensor, centers: Tensor) -> Tensor:
        """Return (B, Q, G), rows sum to 1: how much each latent counts at each place (B, Q, 3)."""
        squared = (
            queries.square().sum(-1)[:, :, None]
            + centers.square().sum(-1)[:, None]
            - 2 * queries @ centers.mT
        )
        return (-self.log_sigma.exp() * squared).softmax(-1)

    def forward(self, queries: Tensor, latents: Tensor, centers: Tensor) -> Tensor:
        """Return (B, Q) logits at (B, Q, 3) of latents (B, G, C) that lie at (B, G, 3)."""
        weights = self.weights(queries, centers)
        terms = quadric_terms((queries[:, :, None] - centers[:, None]) / REACH)
        drawn = self.quadrics(latents).unflatten(-1, (10, N_QUADRICS)).flatten(1, 2)
        surfaces = (weights[..., None] * terms).flatten(2) @ drawn
        x = torch.cat([fourier_features(queries), surfaces, weights @ latents], -1)
        return self.after(torch.cat([self.before(x), x], -1)).squeeze(-1)


def quadric_terms(xyz: Tensor) -> Tensor:
    """Return the (..., 10) monomials up to degree two of (..., 3) places."""
    pairs = xyz[..., [0, 0, 1]] * xyz[..., [1, 2, 2]]
    return torch.cat([torch.ones_like(xyz[..., :1]), xyz, xyz.square(), pairs], -1)


def _layers(sizes: list[int]) -> nn.Sequential:
    pairs = pairwise(sizes)
    return nn.Sequential(*(layer for a, b in pairs for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))))


def field_iou(logits: Tensor, occupied: Tensor) -> Tensor:
    """Return the (B,) intersection over union of predicted (logit >= 0) and true (B, Q) occupancy, 1 without any."""
    found, truth = logits >= 0, occupied > 0.5
    union = (found | truth).sum(-1)
    return torch.where(union > 0, (found & truth).sum(-1) / union.clamp(min=1), torch.ones_like(union))


def occupancy_loss(logits: Tensor, occupied: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of (B, Q) logits."""
    return functional.binary_cross_entropy_with_logits(logits.float(), occupied.float())
