# SPDX-License-Identifier: Apache-2.0
"""Features replaced by the nearest of a set of codes, which follow the features: VQ-VAE (arXiv 1711.00937)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from .codebook import mean_over_processes, nearest_code

UPDATES = ("ema", "gradient")
DEAD = 0.1
"""A code is dead when it takes less than this much of an even share of the features."""


@dataclass(frozen=True)
class Quantized:
    """Features and the codes they became.

    Attributes:
        codes: (..., D), with the gradient passed straight through to the features.
        ids: (...,) int64.
        loss: scalar that ties features and codes together.
    """

    codes: Tensor
    ids: Tensor
    loss: Tensor


class VectorQuantizer(nn.Module):
    """Codes moved by moving averages (``ema``) or by the optimiser (``gradient``).

    ``ema``: loss 0.25 mean(sg[e] - z)^2, codes are the averages of the features that choose them (VQ-VAE, appendix
    A.1). ``gradient``: 3DILG's weighting, mean(sg[e] - z)^2 + 0.25 mean(e - sg[z])^2. In
    training, dead codes are moved onto features of the batch; before the first batch all are dead, so that codes
    begin among the features.

    Args:
        n_codes: K.
        width: D of features.
        update: one of ``UPDATES``.
        decay: of the moving averages.
    """

    usage: Tensor
    total: Tensor

    def __init__(self, n_codes: int, width: int, update: str = "ema", decay: float = 0.99) -> None:
        super().__init__()
        if update not in UPDATES:
            raise ValueError(f"codes are updated by one of {', '.join(UPDATES)}, not by '{update}'")
        self.update, self.decay = update, decay
        self.embedding = nn.Parameter(torch.randn(n_codes, width), requires_grad=update == "gradient")
        # Lately; a restarted code counts as used evenly, which gives it time to find features.
        self.register_buffer("usage", torch.zeros(n_codes))
        self.register_buffer("total", torch.zeros(n_codes, width))

    def forward(self, features: Tensor) -> Quantized:
        """Quantise (..., D) features; in training, codes follow."""
        flat = features.reshape(-1, features.shape[-1])
        if self.training:
            self._revive(flat.detach())
        ids = nearest_code(flat.detach(), self.embedding)
        chosen = self.embedding[ids]
        to_codes = (chosen.detach() - flat).square().mean()
        if self.update == "gradient":
            loss = to_codes + 0.25 * (chosen - flat.detach()).square().mean()
        else:
            loss = 0.25 * to_codes
        if self.training:
            self._follow(flat.detach(), ids)
        # The codes' value exactly; `flat + (chosen - flat)` would round.
        codes = chosen.detach() + (flat - flat.detach())
        return Quantized(codes.view_as(features), ids.view(features.shape[:-1]), loss)

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the (..., D) codes of (...,) ids."""
        return self.embedding[ids]

    @torch.no_grad()
    def _follow(self, flat: Tensor, ids: Tensor) -> None:
        n_codes, rate = len(self.embedding), 1 - self.decay
        hits = torch.bincount(ids, minlength=n_codes).to(flat.dtype) / len(flat)
        self.usage.lerp_(mean_over_processes(hits), rate)
        if self.update == "ema":
            sums = torch.zeros_like(self.total).index_add_(0, ids, flat) / len(flat)
            self.total.lerp_(mean_over_processes(sums), rate)
            self.embedding.copy_(self.total / self.usage.clamp(min=1e-12)[:, None])

    @torch.no_grad()
    def _revive(self, flat: Tensor) -> None:
        """Move dead codes onto features of the batch, and count them as used evenly."""
        n_codes = len(self.embedding)
        dead = torch.nonzero(self.usage < DEAD / n_codes)[:, 0]
        if not len(dead):
            return
        drawn = flat[torch.randint(len(flat), (len(dead),), device=flat.device)]
        # Apart from each other, also where a batch has fewer features than there are dead codes.
        drawn = drawn + 0.01 * flat.std(0, correction=0) * torch.randn_like(drawn)
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(drawn, 0)
        self.embedding[dead] = drawn
        self.usage[dead] = 1 / n_codes
        self.total[dead] = drawn / n_codes
