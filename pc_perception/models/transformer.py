# SPDX-License-Identifier: Apache-2.0
"""Pre-norm transformer over dense tokens (B, T, C), shared by all encoders and decoders of objects."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.ops.backend import resolve

from .linear import Linear


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values come without bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"the width {width} must be a multiple of the number of heads {heads}")
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=False)
        self.proj = Linear(width, width)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Apart before heads and tokens change places: gradients are then put together as they lie in memory.
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); ``mask`` (T, T) or (B, 1, T, T) bool is True where a row may look."""
        y = functional.scaled_dot_product_attention(*self._split(x), attn_mask=mask)
        return self.proj(y.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return how much each token looks at each, (B, H, T, T), rows sum to 1, and values (B, H, T, C / H)."""
        q, k, v = self._split(x)
        logits = q @ k.mT * q.shape[-1] ** -0.5
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        return logits.softmax(-1), v


class DropPath(nn.Module):
    """Leave a residual branch out for some objects of a batch, in training (arXiv 1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C), whole objects zero, the others scaled up to the same expectation."""
        scale = self.scale(x)
        return x if scale is None else x * scale

    def scale(self, x: Tensor) -> Tensor | None:
        """Draw what the objects of (B, T, C) are multiplied by, (B, 1, 1); None: nothing is left out."""
        if not self.training or not self.rate:
            return None
        keep = 1 - self.rate
        return x.new_empty(len(x), 1, 1).bernoulli_(keep) / keep


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int, drop_path: float = 0.0, expansion: int = 4) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(
            Linear(width, expansion * width), nn.GELU(), Linear(expansion * width, width)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor | None = None, position: Tensor | None = None) -> Tensor:
        """Map (B, T, C) to the same; ``position`` (B, T, C) is added first."""
        if position is not None and self._has_kernels(x):
            from pc_perception.ops.gpu.residual_norm import add_norm

            x, normal = add_norm(x, position, None, self.norm1)
            branch = self.attn(normal, mask)
            x, normal = add_norm(x, branch, self.drop_path.scale(branch), self.norm2)
            return x + self.drop_path(self.mlp(normal))
        x = _placed(x, position)
        x = x + self.drop_path(self.attn(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _has_kernels(self, x: Tensor) -> bool:
        """Whether this is a training step on a GPU."""
        return (
            self.training
            and torch.is_grad_enabled()
            and x.dtype != torch.float64
            and resolve(x.device) == "triton"
        )


class Transformer(nn.Module):
    """Blocks and a final norm; positions are added before every block, as Point-MAE does.

    Args:
        drop_path: of the last block, growing linearly from 0.
    """

    def __init__(self, width: int, depth: int, heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map tokens (B, T, C), at embedded positions (B, T, C), to (B, T, C)."""
        return self.norm(self.outputs(x, position, mask)[-1])

    def outputs(self, x: Tensor, position: Tensor | None = None, mask: Tensor | None = None) -> list[Tensor]:
        """Return the input and what each block makes of it, before the final norm."""
        steps = [x]
        for block in self.blocks:
            steps.append(block(steps[-1], mask, position))
        return steps

    def last_attention(
        self, steps: list[Tensor], position: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return attention and values (``Attention.weights``) of the last block, given ``outputs``."""
        block = self.blocks[-1]
        assert isinstance(block, Block)
        return block.attn.weights(block.norm1(_placed(steps[-2], position)), mask)


def _placed(x: Tensor, position: Tensor | None) -> Tensor:
    return x if position is None else x + position


def position_mlp(width: int, hidden: int = 128) -> nn.Sequential:
    """Return Point-MAE's embedding of a place: MLP 3 -> hidden -> width."""
    return nn.Sequential(nn.Linear(3, hidden), nn.GELU(), Linear(hidden, width))


class SinePosition(nn.Module):
    """PointGPT's fixed code of a place (temperature 1): sine and cosine of 2 pi times each coordinate, repeated.

    At that temperature all frequencies are the same, so the code has six different channels; so it
    is in the public code.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, xyz: Tensor) -> Tensor:
        """Map (..., 3) to (..., width), zero where width is no multiple of six."""
        angle = 2 * math.pi * xyz[..., None]
        pair = torch.cat([angle.sin(), angle.cos()], -1)
        code = pair.repeat_interleave(self.width // 6, -2).flatten(-2)
        return functional.pad(code, (0, self.width - code.shape[-1]))


def initialise(module: nn.Module) -> None:
    """Draw linear weights from a normal distribution of deviation 0.02, cut at two; biases are zero.

    For ``module.apply``.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
