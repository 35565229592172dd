# SPDX-License-Identifier: Apache-2.0
"""A sparse U-Net that says of every voxel which class it is and where the object that it belongs to has its centre.

Centre offsets beside the classes: Panoptic-PolarNet (arXiv 2103.14962) and DS-Net (arXiv 2011.11964) have them; how
offsets become instances is ``inference/panoptic.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .pyramid import Pyramid
from .sparse_unet import SparseUNet


class PanopticSegmenter(nn.Module):
    """Encoder, a linear head of classes as ``SparseUNetSegmenter`` has it, and a small head of offsets.

    Attributes:
        object_share: (n_classes,) float32, which share of the class's voxels belonged to single objects in training.
    """

    object_share: Tensor

    def __init__(self, encoder: SparseUNet, n_classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.width, n_classes)
        hidden = nn.Linear(encoder.width, encoder.width)
        self.offset = nn.Sequential(hidden, nn.ReLU(), nn.Linear(encoder.width, 3))
        self.register_buffer("object_share", torch.zeros(n_classes))

    @property
    def things(self) -> Tensor:
        """(n_classes,) bool, the classes that are made of single objects."""
        return self.object_share > 0.5

    def forward(self, features: Tensor, pyramid: Pyramid) -> Tensor:
        """Return (M, n_classes) logits of the finest voxels."""
        return self.head(self.encoder(features, pyramid))

    def both(self, features: Tensor, pyramid: Pyramid) -> tuple[Tensor, Tensor]:
        """Return (M, n_classes) logits and (M, 3) offsets to the centre of the own object, metres."""
        x = self.encoder(features, pyramid)
        return self.head(x), self.offset(x)
