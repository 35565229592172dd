# SPDX-License-Identifier: Apache-2.0
"""Pre-training in PointGPT's manner: draw each patch of a walk from the patches before it, of which many are hidden.

Source: Chen et al., "PointGPT: auto-regressively generative pre-training from point clouds", arXiv 2305.11487;
constants as in the public code. PointACL's second host. Blocks are the pre-norm ones
of ``models.transformer``; the public code adds the normed input to attention's output instead, so its
checkpoints are not offered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.patches import Patches
from pc_perception.models.transformer import Transformer, initialise
from pc_perception.ops.chamfer import chamfer_distance
from training.objects import ObjectBatch

from .method import Task
from .model import TrainingModel
from .point_mae import ObjectPretraining


@dataclass(frozen=True)
class PointGpt(ObjectPretraining):
    """Settings of the causal pre-training.

    Attributes:
        mask: share of the patches after the first ``keep`` that no other patch sees.
        keep: patches at the start of the walk that are never hidden.
        decoder_depth: blocks of the generator, as wide as the encoder's.
    """

    mask: float = 0.7
    keep: int = 10
    decoder_depth: int = 4

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if not 0 <= self.mask < 1 or self.keep < 1 or self.decoder_depth < 1:
            raise ValueError(
                "method.mask must lie in 0 .. 1, method.keep and decoder_depth must be at least 1"
            )

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PointGptModel:
        """Return extractor and generator with random weights."""
        return PointGptModel(ObjectEncoder(**task.encoder), self)


def dual_mask(n_patches: int, keep: int, share: float, device: torch.device) -> Tensor:
    """Return where a patch may look, (G, G) bool: at itself, and at those before it that are not hidden.

    int(share * (G - keep)) of the patches after the first ``keep`` are hidden, the same from all.
    """
    free = max(n_patches - keep, 0)
    hidden = torch.zeros(n_patches, dtype=torch.bool, device=device)
    hidden[keep + torch.randperm(free, device=device)[: int(share * free)]] = True
    causal = torch.ones(n_patches, n_patches, dtype=torch.bool, device=device).tril()
    return causal & (~hidden | torch.eye(n_patches, dtype=torch.bool, device=device))


def directions(centers: Tensor) -> Tensor:
    """Return (B, G, 3): the first centre, then the unit step to each centre from the one before."""
    return torch.cat([centers[:, :1], functional.normalize(centers.diff(dim=1), dim=2)], 1)


class PointGptModel(TrainingModel):
    """Extractor (the encoder to keep) and generator."""

    def __init__(self, encoder: ObjectEncoder, settings: PointGpt) -> None:
        super().__init__()
        if not encoder.causal or encoder.order == "sampled":
            raise ValueError(
                "patches come one after the other: set encoder.causal=true and encoder.order=walk"
            )
        self.encoder, self.settings = encoder, settings
        heads = encoder.transformer.blocks[0].attn.heads
        self.start_token = nn.Parameter(torch.randn(1, 1, encoder.width))
        self.start_position = nn.Parameter(torch.zeros(1, 1, encoder.width))
        self.generator = Transformer(encoder.width, settings.decoder_depth, heads)
        self.head = nn.Linear(encoder.width, 3 * encoder.patch_size)
        for part in (self.generator, self.head):
            part.apply(initialise)

    def losses(self, batch: ObjectBatch) -> dict[str, Tensor]:
        """Return the distance of drawn patches from true ones."""
        patches = self.encoder.patches(batch.points, batch.offsets)
        return {"loss_chamfer": self.pretext(patches, self.encoder.embedding(patches.points))}

    def pretext(self, patches: Patches, tokens: Tensor) -> Tensor:
        """Draw every patch from those before it (CD-L1 + CD-L2); it is told in which direction the patch lies.

        Args:
            tokens: (B, G, C), the embedded patches.
        """
        n_objects, n_patches = tokens.shape[:2]
        mask = dual_mask(n_patches, self.settings.keep, self.settings.mask, tokens.device)
        before = torch.cat([self.start_token.expand(n_objects, -1, -1), tokens[:, :-1]], 1)
        place = self.encoder.position(patches.centers[:, :-1])
        place = torch.cat([self.start_position.expand(n_objects, -1, -1), place], 1)
        x = self.encoder.mix(before, place, mask)[:, self.encoder.n_extra :]
        x = self.generator(x, self.encoder.position(directions(patches.centers)), mask)
        drawn = self.head(x).unflatten(-1, (-1, 3)).flatten(0, 1).float()
        target = patches.points.flatten(0, 1)
        return chamfer_distance(drawn, target, "l1") + chamfer_distance(drawn, target)
