# SPDX-License-Identifier: Apache-2.0
"""What a supervised method's model offers to the wrappers around it (``spd.py``): encoding apart from losses."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from pc_perception.models.pyramid import Level, Pyramid
from pc_perception.models.scene_encoder import SceneEncoder
from pc_perception.models.sparse_unet import SparseUNet
from pc_perception.models.walks import Walk, along_curves

from .model import TrainingModel


class Encoded(NamedTuple):
    """Features of a batch.

    Attributes:
        features: (M, C) the last ones before the head, one row per token of the packed scenes, or per object.
        levels: (M_l, C_l) features of the encoder's levels with their voxels; empty where there are none.
    """

    features: Tensor
    levels: tuple[tuple[Tensor, Level], ...] = ()


def encode_scenes(encoder: SceneEncoder | SparseUNet, batch: tuple[Tensor, Pyramid], walk: Walk) -> Encoded:
    """Encode (features, pyramid) and keep what every level had; a network of convolutions has no way to walk."""
    features, pyramid = batch
    if isinstance(encoder, SparseUNet):
        x = encoder(features, pyramid)
        return Encoded(x, ((x, pyramid.levels[0]),))
    levels = encoder.encode(features, pyramid, walk)
    return Encoded(encoder.decode(levels, pyramid), tuple(zip(levels, pyramid.levels, strict=True)))


def level_widths(encoder: SceneEncoder | SparseUNet) -> tuple[int, ...]:
    """Return the channels of what ``encode_scenes`` keeps of each level."""
    return (encoder.width,) if isinstance(encoder, SparseUNet) else encoder.widths


class HostModel(TrainingModel):
    """A model whose encoder can be led from scene to scene by a ``Walk``; alone, every scene stays apart.

    Attributes:
        level_widths: channels of each of ``Encoded.levels``.
    """

    level_widths: tuple[int, ...] = ()

    def encode(self, batch: Any, walk: Walk) -> Encoded:
        """Encode a batch."""
        raise NotImplementedError

    def task_losses(self, features: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return the losses of the task from ``Encoded.features``."""
        raise NotImplementedError

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the losses of the task, every scene by itself."""
        return self.task_losses(self.encode(batch, along_curves).features, batch)
