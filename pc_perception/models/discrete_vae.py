# SPDX-License-Identifier: Apache-2.0
"""Point-BERT's discrete autoencoder of patches: a word of a codebook for each, and the patch drawn from words.

Source: Yu et al., "Point-BERT: pre-training 3D point cloud transformers with masked point modeling", arXiv 2111.14819;
layer sizes as in its public code. Kept so that published tokenisers can be read, run and written.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.ops.neighbors import k_nearest

from .patches import PatchEmbedding, Patches

NEIGHBORS = 4
SEED = 0.05
"""Half the edge of the small square that every coarse point is unfolded from."""


class PatchGraph(nn.Module):
    """Graph convolutions (DGCNN) over the four nearest patches."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.enter = nn.Linear(n_inputs, 128)
        sizes = ((256, 256), (512, 512), (1024, 512), (1024, 1024))
        self.layers = nn.ModuleList(_convolution(a, b) for a, b in sizes)
        self.leave = _convolution(sum(b for _, b in sizes), n_outputs)

    def forward(self, x: Tensor, centers: Tensor) -> Tensor:
        """Map (B, G, n_inputs) of patches at (B, G, 3) to (B, G, n_outputs); G is at least four."""
        index, _ = k_nearest(centers, NEIGHBORS)
        rows = torch.arange(len(x), device=x.device)[:, None, None]
        x, found = self.enter(x), []
        for layer in self.layers:
            own = x[:, :, None].expand(-1, -1, NEIGHBORS, -1)
            x = _normed(layer, torch.cat([x[rows, index] - own, own], -1)).amax(2)
            found.append(x)
        return _normed(self.leave, torch.cat(found, -1))


def _convolution(n_inputs: int, n_outputs: int) -> nn.ModuleList:
    return nn.ModuleList([nn.Linear(n_inputs, n_outputs, bias=False), nn.GroupNorm(4, n_outputs)])


def _normed(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer, the group norm of each object over all of its patches, and a leaky ReLU."""
    linear, norm = layer.children()
    y = linear(x).flatten(1, -2).mT
    return functional.leaky_relu(norm(y).mT.unflatten(1, x.shape[1:-1]), 0.2)


class FoldingDecoder(nn.Module):
    """Draws a patch: a few coarse points, and around each a small square that is folded into place."""

    seed: Tensor

    def __init__(self, n_inputs: int, patch_size: int) -> None:
        super().__init__()
        if patch_size % 4:
            raise ValueError(f"patch_size must be a multiple of four, got {patch_size}")
        self.coarse = nn.Sequential(
            nn.Linear(n_inputs, 1024),
            nn.ReLU(),
            nn.Linear(1024, 1024),
            nn.ReLU(),
            nn.Linear(1024, 3 * patch_size // 4),
        )
        self.fold = nn.Sequential(
            nn.Linear(n_inputs + 5, 512),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Linear(512, 3),
        )
        edge = torch.tensor([-SEED, SEED])
        self.register_buffer(
            "seed", torch.stack([edge.repeat(2), edge.repeat_interleave(2)], 1), persistent=False
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, G, n_inputs) to coarse (B, G, M / 4, 3) and fine (B, G, M, 3) points about the patch's centre."""
        coarse = self.coarse(x).unflatten(-1, (-1, 3))
        near = coarse.repeat_interleave(4, dim=2)
        seed = self.seed.repeat(coarse.shape[2], 1).expand(*near.shape[:3], 2)
        known = x[:, :, None].expand(-1, -1, near.shape[2], -1)
        rows = torch.cat([known, seed, near], -1)
        return coarse, self.fold(rows.flatten(0, 2)).unflatten(0, near.shape[:3]) + near


class DiscreteVae(nn.Module):
    """Patch embedding, logits of words, codebook, and the way back to points."""

    def __init__(self, patch_size: int = 32, width: int = 256, n_words: int = 8192) -> None:
        super().__init__()
        self.embedding = PatchEmbedding(width, (128, 256, 512))
        self.to_words = PatchGraph(width, n_words)
        self.codebook = nn.Parameter(torch.randn(n_words, width))
        self.from_words = PatchGraph(width, width)
        self.decoder = FoldingDecoder(width, patch_size)

    def logits(self, patches: Patches) -> Tensor:
        """Return (B, G, n_words) of every patch."""
        return self.to_words(self.embedding(patches.points), patches.centers)

    def words(self, patches: Patches) -> Tensor:
        """Return (B, G) int64, the word of every patch."""
        return self.logits(patches).argmax(-1)

    def forward(self, patches: Patches) -> tuple[Tensor, Tensor]:
        """Draw patches from their words; return coarse (B, G, M / 4, 3) and fine (B, G, M, 3) points."""
        return self.decoder(self.from_words(self.codebook[self.words(patches)], patches.centers))
