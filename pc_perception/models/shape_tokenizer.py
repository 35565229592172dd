# SPDX-License-Identifier: Apache-2.0
"""A shape as a set of tokens, each a code and a place on a grid, and the way back to its field.

Stage 1 of Point-MGE (arXiv 2406.17342), with 3DILG's recipe for what the paper does not say.
Ours: the depth of the encoder may be 0, so that a code tells of its own patch alone and the tokens of a part of
a shape are those that the whole shape has there; a narrow space to look codes up in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .field_decoder import FieldDecoder
from .fourier import FourierPosition
from .linear import Linear
from .patches import PatchEmbedding, Patches, make_patches
from .transformer import Transformer, initialise
from .vector_quantizer import Quantized, VectorQuantizer

BINS = 256


def to_bins(centers: Tensor) -> Tensor:
    """Return the int64 bin 0 .. 255 of every coordinate; those outside -1 .. 1 get the outermost.

    Rounded to the nearest, so that ``from_bins`` is at most 1 / 255 away (3DILG rounds down, at most 2 / 255).
    """
    return ((centers + 1) * ((BINS - 1) / 2)).round().long().clamp(0, BINS - 1)


def from_bins(bins: Tensor) -> Tensor:
    """Return the float32 coordinates, -1 .. 1, of bins."""
    return bins.float() * (2 / (BINS - 1)) - 1


@dataclass(frozen=True)
class ShapeTokens:
    """K tokens of each of B shapes.

    Attributes:
        ids: (B, K) int64, codes.
        bins: (B, K, 3) int64, centres in 256 steps an axis.
    """

    ids: Tensor
    bins: Tensor

    @property
    def centers(self) -> Tensor:
        """(B, K, 3) float32."""
        return from_bins(self.bins)

    def take(self, index: Tensor) -> ShapeTokens:
        """Return the tokens that ``index`` (B, L) int64 names in each shape, in its order."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return replace(self, ids=self.ids[rows, index], bins=self.bins[rows, index])

    def join(self, other: ShapeTokens) -> ShapeTokens:
        """Return these tokens and behind them another's of the same shapes."""
        return ShapeTokens(torch.cat([self.ids, other.ids], 1), torch.cat([self.bins, other.bins], 1))


class ShapeTokenizer(nn.Module):
    """Patches to codes (``quantize``, ``tokenize``), tokens to latents (``latents``), latents to a field (``field``).

    Shapes lie in the cube -1 .. 1.

    Args:
        n_patches, patch_size: patches of a whole shape and points in each.
        width, heads: of both transformers.
        encoder_depth, decoder_depth: their blocks.
        embed: channels inside the patch embedding.
        n_codes, code_width, update, decay: of the quantiser.
        hidden, field_depth: of the field's MLP.
    """

    spacing: Tensor

    def __init__(
        self,
        n_patches: int = 64,
        patch_size: int = 32,
        width: int = 256,
        heads: int = 4,
        encoder_depth: int = 6,
        decoder_depth: int = 6,
        embed: Sequence[int] = (64, 128, 192),
        n_codes: int = 1024,
        code_width: int = 32,
        update: str = "ema",
        decay: float = 0.99,
        hidden: int = 512,
        field_depth: int = 3,
    ) -> None:
        super().__init__()
        self.n_patches, self.patch_size, self.width = n_patches, patch_size, width
        self.embedding = PatchEmbedding(width, embed)
        self.encoder_position = FourierPosition(width) if encoder_depth else None
        self.encoder = Transformer(width, encoder_depth, heads) if encoder_depth else nn.LayerNorm(width)
        self.to_code = Linear(width, code_width)
        self.quantizer = VectorQuantizer(n_codes, code_width, update, decay)
        self.from_code = Linear(code_width, width)
        self.decoder_position = FourierPosition(width)
        self.decoder = Transformer(width, decoder_depth, heads)
        for part in (self.embedding, self.encoder, self.decoder):
            part.apply(initialise)
        self.field_decoder = FieldDecoder(width, hidden, field_depth)
        # Mean distance between a centre and the next one in whole shapes: says how many patches a part should have.
        self.register_buffer("spacing", torch.tensor(0.2))

    @property
    def n_codes(self) -> int:
        """Number of codes."""
        return len(self.quantizer.embedding)

    def patches(self, points: Tensor) -> Patches:
        """Cut whole shapes, (B, N, 3), into patches."""
        return make_patches(points, self.n_patches, self.patch_size)

    def quantize(self, patches: Patches) -> Quantized:
        """Return the codes of patches, (B, G, code_width)."""
        # From the centre's place on the grid, which is all that the decoder knows: a code can make up for rounding.
        off_grid = patches.centers - from_bins(to_bins(patches.centers))
        x = self.embedding(patches.points + off_grid[:, :, None])
        if self.encoder_position is None:
            return self.quantizer(self.to_code(self.encoder(x)))
        return self.quantizer(self.to_code(self.encoder(x, self.encoder_position(patches.centers))))

    @torch.no_grad()
    def tokenize(self, patches: Patches) -> ShapeTokens:
        """Return the tokens of patches, in their order."""
        return ShapeTokens(self.quantize(patches).ids, to_bins(patches.centers))

    def latents(self, codes: Tensor, centers: Tensor) -> Tensor:
        """Return (B, G, C) latents of codes (B, G, code_width) at centres (B, G, 3)."""
        return self.decoder(self.from_code(codes), self.decoder_position(centers))

    def field(self, queries: Tensor, latents: Tensor, centers: Tensor) -> Tensor:
        """Return (B, Q) logits of occupancy at (B, Q, 3)."""
        return self.field_decoder(queries, latents, centers)

    def forward(self, patches: Patches, queries: Tensor) -> tuple[Tensor, Quantized]:
        """Return (B, Q) logits of whole shapes at (B, Q, 3), and their codes."""
        if self.training:
            self._note_spacing(patches.centers)
        found = self.quantize(patches)
        centers = from_bins(to_bins(patches.centers))
        return self.field(queries, self.latents(found.codes, centers), centers), found

    def field_of(self, tokens: ShapeTokens) -> Callable[[Tensor], Tensor]:
        """Return the field of one shape's tokens: (M, 3) places to (M,) logits."""
        centers = tokens.centers
        latents = self.latents(self.quantizer.lookup(tokens.ids), centers)
        return lambda places: self.field(places[None].to(centers.device), latents, centers)[0].float()

    def reconstruct(self, points: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the field of one whole shape, (N, 3) points, by way of its tokens."""
        return self.field_of(self.tokenize(self.patches(points[None])))

    @torch.no_grad()
    def _note_spacing(self, centers: Tensor) -> None:
        apart = torch.cdist(centers, centers)
        apart.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        self.spacing.lerp_(apart.amin(2).mean(), 0.01)
