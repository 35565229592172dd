# SPDX-License-Identifier: Apache-2.0
"""A label for each point of an object: Point-MAE's segmentation head on an object encoder.

Features of three blocks, a third of the depth apart, side by side; their maximum and mean over the patches, the
object's category, and what PointNet++ carries from the nearest patches to each point. At the published size the
channels are the published ones, 1155 -> 1536 -> 1024 and 3392 -> 512 -> 256; at other widths in proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.ops.interpolate import three_interpolate

from .object_encoder import ObjectEncoder


class ObjectPartSegmenter(nn.Module):
    """An object encoder with a segmentation head.

    Args:
        encoder: at least three blocks deep.
        n_classes: parts of all categories together, or classes of S3DIS's blocks.
        n_categories: how many categories of objects are told apart by a one-hot input; 0: none is given.
    """

    def __init__(self, encoder: ObjectEncoder, n_classes: int, n_categories: int = 0) -> None:
        super().__init__()
        depth, width = len(encoder.transformer.blocks), encoder.width
        if depth < 3:
            raise ValueError(f"the segmentation head takes features of three blocks, the encoder has {depth}")
        self.encoder, self.n_categories = encoder, n_categories
        self.taps = [depth * k // 3 for k in (1, 2, 3)]
        if n_categories:
            one_hot = nn.Linear(n_categories, 64, bias=False)
            self.category = nn.Sequential(one_hot, nn.BatchNorm1d(64), nn.LeakyReLU(0.2))
        carried = 8 * width // 3
        self.carry = nn.Sequential(*_layer(3 * width + 3, 4 * width), *_layer(4 * width, carried))
        n_inputs = carried + 6 * width + (64 if n_categories else 0)
        self.head = nn.Sequential(
            *_layer(n_inputs, 512), nn.Dropout(0.5), *_layer(512, 256), nn.Linear(256, n_classes)
        )

    def tokens(self, steps: Sequence[Tensor]) -> Tensor:
        """Return (B, G, 3 C) features of the patches, from what each block gave, (B, n_extra + G, C)."""
        norm, first = self.encoder.transformer.norm, self.encoder.n_extra
        return torch.cat([norm(steps[tap])[:, first:] for tap in self.taps], -1)

    def label(
        self, tokens: Tensor, centers: Tensor, points: Tensor, offsets: Sequence[int], categories: Tensor
    ) -> Tensor:
        """Return (N, n_classes) logits of packed points.

        Args:
            tokens, centers: (B, G, 3 C) and (B, G, 3) of the objects' patches.
            points: (N, 3), object b owns the rows offsets[b] .. offsets[b + 1].
            categories: (B,) int64; not looked at without categories.
        """
        ends = list(accumulate([centers.shape[1]] * len(centers), initial=0))
        near = three_interpolate(centers.flatten(0, 1), tokens.flatten(0, 1), points, ends, list(offsets))
        whole = [tokens.amax(1), tokens.mean(1)]
        if self.n_categories:
            whole.append(self.category(functional.one_hot(categories, self.n_categories).to(tokens)))
        sizes = torch.tensor(list(offsets), device=points.device).diff()
        each = torch.cat(whole, 1).repeat_interleave(sizes, 0)
        return self.head(torch.cat([self.carry(torch.cat([near, points], 1)), each], 1))

    def forward(self, points: Tensor, categories: Tensor, offsets: Sequence[int] | None = None) -> Tensor:
        """Return logits of each point: (B, N, n_classes) of (B, N, 3), or (N, n_classes) of packed (N, 3)."""
        dense = points.shape[:2] if points.ndim == 3 else None
        if dense is not None:
            offsets = list(accumulate([dense[1]] * dense[0], initial=0))
            points = points.flatten(0, 1)
        offsets = (0, len(points)) if offsets is None else offsets
        encoder = self.encoder
        patches = encoder.patches(points, offsets)
        placed = encoder.prepare(encoder.embedding(patches.points), encoder.position(patches.centers))
        tokens = self.tokens(encoder.transformer.outputs(*placed))
        logits = self.label(tokens, patches.centers, points, offsets, categories)
        return logits if dense is None else logits.unflatten(0, dense)


def _layer(n_inputs: int, n_outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(n_inputs, n_outputs), nn.BatchNorm1d(n_outputs), nn.ReLU()
