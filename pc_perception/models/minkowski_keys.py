# SPDX-License-Identifier: Apache-2.0
"""Names of MinkowskiEngine's Res16UNet in state dicts (PointContrast, SLidR, CMCR), there and back.

Kernels are (offsets, in, out) there as here, and offsets are counted alike, x fastest (MinkowskiEngine 0.5.4,
``src/kernel_region.hpp``), so that only names change; 1x1 kernels are (in, out) and become linear weights. The
transposed convolutions take the offsets of the convolutions with in and out exchanged: not stated by the source, to be
confirmed on published weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .sparse_unet import SparseUNet

PREFIXES = ("model.", "model_points.", "module.", "encoder.")
"""What training wrappers put before the names; taken off in this order, as SLidR's loader does."""
HEADS = {"final": "head", "final_class_level": "specific"}
"""1x1 convolutions with bias behind the network: SLidR's, and the second that CMCR adds."""
_STATISTICS = ("weight", "bias", "running_mean", "running_var")


def minkowski_names(network: SparseUNet) -> dict[str, str]:
    """Return our name of every tensor of the network -> MinkowskiEngine's."""
    names = _unit("stem", "conv0p1s1", "bn0")
    n = len(network.down)
    for i in range(n):
        names |= _unit(f"down.{i}", f"conv{i + 1}p{2**i}s2", f"bn{i + 1}")
        names |= _unit(f"up.{i}", f"convtr{n + i}p{2 ** (n - i)}s2", f"bntr{n + i}")
        for ours, theirs in ((f"stages.{i}", f"block{i + 1}"), (f"up_stages.{i}", f"block{n + i + 1}")):
            stage = network.get_submodule(ours)
            for j, block in enumerate(stage):  # type: ignore[arg-type, var-annotated]
                here, there = f"{ours}.{j}", f"{theirs}.{j}"
                names |= _unit(f"{here}.first", f"{there}.conv1", f"{there}.norm1")
                names |= _unit(f"{here}.second", f"{there}.conv2", f"{there}.norm2")
                if block.shortcut is not None:
                    names[f"{here}.shortcut.0.weight"] = f"{there}.downsample.0.kernel"
                    names |= _norm(f"{here}.shortcut.1", f"{there}.downsample.1")
    return names


def to_minkowski(
    network: SparseUNet, heads: Mapping[str, torch.nn.Linear] | None = None
) -> dict[str, Tensor]:
    """Return the state dict that MinkowskiEngine's network of the same shape would have.

    Args:
        heads: names out of ``HEADS`` -> linear layers behind the network.
    """
    own, out = network.state_dict(), {}
    for ours, theirs in minkowski_names(network).items():
        out[theirs] = own[ours].T if "shortcut.0" in ours else own[ours]
        if theirs.endswith("running_var"):
            out[theirs.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    for name, head in (heads or {}).items():
        out[f"{name}.kernel"], out[f"{name}.bias"] = head.weight.detach().T, head.bias.detach()[None]
    return out


def from_minkowski(state: Mapping[str, Tensor], network: SparseUNet) -> dict[str, Tensor]:
    """Return a state dict for ``network`` and, as ``head.*`` and ``specific.*``, the 1x1 heads that it holds.

    Raises:
        ValueError: a tensor is missing, left over, or of another shape.
    """
    given = {_bare(k): v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    expected, out = network.state_dict(), {}
    for ours, theirs in minkowski_names(network).items():
        if theirs not in given:
            raise ValueError(f"the state dict lacks '{theirs}'; it is not of a Res16UNet of this shape")
        tensor = given.pop(theirs)
        tensor = tensor.T if "shortcut.0" in ours else tensor
        if tensor.shape != expected[ours].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[ours].shape)
            raise ValueError(f"'{theirs}' is {found}, this network needs {wanted}")
        out[ours] = tensor.contiguous()
    for theirs, ours in HEADS.items():
        if f"{theirs}.kernel" in given:
            out[f"{ours}.weight"] = given.pop(f"{theirs}.kernel").T.contiguous()
            out[f"{ours}.bias"] = given.pop(f"{theirs}.bias").flatten()
    if given:
        raise ValueError(f"the state dict holds '{min(given)}', which this network has not")
    return out


def read_minkowski(path: str | Path, network: SparseUNet) -> dict[str, Tensor]:
    """Read a checkpoint of SLidR (``model_points``), CMCR (``state_dict``) or PointContrast, by ``from_minkowski``.

    Nothing is unpickled but tensors and plain values. Weights of the image side and of losses are left out.

    Raises:
        ValueError: the file cannot be read, or as ``from_minkowski``.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"'{path}' cannot be read as plain tensors ({error}); save only its tensors"
        ) from error
    if not isinstance(data, dict):
        raise ValueError(
            f"'{path}' holds a {type(data).__name__}, not a state dict; save the network's state_dict()"
        )
    for key in ("model_points", "state_dict"):
        data = data.get(key, data)
    points = {k: v for k, v in data.items() if k.startswith("model_points.")} or data
    return from_minkowski({k: v for k, v in points.items() if isinstance(v, Tensor)}, network)


def _unit(ours: str, convolution: str, norm: str) -> dict[str, str]:
    return {f"{ours}.convolution.weight": f"{convolution}.kernel"} | _norm(f"{ours}.norm", norm)


def _norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{part}": f"{theirs}.bn.{part}" for part in _STATISTICS}


def _bare(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
