# SPDX-License-Identifier: Apache-2.0
"""Supervised segmentation of objects into parts, and of S3DIS's blocks, as Point-MAE's family does it.

The published scripts of this family step the optimiser twice per batch; here it steps once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.cloud import PointCloud
from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.object_parts import ObjectPartSegmenter
from pc_perception.models.walks import Walk
from training.batch import IGNORE
from training.objects import ObjectBatch, ObjectSample, collate_objects, draw_with_rows

from .host import Encoded, HostModel
from .method import Task
from .object_host import block_outputs


@dataclass(frozen=True)
class PartSegmentation:
    """Settings of part segmentation.

    Attributes:
        n_categories: of objects, whose number goes into the head (ShapeNetPart: 16); 0 for blocks of scenes.
        unit_sphere: put objects on the unit sphere; False keeps metres, as the protocol of blocks has it.
        class_weights: of the loss, empty for equal ones; ``S3DISBlocks.class_weights`` gives the published.
    """

    n_categories: int = 16
    unit_sphere: bool = True
    class_weights: tuple[float, ...] = ()
    task: ClassVar[str] = "parts"

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if self.n_categories < 0 or any(not w > 0 for w in self.class_weights):
            raise ValueError("method.n_categories must not be negative, class_weights be positive")

    def architecture(self, encoder: dict[str, Any]) -> dict[str, Any]:
        """Return what the model file says about its network."""
        return {"name": "ObjectPartSegmenter", "arguments": {**encoder, "n_categories": self.n_categories}}

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> ObjectSample:
        """Draw the points of one object with their labels.

        Raises:
            ValueError: it has no labels, none of the target set, or no category where one is needed.
        """
        category = getattr(cloud, "category", -1)
        if self.n_categories and not 0 <= category < self.n_categories:
            raise ValueError(f"category {category} is none of the {self.n_categories}")
        if "label" not in cloud.fields:
            raise ValueError("its points have no labels")
        points, rows = draw_with_rows(cloud, rng, task.contract, task.augmentation, self.unit_sphere)
        parts = np.asarray(cloud.fields["label"])[rows].astype(np.int64)
        parts = np.where(parts < task.n_classes, parts, IGNORE)
        if (parts == IGNORE).all():
            raise ValueError(f"none of its points has one of the {task.n_classes} labels")
        return ObjectSample(points, category, parts=torch.from_numpy(parts))

    def collate(self, samples: Sequence[ObjectSample]) -> ObjectBatch:
        """Lay objects behind each other."""
        return collate_objects(samples)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PartModel:
        """Return the model with random weights."""
        if self.class_weights and len(self.class_weights) != task.n_classes:
            raise ValueError(f"{len(self.class_weights)} class_weights for {task.n_classes} classes")
        weights = torch.tensor(self.class_weights or [1.0] * task.n_classes)
        network = ObjectPartSegmenter(ObjectEncoder(**task.encoder), task.n_classes, self.n_categories)
        return PartModel(network, weights)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the segmenter."""
        assert isinstance(model, PartModel)
        return model.network


class PartModel(HostModel):
    """A segmenter of parts with its loss."""

    weights: Tensor

    def __init__(self, network: ObjectPartSegmenter, weights: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("weights", weights, persistent=False)

    def encode(self, batch: ObjectBatch, walk: Walk) -> Encoded:
        """Encode objects to one row for each patch."""
        encoder = self.network.encoder
        steps = block_outputs(encoder, encoder.patches(batch.points, batch.offsets), walk)
        return Encoded(self.network.tokens(steps).flatten(0, 1))

    def task_losses(self, features: Tensor, batch: ObjectBatch) -> dict[str, Tensor]:
        """Return the cross-entropy over points and the share that is right."""
        if self.training and batch.n_scenes < 2:
            raise ValueError("batch norms need two objects in a batch or more; raise batch_size")
        centers = self.network.encoder.patches(batch.points, batch.offsets).centers
        tokens = features.unflatten(0, centers.shape[:2])
        logits = self.network.label(tokens, centers, batch.points, batch.offsets, batch.labels).float()
        assert batch.parts is not None
        loss = functional.cross_entropy(logits, batch.parts, self.weights, ignore_index=IGNORE)
        known = batch.parts != IGNORE
        return {"loss_ce": loss, "accuracy": (logits.argmax(1) == batch.parts)[known].float().mean()}
