# SPDX-License-Identifier: Apache-2.0
"""Point-PQAE: draw every patch of one view of an object from another view, told only where the patch lies.

Source: "Towards more diverse and challenging pre-training for point cloud learning: self-supervised cross
reconstruction with decoupled views", ICCV 2025, arXiv 2509.01250, as in its public code,
whose notation is used here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.patches import Patches
from pc_perception.models.transformer import initialise, position_mlp
from pc_perception.ops.chamfer import chamfer_distance
from training.objects import ObjectBatch

from .decoupled_views import View, draw_view
from .method import Task
from .model import TrainingModel
from .point_mae import ObjectPretraining, PatchDecoder

QUERIES = ("relative", "constant")
INITIAL = ("reference", "trunc_normal")


@dataclass(frozen=True)
class PointPqae(ObjectPretraining):
    """Settings of Point-PQAE.

    Attributes:
        crop: lowest share of an object's points in a view; 1: no crop.
        decoder_depth: blocks of the decoder, as wide as the encoder's.
        initial: weights of linear layers: ``reference``, the published code's Normal(0.02, 0.01), or ``trunc_normal``.
        query: ``relative``, or as negative control ``constant``, which tells the decoder nothing.
        up: axis that views are turned about: x, y (ShapeNet's files) or z.
    """

    crop: float = 0.6
    decoder_depth: int = 4
    initial: str = "reference"
    query: str = "relative"
    up: str = "z"

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if not 0 < self.crop <= 1 or self.decoder_depth < 1 or self.up not in ("x", "y", "z"):
            raise ValueError(
                "method.crop must lie in 0 .. 1, decoder_depth be at least 1 and up be x, y or z"
            )
        if self.initial not in INITIAL or self.query not in QUERIES:
            raise ValueError(
                f"method.initial must be one of {', '.join(INITIAL)} and query one of {', '.join(QUERIES)};"
                f" got '{self.initial}', '{self.query}'"
            )

    def build(self, task: Task, class_counts: NDArray[np.int64]) -> PointPqaeModel:
        """Return encoder, positional query and decoder with random weights."""
        return PointPqaeModel(ObjectEncoder(**task.encoder), self)


def relative_position(x: Tensor, width: int) -> Tensor:
    """Code places by sines (VRPE): of each number sin and cos at ``width`` / 12 frequencies.

    Frequency j of J is 10000^(-j / J); the numbers are not scaled, as published.

    Args:
        x: (B, G, 6): centre of the patch in its view, and from that view's middle to the other's.

    Returns:
        (B, G, width), zero at the end where width is no multiple of 12.
    """
    n = width // 12
    frequency = 10_000 ** -(torch.arange(n, device=x.device) / n)
    angle = x[..., None] * frequency
    code = torch.cat([angle.sin(), angle.cos()], -1).flatten(-2)
    return functional.pad(code, (0, width - code.shape[-1]))


class PositionalQuery(nn.Module):
    """One cross-attention, without residual, norm or MLP: places ask the other view's tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, query: Tensor, source: Tensor) -> Tensor:
        """Map places (B, G, C) and tokens (B, K, C) to (B, G, C)."""
        q = self.q(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(source).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))


class PointPqaeModel(TrainingModel):
    """Encoder, positional query and decoder; the same for both directions."""

    def __init__(self, encoder: ObjectEncoder, settings: PointPqae) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        heads = encoder.transformer.blocks[0].attn.heads
        # In published checkpoints, and used by nobody.
        self.decoder_position = position_mlp(encoder.width).requires_grad_(False)
        self.query = PositionalQuery(encoder.width, heads)
        self.decoder = PatchDecoder(encoder.width, settings.decoder_depth, heads, encoder.patch_size)
        if settings.initial == "reference":
            for part in (
                encoder.position,
                encoder.transformer,
                self.query,
                self.decoder,
                self.decoder_position,
            ):
                part.apply(reference_initial)
        else:
            for part in (self.query, self.decoder, self.decoder_position):
                part.apply(initialise)

    def losses(self, batch: ObjectBatch) -> dict[str, Tensor]:
        """Return both directions' Chamfer distances."""
        how = (batch.points, batch.offsets, self.settings.crop, self.settings.up)
        return self.cross(draw_view(*how), draw_view(*how))

    def cross(self, one: View, other: View) -> dict[str, Tensor]:
        """Draw each view's patches from the other view: L = CD2(P1, N1) + CD2(P2, N2)."""
        a, b = (self.encoder.patches(view.points, view.offsets) for view in (one, other))
        seen_a, seen_b = self.encode(a), self.encode(b)
        return {
            "loss_first": self.distance(a, self.draw(a.centers, other.center - one.center, seen_b)),
            "loss_second": self.distance(b, self.draw(b.centers, one.center - other.center, seen_a)),
        }

    def encode(self, patches: Patches) -> Tensor:
        """Return (B, G, C) tokens of all patches of a view."""
        tokens = self.encoder.embedding(patches.points)
        return self.encoder.mix(tokens, self.encoder.position(patches.centers))[:, self.encoder.n_extra :]

    def draw(self, centers: Tensor, delta: Tensor, source: Tensor) -> Tensor:
        """Draw the patches at ``centers`` (B, G, 3) of a view from another view's tokens.

        Args:
            delta: (B, 3), from the middle of the wanted view to that of the other.

        Returns:
            (B, G, M, 3), relative to the centres.
        """
        place = torch.cat([centers, delta[:, None].expand_as(centers)], -1)
        if self.settings.query == "constant":
            place = torch.zeros_like(place)
        query = self.query(relative_position(place, self.encoder.width), source)
        return self.decoder(query)

    def distance(self, patches: Patches, drawn: Tensor) -> Tensor:
        """Return the Chamfer distance (squared) of drawn patches from those of a view."""
        return chamfer_distance(drawn.flatten(0, 1).float(), patches.points.flatten(0, 1))


def reference_initial(module: nn.Module) -> None:
    """Draw linear weights from Normal(0.02, 0.01), as the published code does; biases are zero. For ``apply``."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.02, 0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
