# SPDX-License-Identifier: Apache-2.0
"""Model files out of training runs, and back into them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pc_perception.inference.architectures import Contract
from pc_perception.inference.contract import InputContract
from pc_perception.inference.model_file import ModelHeader, build, read_model_file, save_model
from pc_perception.labels import LabelSet

from .settings import RunSettings

NAME = "model.safetensors"
"""The file of a run's last weights."""
BEST = "best.safetensors"
"""That of the weights that were best on validation, where a run has one."""
_PLACES = ("cache_dir", "work_dir", "data_root", "init", "resume", "progress", "prepare_only")


def without_places(specs: str) -> str:
    """Return data specs with only the last part of each path: a model file names no machine's folders."""
    parts = (text.strip().partition(":") for text in specs.split(","))
    return ", ".join(f"{kind}:{Path(where).name}" if where else kind for kind, _, where in parts)


def provenance(run: RunSettings, data_names: Iterable[str]) -> dict[str, Any]:
    """Return what the model file says about how it came about."""
    plain = _plain(run)
    config = {k: v for k, v in plain.items() if k not in (*_PLACES, "contract")}
    config["data"] = without_places(run.data)
    config |= {key: Path(config[key]).name for key in ("label_set", "label_source", "split")}  # may be files
    for file in ("image_weights", "tokenizer"):
        if config["method"].get(file):
            config["method"][file] = Path(config["method"][file]).name
    return {
        "method": type(run.method).__name__,
        "data": without_places(run.data) + (f" ({Path(run.data_root).name})" if run.data_root else ""),
        "samples": list(data_names),
        "seed": run.seed,
        "data_seed": run.data_seed,
        "init": Path(run.init).name if run.init else "",
        "commit": commit(),
        "config": config,
        "licence": run.licence,
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {"name": type(value).__name__} | {
            f.name: _plain(getattr(value, f.name)) for f in fields(value)
        }
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, type):
        return value.__name__
    return value


def commit() -> str:
    """Return the commit of this checkout, ``unknown`` outside one, with ``+`` where files were changed."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def write_model(
    path: Path,
    run: RunSettings,
    contract: Contract,
    labels: LabelSet | None,
    deployable: nn.Module,
    story: dict[str, Any],
) -> None:
    """Write the model file of a run, an encoder's without ``labels``; of an image trunk its tensors alone, which
    ``image_weights`` reads.
    """
    if run.method.task == "image_trunk":
        tensors = {k: v.detach().cpu().contiguous() for k, v in deployable.state_dict().items()}
        save_file(tensors, path, metadata={"provenance": json.dumps(story)})
        return
    kept = None if run.method.task in ("encoder", "tokenizer") else labels
    save_model(path, deployable, ModelHeader(run.method.task, _architecture(run), contract, kept, story))


def _architecture(run: RunSettings) -> dict[str, Any]:
    """Return name and arguments of the network; a method with its own head names it."""
    arguments = {k: list(v) if isinstance(v, tuple) else v for k, v in run.encoder.items()}
    method = getattr(run.method, "inner", run.method)
    if hasattr(method, "architecture"):
        return method.architecture(arguments)
    name = run.network.__name__ if isinstance(run.contract, InputContract) else "ObjectClassifier"
    return {"name": name, "arguments": arguments}


def load_encoder(network: nn.Module, model: str, contract: Contract) -> list[str]:
    """Copy the tensors of a model file that fit into a network of the same naming.

    Returns:
        One line for each tensor of the network that was left as it was, with the reason, and for each part
        of the input in which the file's encoder differs.

    Raises:
        FileNotFoundError, ValueError: the file cannot be used, or nothing in it fits.
    """
    header, tensors = read_model_file(model)
    patch_size = getattr(build(header).encoder, "patch_size", 0)
    check_patch_size(network, patch_size, model)
    left = copy_encoder(network, tensors, model)
    theirs, ours = header.contract.to_json(), contract.to_json()
    for name in ("grid_m", "voxels", "features", "n_points"):
        if name in ours and theirs.get(name) != ours[name]:
            left.append(f"its input differs, {name} {theirs.get(name)} in the file, {ours[name]} here")
    return left


def check_patch_size(network: nn.Module, patch_size: int, model: str) -> None:
    """Refuse an object encoder whose embedding was trained on patches of another size (0: not known).

    Raises:
        ValueError: they differ.
    """
    own = getattr(network.encoder, "patch_size", 0)
    if own and patch_size and own != patch_size:
        raise ValueError(
            f"'{model}' was trained on patches of {patch_size} points, this encoder takes {own};"
            f" set encoder.patch_size={patch_size}"
        )


def copy_encoder(network: nn.Module, tensors: Mapping[str, Tensor], model: str) -> list[str]:
    """Copy the tensors that fit by name and shape; return a line for each of the network's that none fits.

    Raises:
        ValueError: nothing fits the encoder.
    """
    own = network.state_dict()
    left, fitting = [], {}
    for name, tensor in own.items():
        if name not in tensors:
            left.append(f"{name}: not in the file")
        elif tensors[name].shape != tensor.shape:
            left.append(f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(tensor.shape)} here")
        else:
            fitting[name] = tensors[name]
    if not any(name.startswith("encoder.") for name in fitting):
        raise ValueError(
            f"nothing in '{model}' fits this encoder; use the encoder arguments it was trained with"
        )
    with torch.no_grad():
        network.load_state_dict(fitting, strict=False)
    return left
