# SPDX-License-Identifier: Apache-2.0
"""Supervised segmentation: cross-entropy and Lovász-softmax on voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.cloud import PointCloud
from pc_perception.inference.upright import UPRIGHT_FRAME, upright
from pc_perception.models.segmenters import AnySegmenter
from pc_perception.models.walks import Walk
from training.batch import IGNORE, SceneBatch, SceneSample, collate, voxel_labels

from .host import Encoded, HostModel, encode_scenes, level_widths
from .method import Task

MIN_POINTS, MIN_VOXELS = 50, 10
"""A cloud with less is of no use; a camera close to a wall sees few voxels."""


@dataclass(frozen=True)
class Segmentation:
    """Settings of supervised segmentation.

    Attributes:
        label_smoothing: of the cross-entropy.
        lovasz: weight of the Lovász-softmax loss (arXiv 1705.08790).
        weight_cap: class weights are 1 / sqrt(frequency), with mean 1 over voxels, at most this.
    """

    label_smoothing: float = 0.05
    lovasz: float = 1.0
    weight_cap: float = 4.0
    task: ClassVar[str] = "segmentation"

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if not 0 <= self.label_smoothing < 1 or self.lovasz < 0 or self.weight_cap <= 0:
            raise ValueError("label_smoothing must lie in 0 .. 1, lovasz be >= 0 and weight_cap > 0")

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> SceneSample:
        """Change a labelled cloud at random and prepare it as inference would."""
        return self.changed(cloud, rng, task)[1]

    def changed(self, cloud: PointCloud, rng: Generator, task: Task) -> tuple[PointCloud, SceneSample]:
        """Return the cloud as it was changed too, for what a method needs of it beyond classes."""
        if "label" not in cloud.fields:
            raise ValueError("it has no labels; give labelled clouds or use a method that needs none")
        cloud = task.augmentation(standing(cloud, task), rng)
        if len(cloud) < MIN_POINTS:
            raise ValueError(f"only {len(cloud)} finite points, at least {MIN_POINTS} are needed")
        prepared = task.contract.prepare(cloud, task.n_levels)
        labels = np.asarray(cloud.fields["label"])
        target = voxel_labels(labels, prepared.inverse, len(prepared.features), task.n_classes)
        if len(target) < MIN_VOXELS:
            raise ValueError(f"only {len(target)} voxels in range, at least {MIN_VOXELS} are needed")
        return cloud, SceneSample(prepared, target)

    def collate(self, samples: Sequence[SceneSample]) -> SceneBatch:
        """Lay scenes behind each other."""
        return collate(samples)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> SegmentationModel:
        """Return the model with random weights."""
        weights = torch.from_numpy(class_weights(class_counts, self.weight_cap))
        return SegmentationModel(task.build_segmenter(), weights, self)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Return the segmenter."""
        assert isinstance(model, SegmentationModel)
        return model.network


def standing(cloud: PointCloud, task: Task) -> PointCloud:
    """Turn a camera's cloud upright before anything rotates it, where the contract would do so."""
    if not task.contract.level_camera:
        return cloud
    return replace(cloud, xyz=upright(cloud), frame=UPRIGHT_FRAME, grid_shape=None)


def class_weights(counts: NDArray[np.int64], cap: float) -> NDArray[np.float32]:
    """Return (C,) float32 weights 1 / sqrt(frequency), mean 1 over samples, capped; 1 for unseen classes."""
    share = counts / max(counts.sum(), 1)
    seen = share > 0
    weights = np.ones(len(counts))
    weights[seen] = share[seen] ** -0.5
    weights[seen] /= (share[seen] * weights[seen]).sum()
    return np.minimum(weights, cap).astype(np.float32)


def lovasz_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the Lovász extension of 1 - IoU, mean over the classes that are present.

    Source: Berman, Triki, Blaschko, arXiv 1705.08790, equations 9 and 11, all samples as one image.

    Args:
        logits: (M, C) float.
        target: (M,) int64; ``IGNORE`` is left out.

    Returns:
        Scalar; 0 where nothing is labelled.
    """
    known = target != IGNORE
    probability = logits[known].float().softmax(1)
    if not len(probability):
        return logits.sum() * 0
    hit = functional.one_hot(target[known], logits.shape[1]).to(probability.dtype)
    hit, probability = hit[:, hit.sum(0) > 0], probability[:, hit.sum(0) > 0]
    error, order = (hit - probability).abs().sort(0, descending=True)
    hit = hit.gather(0, order)
    total = hit.sum(0)
    missed = 1 - (total - hit.cumsum(0)) / (total + (1 - hit).cumsum(0))
    step = torch.cat([missed[:1], missed.diff(dim=0)])
    return (error * step).sum(0).mean()


class SegmentationModel(HostModel):
    """A segmenter with its two losses."""

    def __init__(self, network: AnySegmenter, weights: Tensor, settings: Segmentation) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.level_widths = level_widths(network.encoder)
        self.register_buffer("weights", weights, persistent=False)

    def encode(self, batch: SceneBatch, walk: Walk) -> Encoded:
        """Return what the head takes, and the encoder's features of every level."""
        return encode_scenes(self.network.encoder, (batch.features, batch.pyramid), walk)

    def task_losses(self, features: Tensor, batch: SceneBatch) -> dict[str, Tensor]:
        """Return both losses and the share of voxels that are right."""
        logits, target = self.network.head(features), batch.target
        known = target != IGNORE
        if not known.any():
            return {"loss_ce": logits.sum() * 0}
        ce = functional.cross_entropy(
            logits.float(),
            target,
            weight=self.weights,
            ignore_index=IGNORE,
            label_smoothing=self.settings.label_smoothing,
        )
        out = {"loss_ce": ce}
        if self.settings.lovasz:
            out["loss_lovasz"] = self.settings.lovasz * lovasz_softmax(logits, target)
        out["accuracy"] = (logits.argmax(1) == target)[known].float().mean()
        return out
