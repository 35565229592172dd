# SPDX-License-Identifier: Apache-2.0
"""Weights of image trunks from files: our own, transformers', torchvision's and MoCo-v2's, DINO's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .image_encoder import SmallTrunk, TransformersTrunk

_WRAPPERS = ("state_dict", "teacher", "model")
_PREFIXES = ("module.", "encoder_q.", "backbone.", "trunk.", "network.")
_RESNET = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
    (r"^layer(\d)\.(\d+)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}."),
    (r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization."),
)
_VIT = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
)


def load_image_weights(trunk: SmallTrunk | TransformersTrunk, path: str | Path) -> None:
    """Fill a trunk from a file; classifiers and projection heads in it are left out.

    ResNet-50: torchvision's names, alone or as MoCo-v2 keeps them (``state_dict``, ``module.encoder_q.``).
    ViT-S/16: DINO's names, alone or within a full checkpoint (``teacher``, ``backbone.``). All: our names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read without unpickling code, or a tensor is missing or of another shape.
    """
    network: nn.Module = trunk if isinstance(trunk, SmallTrunk) else trunk.network
    state = {_bare(k): v for k, v in _read(Path(path)).items() if isinstance(v, Tensor)}
    if "layer1.0.conv1.weight" in state:
        state = _renamed(state, _RESNET)
    elif "patch_embed.proj.weight" in state:
        state = _split(_renamed(state, _VIT))
    expected, found = network.state_dict(), {}
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            found[name] = tensor
        elif name not in state:
            raise ValueError(f"'{path}' lacks the tensor '{name}' of this image trunk; check image_trunk")
        elif state[name].shape != tensor.shape:
            wanted = tuple(tensor.shape)
            raise ValueError(f"'{path}': '{name}' is {tuple(state[name].shape)}, the trunk needs {wanted}")
        else:
            found[name] = state[name]
    network.load_state_dict(found)


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there are no image weights '{path}'; nothing is downloaded by itself")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no public class for pickles that it refuses
        raise ValueError(
            f"'{path}' cannot be read as plain tensors ({error}); save its state dict alone"
        ) from None
    for key in _WRAPPERS:
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if not isinstance(data, dict):
        raise ValueError(f"'{path}' holds a {type(data).__name__}, not a state dict")
    return data


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _renamed(state: Mapping[str, Tensor], rules: Any) -> dict[str, Tensor]:
    out = {}
    for name, tensor in state.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        out[name] = tensor
    return out


def _split(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut the joint projections of DINO's attention into query, key and value."""
    out = {}
    for name, tensor in state.items():
        if ".qkv." in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                out[name.replace(".qkv.", f".{part}_proj.")] = piece.clone()
        else:
            out[name] = tensor
    return out
