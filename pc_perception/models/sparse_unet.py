# SPDX-License-Identifier: Apache-2.0
"""Sparse U-Net: residual submanifold convolutions at several scales, on our own sparse convolution.

``RES16UNET34C`` is the network that PointContrast, SLidR and CMCR pre-train (MinkowskiEngine's SR-UNet, 37.9 M
parameters with a head of 64): Choy, Gwak, Savarese, "4D spatio-temporal ConvNets", CVPR 2019. Their weights come in
through ``minkowski_keys``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .pyramid import Pyramid
from .sparse_layers import Lattice, Stage, Unit

RES16UNET34C: dict[str, Any] = {
    "widths": (32, 32, 64, 128, 256),
    "blocks": (2, 3, 4, 6),
    "up_widths": (256, 128, 96, 96),
    "up_blocks": (2, 2, 2, 2),
}
SMALL: dict[str, Any] = {
    "widths": (16, 24, 32, 64, 96),
    "blocks": (1, 1, 1, 1),
    "up_widths": (64, 48, 32, 32),
    "up_blocks": (1, 1, 1, 1),
}
"""Arguments of ``SparseUNet``: the published network, and one for CPUs (1.5 M parameters)."""


class SparseUNet(nn.Module):
    """Encoder over a ``Pyramid``: features in, one feature per finest voxel out.

    Args:
        n_features: input features per voxel.
        widths: of the stem, then of each coarser level.
        blocks: residual blocks of each coarser level.
        up_widths, up_blocks: the same on the way up, coarse to fine.

    Raises:
        ValueError: the lists name different numbers of levels.
    """

    def __init__(
        self,
        n_features: int,
        widths: Sequence[int] = SMALL["widths"],
        blocks: Sequence[int] = SMALL["blocks"],
        up_widths: Sequence[int] = SMALL["up_widths"],
        up_blocks: Sequence[int] = SMALL["up_blocks"],
    ) -> None:
        super().__init__()
        if not len(widths) - 1 == len(blocks) == len(up_widths) == len(up_blocks):
            raise ValueError(
                f"widths {widths} must name one level more than blocks {blocks}, up_widths {up_widths} and "
                f"up_blocks {up_blocks}"
            )
        self.n_features, self.n_levels, self.width = n_features, len(widths), up_widths[-1]
        self.stem = Unit(27, n_features, widths[0])
        self.down = nn.ModuleList(Unit(8, w, w) for w in widths[:-1])
        self.stages = nn.ModuleList(
            Stage(a, b, n) for (a, b), n in zip(pairwise(widths), blocks, strict=True)
        )
        below = [widths[-1], *up_widths[:-1]]
        skips = reversed(widths[:-1])
        self.up = nn.ModuleList(Unit(8, a, b) for a, b in zip(below, up_widths, strict=True))
        self.up_stages = nn.ModuleList(
            Stage(w + skip, w, n) for w, skip, n in zip(up_widths, skips, up_blocks, strict=True)
        )

    def forward(self, features: Tensor, pyramid: Pyramid) -> Tensor:
        """Encode (M, n_features) voxel features to (M, width); packed scenes do not meet (in eval mode)."""
        lattice = Lattice.of(pyramid)
        x = self.stem(features, lattice.around[0])
        skips = []
        for depth, (down, stage) in enumerate(zip(self.down, self.stages, strict=True)):
            skips.append(x)
            x = down(x, lattice.down[depth])
            x = stage(x, lattice.around[depth + 1])
        for depth, up, stage in zip(reversed(range(len(skips))), self.up, self.up_stages, strict=True):
            x = stage(torch.cat([up(x, lattice.up[depth]), skips[depth]], 1), lattice.around[depth])
        return x


class SparseUNetSegmenter(nn.Module):
    """A sparse U-Net with a linear head per voxel (the 1x1 convolution ``final`` of SLidR's fine-tuning)."""

    def __init__(self, encoder: SparseUNet, n_classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.width, n_classes)

    def forward(self, features: Tensor, pyramid: Pyramid) -> Tensor:
        """Return (M, n_classes) logits of the finest voxels."""
        return self.head(self.encoder(features, pyramid))
