# SPDX-License-Identifier: Apache-2.0
"""Fill the hidden tokens of shapes a few at a time, the surest first: MaskGIT (arXiv 2202.04200) as in MAGE.

Ours: centres of one shape lie apart, and slots are filled without knowing of each other; a token that lies close to a
surer or known one is kept only where there are too few others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .shape_generator import ShapeNetwork
from .shape_tokenizer import ShapeTokens

_CROWDED = 1e6


@dataclass(frozen=True)
class Decoding:
    """How tokens are drawn.

    Attributes:
        steps: rounds; fewer where there are fewer hidden tokens.
        temperature: of each value that is drawn; 0 takes the likeliest.
        top_p: values are drawn from the likeliest ones that together have this probability.
        choice: randomness in which tokens are kept, falling to 0 over the rounds. MAGE: 4.5 for one code; here four
            log-probabilities are added, and with as little all shapes become poles, whose places are the surest.
        guidance: w of classifier-free guidance, logits (1 + w) conditional - w unconditional; needs a class.
    """

    steps: int = 24
    temperature: float = 1.0
    top_p: float = 0.8
    choice: float = 20.0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or min(self.temperature, self.choice, self.guidance) < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"steps must be at least 1, temperature, choice and guidance not negative and top_p in 0 .. 1; "
                f"got {self}"
            )


def hidden_after(step: int, steps: int, n: int) -> int:
    """Return how many of ``n`` tokens are still hidden after round ``step`` of 0 .. steps - 1, by the cosine."""
    return 0 if step == steps - 1 else math.floor(n * math.cos(math.pi / 2 * (step + 1) / steps))


@torch.no_grad()
def decode(
    network: ShapeNetwork,
    seen: ShapeTokens,
    labels: Tensor,
    n_hidden: int,
    how: Decoding,
    generator: torch.Generator | None = None,
) -> ShapeTokens:
    """Add ``n_hidden`` tokens to those of each shape.

    Args:
        seen: (B, K) tokens, which stay as they are; K may be 0.
        labels: (B,) int64, -1 for any class.

    Returns:
        (B, K + n_hidden) tokens, those seen first.
    """
    n_all, steps = seen.ids.shape[1] + n_hidden, min(how.steps, n_hidden)
    for step in range(steps):
        n_now = n_all - seen.ids.shape[1]
        drawn, sure = draw_slots(network, seen, labels, n_now, how, generator)
        n_after = min(max(hidden_after(step, steps, n_hidden), 1), n_now - 1) if step < steps - 1 else 0
        noise = _gumbel(sure, generator) * (how.choice * (1 - (step + 1) / steps))
        score = sure + noise
        score = score - _CROWDED * crowded(drawn, seen, score, float(network.tokenizer.spacing) / 2)
        kept = score.topk(n_now - n_after, dim=1).indices.sort(1).values
        seen = seen.join(drawn.take(kept))
    return seen


def crowded(drawn: ShapeTokens, seen: ShapeTokens, score: Tensor, reach: float) -> Tensor:
    """Say which (B, M) of ``drawn`` lie within ``reach`` of one with a higher score, or of one of ``seen``."""
    near = torch.cdist(drawn.centers, drawn.centers) < reach
    below = score[:, :, None] < score[:, None]
    return (near & below).any(2) | (torch.cdist(drawn.centers, seen.centers) < reach).any(2)


def draw_slots(
    network: ShapeNetwork,
    seen: ShapeTokens,
    labels: Tensor,
    n_hidden: int,
    how: Decoding,
    generator: torch.Generator | None = None,
) -> tuple[ShapeTokens, Tensor]:
    """Fill all hidden slots independently of each other; return tokens (B, M) and their log-probability (B, M)."""
    guided = how.guidance > 0 and bool((labels >= 0).any())
    x = network.slots(seen, labels, n_hidden)
    if guided:
        x = torch.stack([x, network.slots(seen, torch.full_like(labels, -1), n_hidden)])
    sure = torch.zeros(len(labels), n_hidden, device=labels.device)

    def choose(logits: Tensor, part: int) -> Tensor:
        nonlocal sure
        if guided:
            logits = (1 + how.guidance) * logits[0] - how.guidance * logits[1]
        value = sample(logits.float(), how, generator)
        sure = sure + logits.float().log_softmax(-1).gather(-1, value[..., None])[..., 0]
        return value

    return network.generator.chain.draw(x, choose), sure


def sample(logits: Tensor, how: Decoding, generator: torch.Generator | None = None) -> Tensor:
    """Draw (...,) int64 values from (..., V) logits."""
    if not how.temperature:
        return logits.argmax(-1)
    shares, values = (logits / how.temperature).softmax(-1).sort(-1, descending=True)
    before = shares.cumsum(-1) - shares
    shares = shares.masked_fill(before >= how.top_p, 0)
    flat = torch.multinomial(shares.flatten(0, -2), 1, generator=generator).view(shares.shape[:-1])
    return values.gather(-1, flat[..., None])[..., 0]


def _gumbel(like: Tensor, generator: torch.Generator | None) -> Tensor:
    u = torch.rand(like.shape, generator=generator, device=like.device)
    return -torch.log(-torch.log(u.clamp(1e-9, 1 - 1e-7)))
