# SPDX-License-Identifier: Apache-2.0
"""Panoptic segmentation: classes as in ``segmentation``, and offsets from voxels to the centres of their objects.

The offsets' loss is the mean distance between predicted and true centres over voxels of objects, an L1 of lengths
(Panoptic-PolarNet, arXiv 2103.14962, takes the L1 of coordinates seen from above; ours has all three and no heat map
of centres, for which there is clustering: ``inference/panoptic.py``). The centre is the middle of what the sweep shows
of the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import Prepared
from pc_perception.models.panoptic_segmenter import PanopticSegmenter
from training.batch import IGNORE, SceneBatch, SceneSample, collate

from .method import Task
from .segmentation import Segmentation, SegmentationModel, class_weights

NOWHERE = torch.empty(0, 3)
SHARE_MOMENTUM = 0.1


@dataclass(frozen=True)
class PanopticSample(SceneSample):
    """A scene with ``offset``: (M, 3) float32 from each voxel to its object's centre, metres, NaN where it has none."""

    offset: Tensor = NOWHERE


@dataclass(frozen=True)
class PanopticBatch(SceneBatch):
    """Scenes behind each other; ``offset`` as in the samples."""

    offset: Tensor = NOWHERE

    def to(self, device: torch.device) -> PanopticBatch:
        """Return the batch with all tensors on ``device``."""
        moved = super().to(device)
        assert isinstance(moved, PanopticBatch)
        return replace(moved, offset=self.offset.to(device))


@dataclass(frozen=True)
class Panoptic(Segmentation):
    """Settings of panoptic segmentation: those of ``Segmentation``, and ``offset``, the weight of the offsets' loss."""

    offset: float = 1.0
    instances: ClassVar[bool] = True

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        super().validate()
        if self.offset < 0:
            raise ValueError(f"method.offset is a weight and must not be negative, it is {self.offset}")

    def sample(self, cloud: PointCloud, rng: Generator, task: Task) -> PanopticSample:
        """Change a labelled cloud at random, prepare it, and find the centres of its objects."""
        if "instance" not in cloud.fields:
            raise ValueError(
                "it has no instance ids; give nuScenes-format data with panoptic labels or SemanticKITTI"
            )
        cloud, sample = self.changed(cloud, rng, task)
        offset = voxel_offsets(cloud.xyz, np.asarray(cloud.fields["instance"]), sample.prepared)
        return PanopticSample(sample.prepared, sample.target, offset=offset)

    def collate(self, samples: Sequence[SceneSample]) -> PanopticBatch:
        """Lay scenes behind each other."""
        offset = torch.cat([s.offset for s in samples if isinstance(s, PanopticSample)])
        return PanopticBatch(**vars(collate(samples)), offset=offset)

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PanopticModel:
        """Return the model with random weights.

        Raises:
            ValueError: the network has no offsets.
        """
        network = task.build_segmenter()
        if not isinstance(network, PanopticSegmenter):
            raise ValueError(
                f"panoptic segmentation needs network=PanopticSegmenter, not {type(network).__name__}"
            )
        return PanopticModel(network, torch.from_numpy(class_weights(class_counts, self.weight_cap)), self)


class PanopticModel(SegmentationModel):
    """A segmenter with offsets, and the losses of both."""

    network: PanopticSegmenter
    settings: Panoptic

    def task_losses(self, features: Tensor, batch: SceneBatch) -> dict[str, Tensor]:
        """Return the losses, the share of voxels that are right, and how far off centres are, metres."""
        out = super().task_losses(features, batch)
        assert isinstance(batch, PanopticBatch)
        known = batch.offset.isfinite().all(1)
        if self.training:
            self._count(batch.target, known)
        found = self.network.offset(features[known]).float()
        # The sum of nothing keeps gradients defined where a batch shows no object.
        error = (found - batch.offset[known]).norm(dim=1).mean() if known.any() else found.sum()
        return out | {"loss_offset": self.settings.offset * error, "offset_m": error.detach()}

    def _count(self, target: Tensor, known: Tensor) -> None:
        """Move the share of voxels of objects of every class that the batch shows."""
        share = self.network.object_share
        labelled = target != IGNORE
        every = torch.bincount(target[labelled], minlength=len(share))
        own = torch.bincount(target[labelled & known], minlength=len(share))
        seen = every > 0
        share[seen] = share[seen].lerp(own[seen] / every[seen], SHARE_MOMENTUM)


def voxel_offsets(xyz: NDArray[np.float32], instance: NDArray, prepared: Prepared) -> Tensor:
    """Return the (M, 3) offsets of ``PanopticSample``.

    Args:
        xyz: (N, 3) metres.
        instance: (N,) ids of objects, 0 for none.
        prepared: of these points.
    """
    row = prepared.inverse.numpy()
    known = (instance > 0) & (row >= 0)
    ids, own = np.unique(instance[known], return_inverse=True)
    low, high = np.full((len(ids), 3), np.inf, np.float32), np.full((len(ids), 3), -np.inf, np.float32)
    np.minimum.at(low, own, xyz[known])
    np.maximum.at(high, own, xyz[known])
    place = prepared.pyramid.levels[0].xyz.numpy()
    owner = np.full(len(place), -1)
    owner[row[known]] = own
    center = np.concatenate([(low + high) / 2, np.full((1, 3), np.nan, np.float32)])
    return torch.from_numpy(center[owner] - place)
