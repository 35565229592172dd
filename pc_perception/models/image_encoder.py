# SPDX-License-Identifier: Apache-2.0
"""Image trunks that stay as they are, and the decoders that bring their features to pixels.

``resnet50`` and ``vit_small16`` are Hugging Face transformers' (an optional package); ``small`` is our own, for CPUs.
Nothing is downloaded: weights come from a file (``image_weights``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB in 0 .. 1, which trunks expect to be taken off."""
TRUNKS = ("small", "resnet50", "vit_small16")


class SmallTrunk(nn.Module):
    """Residual convolutions, 1/16 of the resolution, 0.4 M parameters, no statistics of batches.

    Attributes:
        width: channels of the result.
        stride: pixels per result's pixel.
    """

    width, stride = 128, 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 4, 4)
        self.stages = nn.Sequential(
            _Block(32), nn.Conv2d(32, 64, 2, 2), _Block(64), nn.Conv2d(64, 128, 2, 2), _Block(128)
        )
        self.norm = nn.GroupNorm(8, 128)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (n, 3, H, W) to (n, 128, H/16, W/16)."""
        return self.norm(self.stages(self.stem(images)))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.relu(self.first(self.norm(x))))


class TransformersTrunk(nn.Module):
    """A network of transformers with features as (n, C, H/stride, W/stride).

    Raises:
        ImportError: transformers is not installed.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        try:
            from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel
        except ImportError as error:
            raise ImportError(
                f"the image trunk '{name}' needs transformers; install with: pip install 'pc_perception[image]'"
            ) from error
        self.is_vit = name == "vit_small16"
        self.network: Any
        if self.is_vit:
            shape: dict[str, Any] = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
            config = ViTConfig(**shape, intermediate_size=1536, patch_size=16, layer_norm_eps=1e-6)
            self.network, self.width, self.stride = ViTModel(config, add_pooling_layer=False), 384, 16
        else:
            self.network, self.width, self.stride = ResNetModel(ResNetConfig()), 2048, 32

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (n, 3, H, W) to (n, C, H/stride, W/stride)."""
        if not self.is_vit:
            return self.network(images).last_hidden_state
        tokens = self.network(images, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        size = (images.shape[2] // self.stride, images.shape[3] // self.stride)
        return tokens.transpose(1, 2).unflatten(2, size)


def make_trunk(name: str) -> SmallTrunk | TransformersTrunk:
    """Return a trunk with random weights.

    Raises:
        ValueError: there is no such trunk.
        ImportError: its package is not installed.
    """
    if name not in TRUNKS:
        raise ValueError(f"there is no image trunk '{name}'; choose one of {', '.join(TRUNKS)}")
    return SmallTrunk() if name == "small" else TransformersTrunk(name)


class FrozenTrunk(nn.Module):
    """A trunk in evaluation mode, without gradient, that takes RGB in 0 .. 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: SmallTrunk | TransformersTrunk) -> None:
        super().__init__()
        self.trunk, self.width, self.stride = trunk.requires_grad_(False).eval(), trunk.width, trunk.stride
        for name, value in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> FrozenTrunk:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """Map (n, 3, H, W) to (n, C, H/stride, W/stride)."""
        return self.trunk((rgb - self.mean) / self.std)


class PixelHead(nn.Module):
    """1x1 convolution and bilinear enlargement: CMCR's and SLidR's "ppkt" decoder.

    Args:
        n_in, n_out: channels.
        factor: enlargement.
    """

    def __init__(self, n_in: int, n_out: int, factor: int) -> None:
        super().__init__()
        self.layer, self.factor = nn.Conv2d(n_in, n_out, 1), factor

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, h, w) to (n, n_out, h * factor, w * factor)."""
        x = self.layer(x)
        return x if self.factor == 1 else enlarged(x, self.factor)


def enlarged(x: Tensor, factor: int) -> Tensor:
    """Enlarge (n, C, h, w) to (n, C, h * factor, w * factor) as bilinear ``interpolate`` with aligned corners does.

    By a product for columns and one for rows. The gradient of ``interpolate`` adds up on a GPU one by one, in
    bfloat16 where that is the dtype: of the thousand places that share a value, the later ones are rounded away.
    """
    x = x.movedim(1, 3)
    n, h, w, _ = x.shape
    rows, columns = (_enlargement(size, factor, x.device) for size in (h, w))
    x = torch.bmm(columns.to(x.dtype).expand(n * h, -1, -1), x.flatten(0, 1)).unflatten(0, (n, h))
    x = torch.bmm(rows.to(x.dtype).expand(n, -1, -1), x.flatten(2))
    return x.unflatten(2, (w * factor, -1)).movedim(3, 1)


def _enlargement(size: int, factor: int, device: torch.device) -> Tensor:
    """Return the (size * factor, size) float32 weights of a line's places in its enlargement."""
    line = torch.eye(size, device=device)[None]
    return functional.interpolate(line, scale_factor=factor, mode="linear", align_corners=True)[0].T
