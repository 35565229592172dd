# SPDX-License-Identifier: Apache-2.0
"""Real model files that are quick to load and to run; their labels mean nothing."""

from __future__ import annotations

import sys
from pathlib import Path


def write(path: Path, label_set: str = "street8", seen: dict[str, tuple[float, ...]] | None = None) -> Path:
    """Write a model with random weights, always the same, and return its path."""
    import torch

    from pc_perception.inference.contract import InputContract
    from pc_perception.inference.model_file import ModelHeader, save_model
    from pc_perception.labels import load_label_set
    from pc_perception.models.scene_encoder import SceneEncoder, SceneSegmenter

    sizes = {"widths": [8, 12, 16], "local": [1, 1, 1], "mixers": [0, 0, 1]}
    arguments = {**sizes, "heads": 2, "d_key": 4, "d_value": 8}
    contract = InputContract(
        0.4, ("offset", "height", "range", "intensity"), max_range_m=60.0, seen=seen or {}
    )
    labels = load_label_set(label_set)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SceneSegmenter(SceneEncoder(contract.n_features, **arguments), len(labels))
    architecture = {"name": "SceneSegmenter", "arguments": arguments}
    save_model(path, network, ModelHeader("segmentation", architecture, contract, labels))
    return path


def write_objects(path: Path) -> Path:
    """Write a model of single objects with random weights, always the same, and return its path."""
    import torch

    from pc_perception.inference.model_file import ModelHeader, save_model
    from pc_perception.inference.object_contract import ObjectContract
    from pc_perception.labels import load_label_set
    from pc_perception.models.object_encoder import ObjectClassifier, ObjectEncoder

    sizes = {"n_patches": 8, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "embed": [8, 12, 16]}
    labels = load_label_set("objects16")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ObjectClassifier(ObjectEncoder(**sizes), len(labels), "mlp3").train()
        for _ in range(10):  # batch norms see something
            network(torch.randn(8, 64, 3))
        torch.nn.init.normal_(network.head[-1].weight, std=3.0)
    architecture = {"name": "ObjectClassifier", "arguments": {**sizes, "head": "mlp3"}}
    save_model(path, network, ModelHeader("classification", architecture, ObjectContract(128), labels))
    return path


if __name__ == "__main__":
    kind, file = sys.argv[1:] if len(sys.argv) == 3 else ("points", sys.argv[1])
    {"points": write, "objects": write_objects}[kind](Path(file))
