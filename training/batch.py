# SPDX-License-Identifier: Apache-2.0
"""From prepared scenes to one batch: pyramids packed, one label per voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.inference.contract import Prepared
from pc_perception.labels import UNLABELED
from pc_perception.models.pyramid import Pyramid, pack

IGNORE = -1
"""Target of a voxel without labelled points."""


@dataclass(frozen=True)
class SceneSample:
    """One scene of a batch.

    Attributes:
        prepared: what the network takes.
        target: (M,) int64 class of each voxel, ``IGNORE`` where unknown.
        bad: names of samples that could not be read and were replaced by this one, with the reason.
    """

    prepared: Prepared
    target: Tensor
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class SceneBatch:
    """Scenes behind each other; scene s owns the finest level's rows offsets[s] .. offsets[s + 1]."""

    features: Tensor
    pyramid: Pyramid
    target: Tensor
    n_scenes: int
    bad: tuple[str, ...] = ()

    def to(self, device: torch.device) -> SceneBatch:
        """Return the batch with all tensors on ``device``."""
        if self.features.device == device:
            return self
        features, target = self.features.to(device), self.target.to(device)
        return replace(self, features=features, target=target, pyramid=self.pyramid.to(device))


def voxel_labels(labels: NDArray[np.uint16], inverse: Tensor, n_voxels: int, n_classes: int) -> Tensor:
    """Return the commonest label of each voxel's labelled points, the lowest id where two tie.

    Args:
        labels: (N,) uint16, 0 .. C-1 or ``UNLABELED``.
        inverse: (N,) int64 voxel of every point, -1 where outside.

    Returns:
        (M,) int64, ``IGNORE`` for a voxel without labelled points.

    Raises:
        ValueError: a label is neither below ``n_classes`` nor ``UNLABELED``.
    """
    rows = inverse.numpy()
    known = (labels != UNLABELED) & (rows >= 0)
    chosen = labels[known].astype(np.int64)
    if len(chosen) and chosen.max() >= n_classes:
        raise ValueError(f"label {chosen.max()} is not one of the {n_classes} classes; map the raw ids first")
    counts = np.bincount(rows[known] * n_classes + chosen, minlength=n_voxels * n_classes)
    counts = counts.reshape(n_voxels, n_classes)
    target = counts.argmax(1)
    target[counts.sum(1) == 0] = IGNORE
    return torch.from_numpy(target)


def collate(samples: Sequence[SceneSample]) -> SceneBatch:
    """Lay scenes behind each other."""
    return SceneBatch(
        features=torch.cat([s.prepared.features for s in samples]),
        pyramid=pack([s.prepared.pyramid for s in samples]),
        target=torch.cat([s.target for s in samples]),
        n_scenes=len(samples),
        bad=tuple(name for s in samples for name in s.bad),
    )
