# SPDX-License-Identifier: Apache-2.0
"""Load a model file onto a device, ready for clouds; the task that the file names decides what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch

from pc_perception.models.bev_head import BoxDetector
from pc_perception.models.object_encoder import ObjectClassifier, ObjectEncoder
from pc_perception.models.shape_generator import ShapeNetwork
from pc_perception.models.voxel_objects import VoxelObjectEncoder

from .classifier import Classifier
from .contract import InputContract
from .detector import Detector
from .model_file import build, read_model_file
from .object_contract import ObjectContract
from .segmenter import Segmenter
from .shape_contract import ShapeContract
from .shapes import ShapeModel

T = TypeVar("T")
AnyModel = Segmenter | Classifier | Detector | ShapeModel


def load_model(model: str | Path, device: str = "auto", precision: str = "auto") -> AnyModel:
    """Load a model; the task in its file decides what comes back.

    Args:
        model: name of a shipped model (``street``, ``room``, ``objects``, ``shapes``) or path of a model file.
        device: ``auto`` (the first CUDA device, else the CPU), ``cpu``, ``cuda``, ``cuda:N``.
        precision: ``float32``, ``bfloat16`` (factors of linear layers; labels of about one point in two thousand
            change), or ``auto``: bfloat16 on CPUs and GPUs that have instructions for it.

    Returns:
        A ``Segmenter``, which labels the points of clouds, a ``Classifier``, which labels clouds that are
        single objects, a ``Detector``, which finds boxes, or a ``ShapeModel``, which makes and completes shapes.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the file, the device or the precision cannot be used; the message says why.
    """
    chosen = choose_device(device)
    header, tensors = read_model_file(model)
    network, contract, labels = build(header), header.contract, header.labels
    tasks = {ObjectClassifier: "classification", BoxDetector: "detection", ShapeNetwork: "shapes"}
    task = tasks.get(type(network), "segmentation")
    if header.task != task or labels is None:
        raise ValueError(f"'{model}' holds a model for '{header.task}', this needs '{task}'")
    network.load_state_dict(tensors, assign=True)
    if isinstance(network, ObjectClassifier) and isinstance(contract, ObjectContract):
        return Classifier(network, contract, labels, chosen, precision)
    if isinstance(contract, ShapeContract):
        return ShapeModel(network, contract, labels, chosen, precision)
    assert isinstance(contract, InputContract)
    if isinstance(network, BoxDetector):
        return Detector(network, contract, labels, chosen, precision)
    return Segmenter(network, contract, labels, chosen, precision)


def load_segmenter(model: str | Path, device: str = "auto", precision: str = "auto") -> Segmenter:
    """Load a model that labels points: ``load_model``, which refuses one for another task with a ValueError."""
    return _load_as(Segmenter, "segmentation", model, device, precision)


def load_classifier(model: str | Path, device: str = "auto", precision: str = "auto") -> Classifier:
    """Load a model that labels objects: ``load_model``, which refuses one for another task with a ValueError."""
    return _load_as(Classifier, "classification", model, device, precision)


def load_detector(model: str | Path, device: str = "auto", precision: str = "auto") -> Detector:
    """Load a model that finds boxes: ``load_model``, which refuses one for another task with a ValueError."""
    return _load_as(Detector, "detection", model, device, precision)


def load_shapes(model: str | Path, device: str = "auto", precision: str = "auto") -> ShapeModel:
    """Load a model of shapes: ``load_model``, which refuses one for another task with a ValueError."""
    return _load_as(ShapeModel, "shapes", model, device, precision)


def _load_as(kind: type[T], task: str, model: str | Path, device: str, precision: str) -> T:
    loaded = load_model(model, device, precision)
    if not isinstance(loaded, kind):
        held = read_model_file(model)[0].task
        raise ValueError(f"'{model}' holds a model for '{held}', this needs '{task}'")
    return loaded


def load_object_encoder(model: str | Path, device: str = "auto") -> ObjectEncoder | VoxelObjectEncoder:
    """Load the encoder of objects that a file holds, alone, in a classifier or a model of shapes: features, no labels.

    Raises:
        FileNotFoundError, ValueError: as ``read_model_file``, or the file holds no encoder of objects.
    """
    chosen = choose_device(device)
    header, tensors = read_model_file(model)
    network = build(header)
    if not isinstance(network, ObjectClassifier | ShapeNetwork):
        raise ValueError(
            f"'{model}' holds a {header.architecture['name']}, which does not describe single objects"
        )
    prefix = "encoder."
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    network.encoder.load_state_dict(own, assign=True)
    return network.encoder.to(chosen).eval().requires_grad_(False)


def choose_device(device: str = "auto") -> torch.device:
    """Return the torch device that ``device`` names.

    Raises:
        ValueError: it is not a device, or not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"'{device}' is not a device; use auto, cpu, cuda or cuda:N") from None
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device '{device}' is not supported; use auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device '{device}' is not there: torch sees {torch.cuda.device_count()} CUDA device(s)"
        )
    return chosen
