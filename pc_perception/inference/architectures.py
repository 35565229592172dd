# SPDX-License-Identifier: Apache-2.0
"""The networks that a model file can hold, by name, and bounds on what its header may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from pc_perception.models.object_encoder import ORDERS, ObjectClassifier, ObjectEncoder
from pc_perception.models.object_parts import ObjectPartSegmenter
from pc_perception.models.segmenters import SEGMENTERS, named, whole_numbers
from pc_perception.models.shape_generator import ShapeNetwork
from pc_perception.models.shape_tokenizer import ShapeTokenizer
from pc_perception.models.vector_quantizer import UPDATES
from pc_perception.models.voxel_objects import VoxelObjectEncoder

from .contract import InputContract
from .object_contract import ObjectContract
from .shape_contract import ShapeContract

Contract = InputContract | ObjectContract | ShapeContract
MAX_WIDTH, MAX_BLOCKS, MAX_PATCHES, MAX_CATEGORIES = 2048, 64, 4096, 1024
HEADS = ("linear", "mlp3")

CONTRACTS: dict[str, type[InputContract] | type[ObjectContract] | type[ShapeContract]] = {
    **dict.fromkeys(SEGMENTERS, InputContract),
    "ObjectClassifier": ObjectContract,
    "VoxelObjectClassifier": ObjectContract,
    "ObjectPartSegmenter": ObjectContract,
    "ShapeTokenizer": ShapeContract,
    "ShapeNetwork": ShapeContract,
}
"""The contract that goes with each architecture."""


def build_network(name: str, arguments: Any, contract: Contract, n_classes: int) -> Any:
    """Build a network with random weights on the current device.

    Raises:
        ValueError: unknown architecture, or arguments out of bounds.
    """
    if name in SEGMENTERS and isinstance(contract, InputContract):
        architecture = SEGMENTERS[name]
        return architecture.build(contract.n_features, n_classes, architecture.check(arguments))
    if name == "ObjectPartSegmenter" and isinstance(contract, ObjectContract):
        checked = dict(arguments) if isinstance(arguments, Mapping) else {}
        n_categories = checked.pop("n_categories", 0)
        whole_numbers("n_categories", [n_categories], 0, MAX_CATEGORIES)
        tokens = ObjectEncoder(**_object_arguments(checked, {"head"}))
        return ObjectPartSegmenter(tokens, n_classes, n_categories)
    if name in CONTRACTS and isinstance(contract, ObjectContract):
        on_voxels = name == "VoxelObjectClassifier"
        checked = dict(_voxel_arguments(arguments) if on_voxels else _object_arguments(arguments))
        head = checked.pop("head", "mlp3")
        encoder = VoxelObjectEncoder(**checked) if on_voxels else ObjectEncoder(**checked)
        return ObjectClassifier(encoder, n_classes, head)
    if name == "ShapeTokenizer" and isinstance(contract, ShapeContract):
        return ShapeTokenizer(**_tokenizer_arguments(arguments))
    if name == "ShapeNetwork" and isinstance(contract, ShapeContract):
        parts = named(arguments, {"tokenizer", "encoder", "generator"}, name)
        tokenizer = ShapeTokenizer(**_tokenizer_arguments(parts.get("tokenizer")))
        encoder = ObjectEncoder(**_object_arguments(parts.get("encoder"), {"head"}))
        generator = named(parts.get("generator"), {"width", "depth", "heads"}, "TokenGenerator")
        for size, most in (("width", MAX_WIDTH), ("depth", MAX_BLOCKS), ("heads", 64)):
            whole_numbers(size, [generator.get(size)], 1, most)
        return ShapeNetwork(tokenizer, encoder, n_classes, **generator)
    raise ValueError(f"architecture '{name}' is unknown to this version; it knows {', '.join(CONTRACTS)}")


def _voxel_arguments(arguments: Any) -> Mapping[str, Any]:
    scene = SEGMENTERS["SceneSegmenter"]
    named(arguments, {*scene.lists, *scene.scalars, "grid", "head"}, "VoxelObjectEncoder")
    scene.check({k: v for k, v in arguments.items() if k not in ("grid", "head")})
    grid, head = arguments.get("grid", 0.05), arguments.get("head", "mlp3")
    if not (type(grid) in (int, float) and 1e-3 <= grid <= 1):
        raise ValueError(f"the architecture's grid must lie in 0.001 .. 1, got {grid}")
    if head not in HEADS:
        raise ValueError(f"the architecture's head must be one of {HEADS}, got {head}")
    return arguments


def _tokenizer_arguments(arguments: Any) -> dict[str, Any]:
    most = {
        "n_patches": MAX_PATCHES,
        "patch_size": 512,
        "width": MAX_WIDTH,
        "heads": 64,
        "encoder_depth": MAX_BLOCKS,
        "decoder_depth": MAX_BLOCKS,
        "n_codes": 65_536,
        "code_width": MAX_WIDTH,
        "hidden": 4096,
        "field_depth": 16,
    }
    for name, value in named(arguments, {*most, "embed", "update", "decay"}, "ShapeTokenizer").items():
        if name in most:
            whole_numbers(name, [value], 0 if name == "encoder_depth" else 1, most[name])
        elif name == "embed":
            whole_numbers(name, value, 1, MAX_WIDTH, most=3)
        elif name == "decay" and not (type(value) is float and 0 < value < 1):
            raise ValueError(f"the architecture's decay must lie in 0 .. 1, got {value}")
        elif name == "update" and value not in UPDATES:
            raise ValueError(f"the architecture's update must be one of {UPDATES}, got {value}")
    return arguments


def _object_arguments(arguments: Any, without: Set[str] = frozenset()) -> Mapping[str, Any]:
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
        "head": HEADS,
    }
    known = {*sizes, *choices, "embed", "drop_path"} - without
    for name, value in named(arguments, known, "ObjectEncoder").items():
        if name in sizes:
            whole_numbers(name, [value], 1, sizes[name])
        elif name == "embed":
            whole_numbers(name, value, 1, MAX_WIDTH, most=3)
        elif name in choices and not any(type(value) is type(v) and value == v for v in choices[name]):
            raise ValueError(f"the architecture's {name} must be one of {choices[name]}, got {value}")
        elif name == "drop_path" and not (type(value) in (int, float) and 0 <= value < 1):
            raise ValueError(f"the architecture's drop_path must lie in 0 .. 1, got {value}")
    return arguments
