# SPDX-License-Identifier: Apache-2.0
"""What a training method is to the runner: samples in, a loss, and the part that becomes a model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from torch import nn

from pc_perception.cloud import PointCloud
from pc_perception.inference.architectures import Contract
from pc_perception.models.segmenters import SEGMENTERS, Architecture
from training.augment import Augmentation
from training.objects import ObjectAugmentation


@dataclass(frozen=True)
class Task:
    """What a method works on.

    Attributes:
        contract: the network's input.
        n_classes: of the target label set; 0 without labels.
        n_levels: depth of the encoder's pyramid; 0 for objects, which have none.
        encoder: arguments of the encoder.
        network: what the encoder and the segmenter of scenes are built by.
        augmentation: random changes of clouds.
    """

    contract: Contract
    n_classes: int
    n_levels: int
    encoder: dict[str, Any]
    augmentation: Augmentation | ObjectAugmentation
    network: Architecture = SEGMENTERS["SceneSegmenter"]

    def build_encoder(self) -> Any:
        """Return the encoder with random weights."""
        return self.network.build_encoder(self.contract.n_features, self.encoder)

    def build_segmenter(self) -> Any:
        """Return the segmenter with random weights."""
        return self.network.build(self.contract.n_features, self.n_classes, self.encoder)


class Method(Protocol):
    """One way to train; a frozen dataclass of its settings.

    With a class attribute ``cameras = True`` its clouds come with pictures, with ``instances = True`` with the ids of
    objects, with ``boxes = True`` with boxes instead of labels, where the data has them.
    """

    task: ClassVar[str]
    """``task`` of the model file it leaves: ``segmentation``, ``classification``, ``detection``, ``encoder``, or
    ``image_trunk`` (tensors alone)."""

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> Any:
        """Turn a cloud into one training sample; its attribute ``bad`` can be set by ``replace``.

        Raises:
            ValueError: the cloud is of no use; the message says why.
        """

    def collate(self, samples: Sequence[Any]) -> Any:
        """Join samples to a batch with ``to(device)``, ``n_scenes`` and ``bad``."""

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> nn.Module:
        """Return an mmengine ``BaseModel`` whose ``forward(batch, mode="loss")`` gives losses."""

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the part of a built model whose tensors go into the model file."""
