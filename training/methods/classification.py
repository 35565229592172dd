# SPDX-License-Identifier: Apache-2.0
"""Supervised classification of objects: the whole network, or a head on a frozen encoder.

Protocols as in the public codes of Point-MAE and Point-PQAE.
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
from pc_perception.models.object_encoder import ObjectClassifier, ObjectEncoder
from pc_perception.models.voxel_objects import VoxelObjectEncoder
from pc_perception.models.walks import Walk
from training.objects import ObjectBatch, ObjectSample, collate_objects, draw_object, object_label

from .host import Encoded, HostModel
from .method import Task
from .object_host import encode_objects
from .segmentation import class_weights

MODES = {"full": "mlp3", "mlp3": "mlp3", "linear": "linear"}
"""What is trained -> head: everything, or the head alone (with the class token, as in the published code)."""
HOSTS = {
    "patches": ("ObjectClassifier", ObjectEncoder),
    "voxels": ("VoxelObjectClassifier", VoxelObjectEncoder),
}
"""What objects are encoded by -> architecture in the model file, class of the encoder."""


@dataclass(frozen=True)
class Classification:
    """Settings of supervised classification.

    Attributes:
        mode: ``full``, ``mlp3`` or ``linear``.
        host: ``patches`` (Point-MAE's transformer) or ``voxels`` (PointCSP's encoder).
        label_smoothing: of the cross-entropy; the published protocols use none.
        weight_cap: of the losses of rare classes, 1 / sqrt(frequency) with mean 1, at most this; 0 for no weights, as
            in the published protocols.
        still: a frozen encoder also runs as at inference; False is the published code, where batch norms of the
            patch embedding still follow the data and paths are dropped.
    """

    mode: str = "full"
    host: str = "patches"
    label_smoothing: float = 0.0
    weight_cap: float = 0.0
    still: bool = False
    task: ClassVar[str] = "classification"

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if self.mode not in MODES or not 0 <= self.label_smoothing < 1 or self.weight_cap < 0:
            raise ValueError(
                f"method.mode must be one of {', '.join(MODES)}, label_smoothing lie in 0 .. 1 and weight_cap not"
                f" be negative; got '{self.mode}', {self.label_smoothing}, {self.weight_cap}"
            )
        if self.host not in HOSTS:
            raise ValueError(f"method.host must be one of {', '.join(HOSTS)}; got '{self.host}'")

    def architecture(self, encoder: dict[str, Any]) -> dict[str, Any]:
        """Return what the model file says about its network."""
        return {"name": HOSTS[self.host][0], "arguments": {**encoder, "head": MODES[self.mode]}}

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> ObjectSample:
        """Draw the points of one labelled object."""
        label = object_label(cloud, task.n_classes)
        return ObjectSample(draw_object(cloud, rng, task.contract, task.augmentation), label)

    def collate(self, samples: Sequence[ObjectSample]) -> ObjectBatch:
        """Lay objects behind each other."""
        return collate_objects(samples)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> ClassificationModel:
        """Return the model with random weights."""
        encoder = HOSTS[self.host][1](**task.encoder)
        network = ObjectClassifier(encoder, task.n_classes, MODES[self.mode])
        weights = class_weights(class_counts, self.weight_cap) if self.weight_cap else np.ones(task.n_classes)
        return ClassificationModel(network, torch.from_numpy(weights).float(), self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the classifier."""
        assert isinstance(model, ClassificationModel)
        return model.network


class ClassificationModel(HostModel):
    """A classifier with its loss."""

    weights: Tensor

    def __init__(self, network: ObjectClassifier, weights: Tensor, settings: Classification) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.level_widths = tuple(getattr(network.encoder, "widths", ()))
        self.register_buffer("weights", weights, persistent=False)
        if settings.mode != "full":
            for name, parameter in network.encoder.named_parameters():
                parameter.requires_grad_(name.startswith("class_"))

    def train(self, mode: bool = True) -> ClassificationModel:
        """Set training mode; a frozen encoder may stay as at inference."""
        super().train(mode)
        if self.settings.still and self.settings.mode != "full":
            self.network.encoder.eval()
        return self

    def encode(self, batch: ObjectBatch, walk: Walk) -> Encoded:
        """Encode objects to one row each."""
        if self.training and batch.n_scenes < 2:
            raise ValueError("batch norms need two objects in a batch or more; raise batch_size")
        return encode_objects(self.network.encoder, batch, walk)

    def task_losses(self, features: Tensor, batch: ObjectBatch) -> dict[str, Tensor]:
        """Return the cross-entropy and the share of objects that are right."""
        logits = self.network.head(features).float()
        smoothing = self.settings.label_smoothing
        loss = functional.cross_entropy(logits, batch.labels, self.weights, label_smoothing=smoothing)
        return {"loss_ce": loss, "accuracy": (logits.argmax(1) == batch.labels).float().mean()}
