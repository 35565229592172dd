# SPDX-License-Identifier: Apache-2.0
"""A real model file that is quick to load and to run; its labels mean nothing."""

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


if __name__ == "__main__":
    write(Path(sys.argv[1]))
