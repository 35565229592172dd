# SPDX-License-Identifier: Apache-2.0
"""Masked modelling of a shape's tokens: an extractor of what is seen, a generator of what is not (Point-MGE, stage 2).

Sources: arXiv 2406.17342 after MAGE (arXiv 2211.09117). Ours, where the paper is silent:

- The extractor takes seen tokens alone. A slot of the generator knows only how many hidden tokens there are and
  its turn among them along a Z-curve: nothing of where they lie or what they are.
- What fills a slot is drawn in a chain, height, y, x, code: each is told those before it. Bins side by side are told
  and scored alike, by waves along the axis: 256 unrelated classes would each have to be learned.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .fourier import FourierPosition
from .linear import Linear
from .object_encoder import ObjectEncoder
from .patches import z_curve_order
from .shape_tokenizer import BINS, ShapeTokenizer, ShapeTokens
from .transformer import Transformer

N_WAVES = 64
AXES = (2, 1, 0)
"""The order in which a centre's coordinates are drawn."""
Choose = Callable[[Tensor, int], Tensor]
"""Takes logits (..., V) of part 0 .. 3 of the chain, returns (...,) int64 values."""


def waves(device: torch.device) -> Tensor:
    """Return (256, 64) cosines along an axis, of 0 to 63 half waves, at the middles of the bins."""
    middle = (torch.arange(BINS, device=device) + 0.5) / BINS
    return (torch.pi * middle[:, None] * torch.arange(N_WAVES, device=device)).cos()


class TokenChain(nn.Module):
    """What a slot holds: three coordinates and a code, each drawn knowing those before it."""

    def __init__(self, width: int, n_codes: int) -> None:
        super().__init__()
        self.known = nn.ModuleList(Linear(N_WAVES, width) for _ in AXES)
        self.mix = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), Linear(width, width), nn.GELU()) for _ in range(4)
        )
        self.out = nn.ModuleList(Linear(width, n) for n in (N_WAVES, N_WAVES, N_WAVES, n_codes))
        for weight in self.out.parameters():
            nn.init.normal_(weight, std=0.005)  # all values about equally likely at first

    def logits(self, x: Tensor, part: int) -> Tensor:
        """Return (..., V) of part 0 .. 3, of slots (..., C) that were told the parts before."""
        x = self.out[part](self.mix[part](x))
        return x if part == 3 else x @ waves(x.device).T

    def tell(self, x: Tensor, part: int, value: Tensor) -> Tensor:
        """Return slots (..., C) that know the (...,) value of part 0 .. 2."""
        return x + self.known[part](waves(x.device))[value]

    def forward(self, x: Tensor, tokens: ShapeTokens) -> list[Tensor]:
        """Return the logits of all four parts of (B, M, C) slots, each told what ``tokens`` have before it."""
        found = []
        for part, axis in enumerate(AXES):
            found.append(self.logits(x, part))
            x = self.tell(x, part, tokens.bins[..., axis])
        return [*found, self.logits(x, 3)]

    def draw(self, x: Tensor, choose: Choose) -> ShapeTokens:
        """Fill (B, M, C) slots, part by part."""
        values = []
        for part in range(3):
            values.append(choose(self.logits(x, part), part))
            x = self.tell(x, part, values[part])
        ids = choose(self.logits(x, 3), 3)
        bins = torch.stack([values[AXES.index(axis)] for axis in range(3)], -1)
        return ShapeTokens(ids, bins)


class TokenGenerator(nn.Module):
    """Transformer over seen tokens and slots.

    Args:
        n_inputs: channels of the extractor's tokens.
        width, depth, heads: of the transformer.
        n_slots: the most slots there can be.
        n_codes: of the tokenizer.
    """

    def __init__(self, n_inputs: int, width: int, depth: int, heads: int, n_slots: int, n_codes: int) -> None:
        super().__init__()
        self.enter = Linear(n_inputs, width)
        self.position = FourierPosition(width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.from_first, self.from_last = nn.Embedding(n_slots, width), nn.Embedding(n_slots, width)
        self.transformer = Transformer(width, depth, heads)
        self.chain = TokenChain(width, n_codes)
        for table in (self.from_first, self.from_last):
            nn.init.normal_(table.weight, std=0.2)

    def forward(self, encoded: Tensor, centers: Tensor, n_hidden: int) -> Tensor:
        """Return (B, M, C), the slots of ``n_hidden`` tokens, in the order of the Z-curve.

        Args:
            encoded: (B, n_extra + K, n_inputs) of the extractor.
            centers: (B, K, 3) of the seen tokens.
        """
        seen = self.enter(encoded)
        n_extra = seen.shape[1] - centers.shape[1]
        place = nn.functional.pad(self.position(centers), (0, 0, n_extra, 0))
        turn = torch.arange(n_hidden, device=seen.device)
        slots = self.mask_token + self.from_first(turn) + self.from_last(turn.flip(0))
        slots = slots + seen[:, :n_extra].mean(1, keepdim=True)  # the class, and the whole of what is seen
        x = torch.cat([seen + place, slots], 1)
        return self.transformer(x)[:, seen.shape[1] :]


class ShapeNetwork(nn.Module):
    """Tokenizer, extractor (``encoder``) and generator of shapes of named classes.

    Args:
        tokenizer: of stage 1, frozen.
        encoder: the extractor, with a class token.
        n_classes: classes that can be asked for.
        width, depth, heads: of the generator.
    """

    def __init__(
        self,
        tokenizer: ShapeTokenizer,
        encoder: ObjectEncoder,
        n_classes: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if encoder.class_token is None or encoder.causal:
            raise ValueError(
                "the extractor needs a class token, and its patches see each other: encoder.class_token must be "
                "true, encoder.causal false"
            )
        self.tokenizer = tokenizer.requires_grad_(False)
        self.encoder = encoder
        self.codes = nn.Embedding(tokenizer.n_codes, encoder.width)
        self.classes = nn.Embedding(n_classes, encoder.width)
        self.generator = TokenGenerator(
            encoder.width, width, depth, heads, tokenizer.n_patches, tokenizer.n_codes
        )
        for table in (self.codes, self.classes):
            nn.init.normal_(table.weight, std=0.2)

    def train(self, mode: bool = True) -> ShapeNetwork:
        """Set training mode; the tokenizer stays as it is, or its batch norms would drift and codes with them."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    def extract(self, embedded: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
        """Run the extractor over seen tokens.

        Args:
            embedded: (B, K, C), of ``encoder.embedding`` or of ``codes``.
            centers: (B, K, 3).
            labels: (B,) int64; -1 where no class is given: the class token stands for any.

        Returns:
            (B, 1 + K, C).
        """
        encoder = self.encoder
        assert encoder.class_token is not None
        assert encoder.class_position is not None
        named = self.classes(labels.clamp(min=0))[:, None]
        first = torch.where((labels >= 0)[:, None, None], named, encoder.class_token)
        place = encoder.class_position.expand(len(first), -1, -1)
        x = torch.cat([first, embedded], 1)
        return encoder.transformer(x, torch.cat([place, encoder.position(centers)], 1))

    def slots(self, seen: ShapeTokens, labels: Tensor, n_hidden: int) -> Tensor:
        """Return (B, M, C), what the generator makes of ``n_hidden`` slots beside tokens that are known by code."""
        encoded = self.extract(self.codes(seen.ids), seen.centers, labels)
        return self.generator(encoded, seen.centers, n_hidden)


def in_order(tokens: ShapeTokens, index: Tensor) -> Tensor:
    """Return ``index`` (B, M) of each shape's tokens in the order of their centres along the Z-curve."""
    return index.gather(1, z_curve_order(tokens.take(index).centers))
