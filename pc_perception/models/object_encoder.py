# SPDX-License-Identifier: Apache-2.0
"""Encoder of single objects: patches, a mini-PointNet for each, a transformer over them; and a classifier on it.

Point-MAE's encoder (arXiv 2203.06604; sizes as in its public code), with an optional class token, and a
causal variant in PointGPT's manner (arXiv 2305.11487): patches in a walk, each sees those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .patches import PatchEmbedding, Patches, make_patches, walk_order, z_curve_order
from .transformer import SinePosition, Transformer, initialise, position_mlp
from .voxel_objects import VoxelObjectEncoder

SIZES: dict[str, dict[str, Any]] = {
    # 0.09 GFLOP an object, 0.64 million parameters.
    "tiny": {"n_patches": 48, "patch_size": 16, "width": 128, "depth": 3, "heads": 4, "embed": [32, 64, 96]},
    # The published methods' size: 22 million parameters; 4.26 GFLOP, 4.85 without the shared product of
    # ``PatchEmbedding``.
    "card": {
        "n_patches": 64,
        "patch_size": 32,
        "width": 384,
        "depth": 12,
        "heads": 6,
        "embed": [128, 256, 512],
    },
}
"""Arguments of ``ObjectEncoder`` by name."""
ORDERS = {"sampled": None, "walk": walk_order, "z": z_curve_order}
"""Orders of patches: as sampled, to the nearest not yet visited, along a Z-curve."""


class ObjectEncoder(nn.Module):
    """Points of an object in, one token per patch out.

    Args:
        n_patches, patch_size: patches and points in each.
        width, depth, heads: of the transformer.
        embed: channels inside the patch embedding.
        drop_path: of the last block, in training.
        class_token: put a learned token in front of the patches.
        order: of the patches, a name of ``ORDERS``; it matters to a causal encoder only.
        causal: each patch sees only those before it; the class token sees all and is seen by none.
        position: ``mlp`` (Point-MAE) or ``sine`` (PointGPT).
        skip_origin: sample centres as pointnet2_ops does (``ops.sampling``).
    """

    def __init__(
        self,
        n_patches: int = 48,
        patch_size: int = 16,
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
        embed: Sequence[int] = (32, 64, 96),
        drop_path: float = 0.1,
        class_token: bool = True,
        order: str = "sampled",
        causal: bool = False,
        position: str = "mlp",
        skip_origin: bool = False,
    ) -> None:
        super().__init__()
        if order not in ORDERS or position not in ("mlp", "sine"):
            raise ValueError(
                f"order must be one of {', '.join(ORDERS)} and position mlp or sine; got '{order}', '{position}'"
            )
        self.n_patches, self.patch_size, self.width = n_patches, patch_size, width
        self.order, self.causal, self.skip_origin = order, causal, skip_origin
        self.embedding = PatchEmbedding(width, embed)
        self.position = position_mlp(width) if position == "mlp" else SinePosition(width)
        self.transformer = Transformer(width, depth, heads, drop_path)
        self.apply(initialise)
        self.class_token = self.class_position = None
        if class_token:
            self.class_token = nn.Parameter(torch.zeros(1, 1, width))
            self.class_position = nn.Parameter(torch.zeros(1, 1, width))
            for parameter in (self.class_token, self.class_position):
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)

    @property
    def n_extra(self) -> int:
        """Tokens in front of the patches: 1 with a class token, else 0."""
        return 0 if self.class_token is None else 1

    @property
    def n_described(self) -> int:
        """Length of ``describe``."""
        return (2 + self.n_extra) * self.width

    def patches(self, points: Tensor, offsets: Sequence[int] | None = None) -> Patches:
        """Cut objects, (B, N, 3) or packed (N, 3) with offsets, into patches in this encoder's order."""
        patches = make_patches(points, self.n_patches, self.patch_size, offsets, self.skip_origin)
        order = ORDERS[self.order]
        return patches if order is None else patches.take(order(patches.centers))

    def mix(self, tokens: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the transformer over embedded patches, all or some of an object's.

        Args:
            tokens, position: (B, K, C), of ``embedding`` and of ``position``.
            mask: (K, K) bool, where a patch may look, in place of the encoder's own.

        Returns:
            (B, n_extra + K, C), after the final norm.
        """
        x, position, mask = self.prepare(tokens, position, mask)
        return self.transformer(x, position, mask)

    def prepare(
        self, tokens: Tensor, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what ``mix`` hands to the transformer: class token in front, mask complete."""
        n = tokens.shape[1]
        if mask is None and self.causal:
            mask = torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril()
        if self.class_token is None or self.class_position is None:
            return tokens, position, mask
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)
        position = torch.cat([self.class_position.expand(len(position), -1, -1), position], 1)
        if mask is not None:
            mask = functional.pad(mask, (1, 0, 1, 0))
            mask[0] = True
        return tokens, position, mask

    def encode(self, points: Tensor, offsets: Sequence[int] | None = None) -> Tensor:
        """Encode objects to (B, n_extra + G, C), the class token first where there is one."""
        patches = self.patches(points, offsets)
        return self.mix(self.embedding(patches.points), self.position(patches.centers))

    def forward(self, points: Tensor, offsets: Sequence[int] | None = None) -> Tensor:
        """Encode objects, (B, N, 3) or packed (N, 3) with offsets, on the unit sphere, to (B, G, C)."""
        return self.encode(points, offsets)[:, self.n_extra :]

    def describe(self, points: Tensor, offsets: Sequence[int] | None = None) -> Tensor:
        """Return (B, F) features for probes: maximum and mean over patches, and the class token if there is one."""
        x = self.encode(points, offsets)
        patches = x[:, self.n_extra :]
        return torch.cat([patches.amax(1), patches.mean(1), *x[:, : self.n_extra].unbind(1)], 1)

    def pool(self, x: Tensor) -> Tensor:
        """Return (B, 2 C) of encoded (B, n_extra + K, C): class token, or mean without one, and maximum."""
        patches = x[:, self.n_extra :]
        first = x[:, 0] if self.n_extra else patches.mean(1)
        return torch.cat([first, patches.amax(1)], 1)

    def pooled(self, points: Tensor, offsets: Sequence[int] | None = None) -> Tensor:
        """Encode objects to (B, 2 C); see ``encode`` and ``pool``."""
        return self.pool(self.encode(points, offsets))


def make_head(kind: str, n_inputs: int, n_classes: int) -> nn.Module:
    """Return a classification head, (B, n_inputs) to (B, n_classes): ``linear``, or ``mlp3``, that of Point-MAE.

    Raises:
        ValueError: there is no such head.
    """
    if kind == "linear":
        return nn.Linear(n_inputs, n_classes)
    if kind != "mlp3":
        raise ValueError(f"head '{kind}' is unknown; use linear or mlp3")
    sizes = [(n_inputs, 256), (256, 256)]
    hidden = [
        layer for a, b in sizes for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(0.5))
    ]
    return nn.Sequential(*hidden, nn.Linear(256, n_classes))


class ObjectClassifier(nn.Module):
    """An encoder of objects, on patches or on voxels, with a classification head."""

    def __init__(
        self, encoder: ObjectEncoder | VoxelObjectEncoder, n_classes: int, head: str = "mlp3"
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = make_head(head, 2 * encoder.width, n_classes)

    def forward(self, points: Tensor, offsets: Sequence[int] | None = None) -> Tensor:
        """Return (B, n_classes) logits of objects, (B, N, 3) or packed (N, 3) with offsets."""
        return self.head(self.encoder.pooled(points, offsets))
