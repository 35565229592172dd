# SPDX-License-Identifier: Apache-2.0
"""What a supervised method's model offers to the wrappers around it (``spd.py``): encoding apart from losses."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from pc_perception.models.pyramid import Level
from pc_perception.models.walks import Walk, along_curves

from .model import TrainingModel


class Encoded(NamedTuple):
    """Features of a batch.

    Attributes:
        features: (M, C) the last ones before the head, one row per token of the packed scenes.
        levels: (M_l, C_l) features of the encoder's levels with their voxels; empty where there are none.
    """

    features: Tensor
    levels: tuple[tuple[Tensor, Level], ...] = ()


class HostModel(TrainingModel):
    """A model whose encoder can be led from scene to scene by a ``Walk``; alone, every scene stays apart."""

    def encode(self, batch: Any, walk: Walk) -> Encoded:
        """Encode a batch."""
        raise NotImplementedError

    def task_losses(self, features: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return the losses of the task from ``Encoded.features``."""
        raise NotImplementedError

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the losses of the task, every scene by itself."""
        return self.task_losses(self.encode(batch, along_curves).features, batch)
