# SPDX-License-Identifier: Apache-2.0
"""Small clouds, networks and model files that the core tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract
from pc_perception.inference.model_file import ModelHeader, save_model
from pc_perception.inference.segmenter import Segmenter
from pc_perception.labels import load_label_set
from pc_perception.models.scene_encoder import SceneEncoder, SceneSegmenter

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is defined

TINY = {"widths": [16, 24, 32], "local": [1, 1, 1], "mixers": [0, 1, 2], "heads": 2, "d_key": 8, "d_value": 8}
SIZE_T: dict = {}


def make_cloud(seed: int, n: int = 3000) -> PointCloud:
    """A floor with boxes on it, 40 m across, with intensity."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-20, -20, -1.8], [20, 20, -1.75], (n, 3))
    boxes = rng.random(n) < 0.4
    xyz[boxes, 2] += rng.uniform(0, 2.5, boxes.sum())
    xyz[boxes, :2] = np.round(xyz[boxes, :2] / 6) * 6 + rng.normal(0, 0.6, (boxes.sum(), 2))
    return PointCloud(
        xyz.astype(np.float32), {"intensity": rng.uniform(0, 255, n).astype(np.float32)}, "lidar"
    )


def make_segmenter(
    arguments: dict, features: tuple[str, ...] = ("offset", "height", "column", "shape", "range", "intensity")
) -> Segmenter:
    """A network with random weights whose logits are spread enough to make labels differ."""
    torch.manual_seed(0)
    contract = InputContract(0.4, features, max_range_m=60.0)
    network = SceneSegmenter(SceneEncoder(contract.n_features, **arguments), 8)
    torch.nn.init.normal_(network.head[1].weight, std=2.0)
    return Segmenter(network, contract, load_label_set("street8"), torch.device("cpu"))


@pytest.fixture
def cloud() -> PointCloud:
    return make_cloud(0)


@pytest.fixture
def segmenter() -> Segmenter:
    return make_segmenter(TINY)


@pytest.fixture
def model_path(tmp_path: Path, segmenter: Segmenter) -> Path:
    header = ModelHeader(
        "segmentation",
        {"name": "SceneSegmenter", "arguments": TINY},
        segmenter.contract,
        segmenter.label_set,
        {"method": "random", "data": "none"},
    )
    path = tmp_path / "model.safetensors"
    save_model(path, segmenter.network, header)
    return path
