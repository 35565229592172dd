# SPDX-License-Identifier: Apache-2.0
"""The networks that a model file can hold, by name, and bounds on what its header may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from pc_perception.models.object_encoder import ORDERS, ObjectClassifier, ObjectEncoder
from pc_perception.models.scene_encoder import SceneEncoder, SceneSegmenter

from .contract import InputContract
from .object_contract import ObjectContract

Contract = InputContract | ObjectContract
MAX_WIDTH, MAX_BLOCKS, MAX_LEVELS, MAX_PATCHES = 2048, 64, 8, 4096

CONTRACTS: dict[str, type[InputContract] | type[ObjectContract]] = {
    "SceneSegmenter": InputContract,
    "ObjectClassifier": ObjectContract,
}
"""The contract that goes with each architecture."""


def build_network(name: str, arguments: Any, contract: Contract, n_classes: int) -> nn.Module:
    """Build a network with random weights on the current device.

    Raises:
        ValueError: unknown architecture, or arguments out of bounds.
    """
    if name == "SceneSegmenter" and isinstance(contract, InputContract):
        return SceneSegmenter(SceneEncoder(contract.n_features, **_scene_arguments(arguments)), n_classes)
    if name == "ObjectClassifier" and isinstance(contract, ObjectContract):
        checked = dict(_object_arguments(arguments))
        head = checked.pop("head", "mlp3")
        return ObjectClassifier(ObjectEncoder(**checked), n_classes, head)
    raise ValueError(f"architecture '{name}' is unknown to this version; it knows {', '.join(CONTRACTS)}")


def _named(arguments: Any, known: set[str], what: str) -> Mapping[str, Any]:
    if not isinstance(arguments, dict) or set(arguments) - known:
        raise ValueError(f"the architecture's arguments {str(arguments)[:200]} are not those of {what}")
    return arguments


def _whole(name: str, items: Any, low: int, high: int, most: int = MAX_LEVELS) -> None:
    """Bound every argument, so that a hostile header cannot make us build something huge."""
    if not isinstance(items, list | tuple) or not 1 <= len(items) <= most:
        raise ValueError(f"the architecture's {name} must list 1 to {most} levels")
    if any(type(v) is not int or not low <= v <= high for v in items):
        raise ValueError(f"the architecture's {name} must be whole numbers {low} .. {high}, got {items}")


def _scene_arguments(arguments: Any) -> Mapping[str, Any]:
    lists = {"widths": (1, MAX_WIDTH), "local": (0, MAX_BLOCKS), "mixers": (0, MAX_BLOCKS)}
    scalars = {"heads": (1, 64), "d_key": (1, 512), "d_value": (1, 512)}
    for name, value in _named(arguments, {*lists, *scalars}, "SceneEncoder").items():
        _whole(name, value if name in lists else [value], *(lists | scalars)[name])
    return arguments


def _object_arguments(arguments: Any) -> Mapping[str, Any]:
    sizes = {
        "n_patches": MAX_PATCHES,
        "patch_size": 512,
        "width": MAX_WIDTH,
        "depth": MAX_BLOCKS,
        "heads": 64,
    }
    choices: dict[str, tuple] = {
        **dict.fromkeys(("class_token", "causal", "skip_origin"), (False, True)),
        "order": tuple(ORDERS),
        "position": ("mlp", "sine"),
        "head": ("linear", "mlp3"),
    }
    known = {*sizes, *choices, "embed", "drop_path"}
    for name, value in _named(arguments, known, "ObjectEncoder").items():
        if name in sizes:
            _whole(name, [value], 1, sizes[name])
        elif name == "embed":
            _whole(name, value, 1, MAX_WIDTH, most=3)
        elif name in choices and not any(type(value) is type(v) and value == v for v in choices[name]):
            raise ValueError(f"the architecture's {name} must be one of {choices[name]}, got {value}")
        elif name == "drop_path" and not (type(value) in (int, float) and 0 <= value < 1):
            raise ValueError(f"the architecture's drop_path must lie in 0 .. 1, got {value}")
    return arguments
