# SPDX-License-Identifier: Apache-2.0
"""What ``benchmarks.cmcr`` measures: mIoU of segmenters and of linear probes over all points, cost of a step."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cmcr_data import DRIVES
from benchmarks.norms import settling
from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract, Prepared
from pc_perception.inference.model_file import load_segmenter, read_model_file
from pc_perception.inference.segmenter import Segmenter
from pc_perception.labels import LabelSet, load_label_set
from pc_perception.models.segmenters import SEGMENTERS
from training.batch import IGNORE, voxel_labels
from training.data.specs import DataOptions, open_one
from training.evaluate.segmentation import evaluate

LABELS = "street8"
N_PROBE, PROBE_VOXELS = 20, 1000
"""Training clouds of the linear probe, and random voxels of each."""
N_REAL = 4
REAL = {
    "PandaSet": ("nuscenes:nuscenes/pandaset002_nusc_dev", "pandaset43"),
    "SemanticKITTI": ("semantickitti:semantickitti/mmdet3d_seq00", ""),
}
"""Real clouds below ``PC_PERCEPTION_DATA``, ``N_REAL`` of each at most: where, and the id space of their labels."""


def segmenter_figures(model: Path, drives: Path) -> dict[str, float]:
    """Return mIoU on the held-out drives, and on the real clouds that are there."""
    segmenter = load_segmenter(str(model), "cpu")
    found = {"miou": held_out_miou(segmenter, drives)}
    root = Path(os.environ.get("PC_PERCEPTION_DATA", "/nowhere"))
    for name, (spec, source) in REAL.items():
        kind, _, folder = spec.partition(":")
        if (root / folder).is_dir():
            data = open_one(f"{kind}:{root / folder}", DataOptions(LABELS, label_source=source))
            found[name] = evaluate(segmenter, data, N_REAL).mean_iou()
    return found


def held_out_miou(segmenter: Segmenter, drives: Path) -> float:
    """Return the mIoU over all points of the test drives."""
    data = open_one(f"nuscenes:{drives / 'test'}", DataOptions(LABELS))
    return evaluate(segmenter, data, DRIVES["test"][1]).mean_iou()


def encoder_figures(model: Path, drives: Path) -> dict[str, float]:
    """Return the probes' mIoU of an encoder, and of one with random weights of the same seed."""
    header, tensors = read_model_file(model)
    assert isinstance(header.contract, InputContract)
    network = SEGMENTERS[header.architecture["name"]]
    labels, found = load_label_set(LABELS), {}
    # An encoder of random weights is the same for all arms of a seed.
    for name in ("random", "probe") if "contrast" in model.parent.name else ("probe",):
        torch.manual_seed(int(header.provenance["seed"]))
        segmenter = network.build(header.contract.n_features, len(labels), header.architecture["arguments"])
        if name == "probe":
            segmenter.load_state_dict(tensors, strict=False)
        else:
            see = settling(segmenter, segmenter.encoder)
            for _, scene in _probe_scenes(header.contract, segmenter.encoder.n_levels, drives):
                see(scene.features, scene.pyramid)
        found[name] = linear_probe(segmenter, header.contract, labels, drives)
    return found


def linear_probe(network: Any, contract: InputContract, labels: LabelSet, drives: Path) -> float:
    """Return the mIoU, over all points of the held-out drives, of a linear head fitted to frozen features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    network.eval()
    rng = np.random.default_rng(0)
    features, classes = [], []
    for cloud, scene in _probe_scenes(contract, network.encoder.n_levels, drives):
        with torch.inference_mode():
            x = network.encoder(scene.features, scene.pyramid).numpy()
        target = voxel_labels(np.asarray(cloud.fields["label"]), scene.inverse, len(x), len(labels)).numpy()
        rows = rng.permutation(np.flatnonzero(target != IGNORE))[:PROBE_VOXELS]
        features.append(x[rows])
        classes.append(target[rows])
    x, y = np.concatenate(features).astype(np.float64), np.concatenate(classes)
    scaler = StandardScaler().fit(x)
    probe = LogisticRegression(max_iter=300).fit(scaler.transform(x), y)
    weight = probe.coef_ / scaler.scale_
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(-1e4)  # a class that no training voxel has
        network.head.weight[probe.classes_] = torch.from_numpy(weight).float()
        bias = probe.intercept_ - weight @ scaler.mean_
        network.head.bias[probe.classes_] = torch.from_numpy(bias).float()
    return held_out_miou(Segmenter(network, contract, labels, torch.device("cpu")), drives)


def _probe_scenes(
    contract: InputContract, n_levels: int, drives: Path
) -> Iterator[tuple[PointCloud, Prepared]]:
    """Yield the probe's training clouds, and as a network takes them."""
    train = open_one(f"nuscenes:{drives / 'train'}", DataOptions(LABELS))
    for k in range(N_PROBE):
        cloud = train[k * len(train) // N_PROBE]
        yield cloud, contract.prepare(cloud, n_levels)


def step_cost(run: Any, n_steps: int = 8) -> dict[str, float]:
    """Return the median CPU time of a pre-training step, without preparing its batch, and the process's peak memory."""
    from training.assembly import groups
    from training.data.specs import open_data
    from training.methods.method import Task

    torch.set_num_threads(1)
    torch.manual_seed(0)
    (data,) = open_data(run.data, run.data_options())
    network = SEGMENTERS[run.network.__name__]
    levels = network.build_encoder(run.contract.n_features, run.encoder).n_levels
    task = Task(run.contract, 0, levels, run.encoder, run.augmentation, network)
    batch = run.method.collate([run.method.sample(data[0], np.random.default_rng(0), task)])
    model = run.method.build(task, np.zeros(0, np.int64))
    optimiser, times = torch.optim.AdamW(groups(model, run.weight_decay), run.lr), []
    for _ in range(n_steps + 2):
        begin = time.process_time()
        losses = model.losses(batch)
        optimiser.zero_grad()
        torch.stack([v for k, v in losses.items() if k.startswith("loss")]).sum().backward()
        optimiser.step()
        times.append(1e3 * (time.process_time() - begin))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": float(np.median(times[2:])), "mb": peak}
