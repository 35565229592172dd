# SPDX-License-Identifier: Apache-2.0
"""Scene encoder: residual neighbourhood MLPs on voxels, sequence mixers on pooled stages.

Sizes S and L follow CamPoint's layout, which is our choice, since PointCSP's paper names no sizes: channels, blocks,
one mixer a stage, heads of 0.75 C / 32 with keys of 32 and values of 64. The paper's neighbourhoods are not known;
ours are the touching voxels at every size, in place of CamPoint's 24 nearest points.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from pc_perception.ops.grouping import neighbor_max
from pc_perception.ops.parallel import by_rows

from .layers import NeighborhoodBlock, NormLinear, SequenceBlock
from .linear import Linear
from .pyramid import Level, Pyramid
from .walks import Walk, along_curves

_CARD = {"local": (4, 4, 8, 4), "mixers": (1, 1, 1, 1), "d_key": 32, "d_value": 64}
SIZES: dict[str, dict[str, Any]] = {
    "T": {},  # the defaults: for two CPU cores, mixers on the coarse levels only
    "S": {"widths": (64, 128, 256, 512), "heads": (2, 3, 6, 12), **_CARD},
    "L": {"widths": (128, 256, 384, 512), "heads": (3, 6, 9, 12), **_CARD},
    "objects": {
        "widths": (96, 192, 384),
        "local": (4, 4, 4),
        "mixers": (1, 1, 1),
        "heads": (2, 4, 9),
        "d_key": 32,
        "d_value": 64,
    },
}
"""Arguments of ``SceneEncoder`` by name; ``objects`` is the layout for classification (``voxel_objects``)."""


class Stage(nn.Module):
    """Neighbourhood blocks of one level, followed by sequence blocks."""

    def __init__(self, width: int, n_local: int, n_global: int, heads: int, d_key: int, d_value: int) -> None:
        super().__init__()
        self.local = nn.ModuleList(NeighborhoodBlock(width) for _ in range(n_local))
        self.mixers = nn.ModuleList(SequenceBlock(width, heads, d_key, d_value) for _ in range(n_global))

    def forward(self, x: Tensor, level: Level, walk: Walk = along_curves) -> Tensor:
        """Map (M, C) to (M, C) on ``level``; ``walk`` leads each sequence block through the voxels."""
        position = level.xyz / level.edge
        for block in self.local:
            x = block(x, position, level.neighbors)
        for i, mixer in enumerate(self.mixers):
            x = mixer(x, *walk(level, i))
        return x


class SceneEncoder(nn.Module):
    """U-shaped encoder over a ``Pyramid``: features in, one feature per finest voxel out.

    Args:
        n_features: input features per voxel.
        widths: channels of each level, fine to coarse.
        local: neighbourhood blocks of each level on the way down; one more follows on the way up.
        mixers: sequence blocks of each level.
        heads: memories of each mixer, one number for all levels or one for each.
        d_key, d_value: shape of a memory.
    """

    def __init__(
        self,
        n_features: int,
        widths: Sequence[int] = (32, 64, 96, 160),
        local: Sequence[int] = (1, 2, 2, 2),
        mixers: Sequence[int] = (0, 0, 2, 2),
        heads: int | Sequence[int] = 4,
        d_key: int = 16,
        d_value: int = 32,
    ) -> None:
        super().__init__()
        heads = [heads] * len(widths) if isinstance(heads, int) else heads
        if not len(widths) == len(local) == len(mixers) == len(heads):
            raise ValueError(
                f"widths {widths}, local {local}, mixers {mixers} and heads {heads} must name the same levels"
            )
        self.n_features, self.n_levels, self.width = n_features, len(widths), widths[0]
        self.widths = tuple(widths)
        self.stem = nn.Sequential(nn.Linear(n_features, widths[0]), nn.ReLU())
        self.stages = nn.ModuleList(
            Stage(w, n, m, h, d_key, d_value) for w, n, m, h in zip(widths, local, mixers, heads, strict=True)
        )
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(NormLinear(nn.LayerNorm(a), Linear(a, b)) for a, b in pairs)
        self.up = nn.ModuleList(NormLinear(nn.LayerNorm(b), Linear(b, a)) for a, b in pairs)
        self.refine = nn.ModuleList(NeighborhoodBlock(a) for a, _ in pairs)

    def forward(self, features: Tensor, pyramid: Pyramid, walk: Walk = along_curves) -> Tensor:
        """Encode (M, n_features) voxel features to (M, widths[0]); scenes stay apart unless ``walk`` joins them."""
        return self.decode(self.encode(features, pyramid, walk), pyramid)

    def encode(self, features: Tensor, pyramid: Pyramid, walk: Walk = along_curves) -> list[Tensor]:
        """Go down the pyramid and return each level's (M_l, widths[l]), fine to coarse."""
        x = by_rows(self.stem, features)
        out: list[Tensor] = []
        for depth, (stage, level) in enumerate(zip(self.stages, pyramid.levels, strict=True)):
            if depth:
                assert level.children is not None
                x = neighbor_max(self.down[depth - 1](x), level.children)
            x = stage(x, level, walk)
            out.append(x)
        return out

    def decode(self, encoded: Sequence[Tensor], pyramid: Pyramid) -> Tensor:
        """Come up again from what ``encode`` returned to (M, widths[0])."""
        x = encoded[-1]
        for depth in reversed(range(self.n_levels - 1)):
            level = pyramid.levels[depth]
            assert level.parent is not None
            # index_select takes rows several times as fast as x[index] does, and gives gradients back faster too.
            x = self.up[depth](x).index_select(0, level.parent) + encoded[depth]
            x = self.refine[depth](x, level.xyz / level.edge, level.neighbors)
        return x


class SceneSegmenter(nn.Module):
    """A scene encoder with a linear head per voxel."""

    def __init__(self, encoder: SceneEncoder, n_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = NormLinear(nn.LayerNorm(encoder.width), nn.Linear(encoder.width, n_classes))

    def forward(self, features: Tensor, pyramid: Pyramid, walk: Walk = along_curves) -> Tensor:
        """Return (M, n_classes) logits of the finest voxels."""
        return self.head(self.encoder(features, pyramid, walk))
