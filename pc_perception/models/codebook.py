# SPDX-License-Identifier: Apache-2.0
"""One codebook for two modalities, moved by both: CMCR's (arXiv 2412.08973), after VQ-VAE (arXiv 1711.00937)."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

CHUNK = 16_384
"""Rows that are compared with all codes at a time."""


class Codebook(nn.Module):
    """Unit vectors that features are replaced by; tensors are named as in CMCR's checkpoints.

    Args:
        n_codes: codes (CMCR: 400).
        width: of features (CMCR: 64).
        decay: of the moving averages.
    """

    embedding: Tensor
    ema_count: Tensor
    ema_weight: Tensor

    def __init__(self, n_codes: int = 400, width: int = 64, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        codes = functional.normalize(torch.empty(n_codes, width).uniform_(-1, 1), dim=1)
        self.register_buffer("embedding", codes)
        self.register_buffer("ema_count", torch.zeros(n_codes))
        self.register_buffer("ema_weight", codes.clone())

    @torch.no_grad()
    def assign(self, features: Tensor) -> Tensor:
        """Return the (N,) int64 code nearest to each of (N, D) features, by squared distance."""
        return nearest_code(features, self.embedding)

    def quantise(self, features: Tensor) -> Tensor:
        """Replace (N, D) features by their codes; the gradient passes straight through."""
        return features + (self.embedding[self.assign(features)] - features).detach()

    @torch.no_grad()
    def update(self, code: Tensor, own: Tensor, paired: Tensor, epsilon: float = 1e-5) -> None:
        """Move codes towards the features of one modality that chose them, and to their partners of the other.

        Args:
            code: (N,) int64, chosen by ``own``.
            own, paired: (N, D) features of the same places in the two modalities.
        """
        n_codes, share = len(self.embedding), 1 - self.decay
        hits = torch.bincount(code, minlength=n_codes).to(own.dtype)
        total = torch.zeros_like(self.embedding).index_add_(0, code, own + paired)
        count = self.ema_count * self.decay + share * hits
        whole = count.sum()
        count = (count + epsilon) / (whole + n_codes * epsilon) * whole
        self.ema_count.copy_(mean_over_processes(count))
        self.ema_weight.copy_(mean_over_processes(self.ema_weight * self.decay + share / 2 * total))
        self.embedding.copy_(
            functional.normalize(self.ema_weight / self.ema_count.clamp(min=1e-12)[:, None], dim=1)
        )


@torch.no_grad()
def nearest_code(features: Tensor, codes: Tensor) -> Tensor:
    """Return the (N,) int64 row of ``codes`` (K, D) nearest to each of (N, D) features, by squared distance."""
    half = codes.square().sum(1) / 2
    parts = [(part @ codes.T - half).argmax(1) for part in features.split(CHUNK)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=features.device)


@torch.no_grad()
def perplexity(code: Tensor, n_codes: int) -> Tensor:
    """Return exp(entropy) of how often codes (N,) are used: 1 where one takes all, ``n_codes`` where all are equal."""
    share = torch.bincount(code, minlength=n_codes).float() / max(len(code), 1)
    return (-(share * share.clamp(min=1e-12).log()).sum()).exp()


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes of a distributed run; alone, the tensor itself."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
        value = value / distributed.get_world_size()
    return value
