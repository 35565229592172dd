# SPDX-License-Identifier: Apache-2.0
"""The model file: one ``.safetensors`` with the tensors and, in its header, everything to run them.

Header metadata key ``pc_perception`` holds JSON: ``format``, ``task``, ``architecture`` {``name``,
``arguments``}, ``contract``, ``labels``, ``provenance``, ``sha256``. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pc_perception.labels import LabelSet

from .architectures import CONTRACTS, Contract, build_network
from .contract import InputContract

FORMAT = 1
KEY = "pc_perception"


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says about its tensors.

    Attributes:
        task: ``segmentation``, ``classification``, ``detection``, ``encoder``, ``tokenizer`` or ``shapes``.
        architecture: ``{"name": ..., "arguments": {...}}``.
        contract: the input it takes.
        labels: its classes; None for an encoder and a tokenizer.
        provenance: method, data, seeds, commit, metrics with the data they were measured on, licence.
    """

    task: str
    architecture: dict[str, Any]
    contract: Contract
    labels: LabelSet | None
    provenance: dict[str, Any] = field(default_factory=dict)


def shipped_models() -> dict[str, Path]:
    """Return the models that come with the package: name -> file."""
    folder = Path(str(resources.files("pc_perception") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def build(header: ModelHeader) -> Any:
    """Build the network of a header on the meta device (no memory; assign tensors next).

    Raises:
        ValueError: unknown architecture, or arguments out of bounds.
    """
    name, arguments = header.architecture.get("name"), header.architecture.get("arguments")
    n_classes = len(header.labels) if header.labels else 1
    with torch.device("meta"):
        return build_network(str(name), arguments, header.contract, n_classes)


def save_model(path: str | Path, network: torch.nn.Module, header: ModelHeader) -> None:
    """Write a model file; an existing one is replaced only when the new one is complete."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    plain = {
        "format": FORMAT,
        "task": header.task,
        "architecture": header.architecture,
        "contract": header.contract.to_json(),
        "labels": header.labels.to_json() if header.labels else None,
        "provenance": header.provenance,
    }
    plain["sha256"] = _digest(plain, tensors)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.unlink(missing_ok=True)  # one that was interrupted has safetensors' mode
    unfinished.touch()
    mode = unfinished.stat().st_mode
    save_file(tensors, unfinished, metadata={KEY: json.dumps(plain)})
    unfinished.chmod(mode)  # safetensors writes for its owner alone; a node often runs as another user
    unfinished.replace(path)


def read_model_file(model: str | Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """Read and check a model file: header, tensor names and shapes, checksum.

    Args:
        model: name of a shipped model or path of a file.

    Returns:
        The header and the tensors (CPU), which fit ``build(header)``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a model file, is damaged, or contradicts itself.
    """
    path = shipped_models().get(str(model), Path(model))
    if not path.is_file():
        known = ", ".join(shipped_models()) or "none"
        raise FileNotFoundError(
            f"no model '{model}': neither a file nor a shipped model (those are: {known})"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # Copies: the tensors are maps of the file, and whoever overwrites it in place (`cp`) would
            # otherwise kill every process that runs the model.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, MemoryError) as error:
        raise ValueError(f"'{path}' is not a readable safetensors file ({error}); export it again") from None
    header, digest = _parse_header(path, metadata)
    _check_tensors(path, header, tensors)
    plain = {**json.loads(metadata[KEY])}
    plain.pop("sha256", None)
    if digest != _digest(plain, tensors):
        raise ValueError(f"'{path}' is damaged: its content does not match its checksum; copy it again")
    return header, tensors


def _parse_header(path: Path, metadata: dict[str, str]) -> tuple[ModelHeader, str]:
    if KEY not in metadata:
        raise ValueError(f"'{path}' has no '{KEY}' entry in its header: it is not one of our model files")
    try:
        data = json.loads(metadata[KEY])
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"the header of '{path}' is not readable JSON; export the model again") from None
    if not isinstance(data, dict):
        raise ValueError(f"the header of '{path}' must be a JSON object; export the model again")
    missing = {"format", "task", "architecture", "contract", "labels", "sha256"} - set(data)
    if missing:
        raise ValueError(f"the header of '{path}' lacks {sorted(missing)}; export the model again")
    if data["format"] != FORMAT:
        raise ValueError(f"'{path}' has format {data['format']!r}, this version reads format {FORMAT}")
    if not isinstance(data["architecture"], dict) or not isinstance(data["task"], str):
        raise ValueError(f"the header of '{path}' names no architecture or task; export the model again")
    try:
        labels = None if data["labels"] is None else LabelSet.from_json(data["labels"])
        kind = CONTRACTS.get(str(data["architecture"].get("name")), InputContract)
        contract = kind.from_json(data["contract"])
    except ValueError as error:
        raise ValueError(f"the header of '{path}' is wrong: {error}") from None
    provenance = data.get("provenance")
    header = ModelHeader(
        data["task"],
        data["architecture"],
        contract,
        labels,
        provenance if isinstance(provenance, dict) else {},
    )
    return header, str(data["sha256"])


def _check_tensors(path: Path, header: ModelHeader, tensors: dict[str, Tensor]) -> None:
    try:
        built = build(header).state_dict()
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"the header of '{path}' is wrong: {error}") from None
    if header.task == "encoder":
        built = {k: v for k, v in built.items() if not k.startswith("head.")}
    expected = {name: tuple(t.shape) for name, t in built.items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    for name in sorted(set(expected) | set(found)):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"'{path}' does not fit its header: tensor '{name}' should be {expected.get(name, 'absent')},"
                f" it is {found.get(name, 'absent')}"
            )
        # Whole numbers are only the counters of batch norms.
        if tensors[name].is_floating_point() != built[name].is_floating_point():
            raise ValueError(
                f"'{path}': tensor '{name}' is {tensors[name].dtype}, it should be {built[name].dtype}"
            )


def _digest(plain: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the canonical header and all tensors: a flipped byte anywhere shows."""
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
