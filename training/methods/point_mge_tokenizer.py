# SPDX-License-Identifier: Apache-2.0
"""Point-MGE, stage 1: a codebook of patches, learned by drawing the occupancy of the whole shape from it.

Source: "Masked generative extractor for synergistic representation and 3D generation of point clouds", arXiv
2406.17342; what it does not say is 3DILG's. Loss of 3DILG: BCE at places anywhere
+ 0.1 BCE near the surface + the quantiser's + 1e-4 mean(exp(log sigma)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from pc_perception.models.codebook import perplexity
from pc_perception.models.field_decoder import field_iou, occupancy_loss
from pc_perception.models.patches import Patches
from pc_perception.models.shape_tokenizer import ShapeTokenizer
from training.shape_fields import FieldBatch, FieldRecord, FieldSample, collate_fields, draw_field

from .method import Task
from .model import TrainingModel

LEAST_PERPLEXITY = 4.0
"""A codebook has collapsed when a batch is spread over less than this."""
PATIENCE = 100
"""Steps that a collapsed codebook is given to recover by its restarts."""


@dataclass(frozen=True)
class PointMgeTokenizer:
    """Settings of stage 1.

    Attributes:
        n_queries: places anywhere, and as many near the surface, of each shape and step.
        near, spread: weights of the loss near the surface and of mean(exp(log sigma)).
        worn: share of the shapes whose patches lose points and are noisy, as a sensor's are. Ours.
    """

    n_queries: int = 1024
    near: float = 0.1
    spread: float = 1e-4
    worn: float = 0.0
    task: ClassVar[str] = "tokenizer"

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if self.n_queries < 1 or min(self.near, self.spread) < 0 or not 0 <= self.worn <= 1:
            raise ValueError(
                "method.n_queries must be at least 1, near and spread not negative, worn in 0 .. 1"
            )

    def architecture(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return what the model file says about its network."""
        return {"name": "ShapeTokenizer", "arguments": arguments}

    def sample(self, record: FieldRecord, rng: Generator, task: Task) -> FieldSample:
        """Draw points and places of one shape."""
        return draw_field(record, rng, task.contract.n_points, self.n_queries)

    def collate(self, samples: Sequence[FieldSample]) -> FieldBatch:
        """Stack shapes."""
        return collate_fields(samples)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PointMgeTokenizerModel:
        """Return the tokenizer with random weights."""
        return PointMgeTokenizerModel(ShapeTokenizer(**task.encoder), self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the tokenizer."""
        assert isinstance(model, PointMgeTokenizerModel)
        return model.tokenizer


class PointMgeTokenizerModel(TrainingModel):
    """The tokenizer with its losses."""

    def __init__(self, tokenizer: ShapeTokenizer, settings: PointMgeTokenizer) -> None:
        super().__init__()
        self.tokenizer, self.settings = tokenizer, settings
        self.used, self.collapsed = torch.tensor(torch.inf), 0

    def losses(self, batch: FieldBatch) -> dict[str, Tensor]:
        """Return the losses, the IoU at places anywhere, and how evenly the codes are used."""
        patches = wear(self.tokenizer.patches(batch.points), self.settings.worn)
        logits, found = self.tokenizer(patches, batch.queries.flatten(1, 2))
        vol, near = logits.unflatten(1, (2, -1)).unbind(1)
        self.used = perplexity(found.ids.flatten(), self.tokenizer.n_codes)
        sigma = self.tokenizer.field_decoder.log_sigma
        return {
            "loss_vol": occupancy_loss(vol, batch.occupied[:, 0]),
            "loss_near": self.settings.near * occupancy_loss(near, batch.occupied[:, 1]),
            "loss_vq": found.loss,
            "loss_sigma": self.settings.spread * sigma.exp().mean(),
            "iou": field_iou(vol.detach(), batch.occupied[:, 0]).mean(),
            "perplexity": self.used,
        }

    def after_step(self, fraction: float) -> None:
        """Stop where the codebook has collapsed and its restarts do not help.

        Raises:
            ValueError: it has.
        """
        used = float(self.used)
        self.collapsed = self.collapsed + 1 if used < LEAST_PERPLEXITY else 0
        if self.collapsed >= PATIENCE:
            raise ValueError(
                f"the codebook has collapsed: for {PATIENCE} steps batches were spread over {used:.1f} of "
                f"{self.tokenizer.n_codes} codes, restarts included; lower lr, or use encoder.update=ema"
            )


def wear(patches: Patches, share: float) -> Patches:
    """Return patches of which a share of the shapes has a quarter of its points or more, moved by 0.01 or less.

    Lost points are replaced by others of their patch, as ``make_patches`` does where there are too few.
    """
    points = patches.points
    n, m = len(points), points.shape[2]
    worn = torch.rand(n, 1, 1, device=points.device) < share
    kept = torch.randint(m // 4, m + 1, (n, 1, 1), device=points.device)
    turn = torch.arange(m, device=points.device).expand(n, 1, m)
    order = torch.rand(points.shape[:3], device=points.device).argsort(2)
    rows = torch.where(worn, order.gather(2, (turn % kept).expand_as(order)), turn)
    noise = 0.01 * torch.rand(n, 1, 1, 1, device=points.device) * torch.randn_like(points)
    thinned = points.gather(2, rows[..., None].expand_as(points))
    return replace(patches, points=thinned + noise * worn[..., None])
