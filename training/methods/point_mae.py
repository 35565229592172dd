# SPDX-License-Identifier: Apache-2.0
"""Point-MAE: hide most patches of an object and draw them from the rest.

Source: Pang et al., "Masked autoencoders for point cloud self-supervised learning", arXiv 2203.06604; constants as
in the public code. The loss is equation 5, Chamfer distance (squared) of each
hidden patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from pc_perception.cloud import PointCloud
from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.patches import Patches
from pc_perception.models.transformer import Transformer, initialise, position_mlp
from pc_perception.ops.chamfer import chamfer_distance
from training.objects import ObjectBatch, ObjectSample, collate_objects, draw_object

from .method import Task
from .model import TrainingModel


class ObjectPretraining:
    """What all methods do that learn from objects without labels: samples, batches, an encoder to deploy."""

    task: ClassVar[str] = "encoder"

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> ObjectSample:
        """Draw the points of one object."""
        return ObjectSample(draw_object(cloud, rng, task.contract, task.augmentation))

    def collate(self, samples: Sequence[ObjectSample]) -> ObjectBatch:
        """Lay objects behind each other."""
        return collate_objects(samples)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the encoder, under the name that classifiers use."""
        return nn.ModuleDict({"encoder": model.encoder})


@dataclass(frozen=True)
class PointMae(ObjectPretraining):
    """Settings of Point-MAE.

    Attributes:
        mask: share of the patches that is hidden.
        decoder_depth: blocks of the decoder, as wide as the encoder's.
    """

    mask: float = 0.6
    decoder_depth: int = 4

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if not 0 < self.mask < 1 or self.decoder_depth < 1:
            raise ValueError("method.mask must lie between 0 and 1, decoder_depth be at least 1")

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PointMaeModel:
        """Return encoder and decoder with random weights."""
        return PointMaeModel(ObjectEncoder(**task.encoder), self)


def random_mask(n_objects: int, n_patches: int, share: float, device: torch.device) -> Tensor:
    """Choose int(share * n_patches) patches of each object, uniformly: (B, G) bool, True is hidden."""
    order = torch.rand(n_objects, n_patches, device=device).argsort(1)
    hidden = torch.zeros_like(order, dtype=torch.bool)
    return hidden.scatter_(1, order[:, : int(share * n_patches)], True)


def split(mask: Tensor, n_hidden: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the patches that (B, G) ``mask`` leaves and those it hides, each (B, K) int64, ascending.

    The mask hides equally many patches of every object: ``n_hidden``, counted if not given, which waits for the
    device.
    """
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    n_seen = mask.shape[1] - (int(mask[0].sum()) if n_hidden is None else n_hidden)
    return order[:, :n_seen], order[:, n_seen:]


def rows(x: Tensor, index: Tensor) -> Tensor:
    """Take the tokens ``index`` (B, K) of each object out of (B, G, C)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


class PatchDecoder(nn.Module):
    """Transformer whose tokens each become the points of a patch."""

    def __init__(self, width: int, depth: int, heads: int, patch_size: int) -> None:
        super().__init__()
        self.transformer = Transformer(width, depth, heads, drop_path=0.1)
        self.head = nn.Linear(width, 3 * patch_size)

    def forward(self, x: Tensor, position: Tensor | None = None, last: int = 0) -> Tensor:
        """Map (B, T, C) to (B, T, M, 3), of the ``last`` tokens alone if given."""
        return self.head(self.transformer(x, position)[:, -last:]).unflatten(-1, (-1, 3))


class PointMaeModel(TrainingModel):
    """Encoder, mask token and decoder."""

    def __init__(self, encoder: ObjectEncoder, settings: PointMae) -> None:
        super().__init__()
        if encoder.causal:
            raise ValueError("Point-MAE's patches see each other: encoder.causal must be false")
        self.encoder, self.settings = encoder, settings
        heads = encoder.transformer.blocks[0].attn.heads
        self.mask_token = nn.Parameter(torch.zeros(1, 1, encoder.width))
        self.decoder_position = position_mlp(encoder.width)
        self.decoder = PatchDecoder(encoder.width, settings.decoder_depth, heads, encoder.patch_size)
        for part in (self.decoder_position, self.decoder):
            part.apply(initialise)
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.04, b=0.04)

    def losses(self, batch: ObjectBatch) -> dict[str, Tensor]:
        """Return the Chamfer distance of hidden patches."""
        patches = self.encoder.patches(batch.points, batch.offsets)
        return {"loss_chamfer": self.pretext(patches, self.encoder.embedding(patches.points))}

    def pretext(self, patches: Patches, tokens: Tensor) -> Tensor:
        """Hide patches at random, encode the others, draw the hidden ones.

        Args:
            tokens: (B, G, C), the embedded patches.
        """
        hidden = random_mask(*tokens.shape[:2], self.settings.mask, tokens.device)
        seen, unseen = split(hidden, int(self.settings.mask * tokens.shape[1]))
        centers = patches.centers
        encoded = self.encoder.mix(rows(tokens, seen), self.encoder.position(rows(centers, seen)))
        encoded = encoded[:, self.encoder.n_extra :]
        mask_tokens = self.mask_token.expand(len(tokens), unseen.shape[1], -1)
        place = self.decoder_position(torch.cat([rows(centers, seen), rows(centers, unseen)], 1))
        drawn = self.decoder(torch.cat([encoded, mask_tokens], 1), place, last=unseen.shape[1])
        target = patches.take(unseen).points
        return chamfer_distance(drawn.flatten(0, 1).float(), target.flatten(0, 1))
