# SPDX-License-Identifier: Apache-2.0
"""What ``benchmarks.cmcr`` measures: mIoU of segmenters and of linear probes over all points, cost of a step."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cmcr_data import KEYFRAMES, LABELS, REAL, drives, keyframes_of, real_clouds
from benchmarks.norms import settling
from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract, Prepared
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.segmenter import Segmenter
from pc_perception.labels import load_label_set
from pc_perception.models.segmenters import SEGMENTERS
from training.batch import IGNORE, voxel_labels
from training.data.dataset import CloudDataset, Subset
from training.evaluate.segmentation import evaluate

N_PROBE, PROBE_VOXELS = 20, 1000
"""Training clouds of the linear probe, and random voxels of each."""
N_REAL = 4
"""Clouds of each real set, at most, that segmenters of simulated drives are measured on."""


def segmenter_figures(model: Path, folder: Path) -> dict[str, float]:
    """Return mIoU on the held-out drives, and on the real clouds that are there."""
    segmenter = load_segmenter(str(model), "cpu")
    found = {"miou": evaluate(segmenter, drives(folder, "test")).mean_iou()}
    for name in REAL:
        data = real_clouds(name)
        if data is not None:
            found[name] = evaluate(segmenter, data, N_REAL).mean_iou()
    return found


def keyframe_figures(model: Path) -> dict[str, float]:
    """Return mIoU on the real keyframes that nothing learns from."""
    unseen = keyframes_of("unseen")
    assert unseen is not None
    return {"miou": evaluate(load_segmenter(str(model), "cpu"), unseen).mean_iou()}


def encoder_figures(model: Path, folder: Path) -> dict[str, float]:
    """Return the probes' mIoU of an encoder, and of one with random weights of the same seed."""
    header, tensors = read_model_file(model)
    contract = header.contract
    assert isinstance(contract, InputContract)
    network = SEGMENTERS[header.architecture["name"]]
    labels, found = load_label_set(LABELS), {}
    probes = _probes(folder)
    # An encoder of random weights is the same for all arms of a seed.
    for start in ("random", "probe") if "contrast" in model.parent.name else ("probe",):
        torch.manual_seed(int(header.provenance["seed"]))
        segmenter = network.build(contract.n_features, len(labels), header.architecture["arguments"])
        if start == "probe":
            segmenter.load_state_dict(tensors, strict=False)
        else:
            see = settling(segmenter, segmenter.encoder)
            for _, scene in _prepared(probes[""][0], contract, segmenter.encoder.n_levels):
                see(scene.features, scene.pyramid)
        for place, (known, unseen) in probes.items():
            fit_head(segmenter, contract, known)
            probed = Segmenter(segmenter, contract, labels, torch.device("cpu"))
            found[f"{start} {place}".strip()] = evaluate(probed, unseen).mean_iou()
    return found


def fit_head(network: Any, contract: InputContract, known: CloudDataset) -> None:
    """Give a segmenter the linear head that fits its encoder's frozen features best: a linear probe."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    network.eval()
    rng = np.random.default_rng(0)
    features, classes = [], []
    for cloud, scene in _prepared(known, contract, network.encoder.n_levels):
        with torch.inference_mode():
            x = network.encoder(scene.features, scene.pyramid).numpy()
        label, n_classes = np.asarray(cloud.fields["label"]), network.head.out_features
        target = voxel_labels(label, scene.inverse, len(x), n_classes).numpy()
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


def _probes(folder: Path) -> dict[str, tuple[CloudDataset, CloudDataset]]:
    """Return, by place, the clouds that a probe is fitted to and those it is measured on; '' is the simulation."""
    train = drives(folder, "train")
    known = Subset(train, [k * len(train) // N_PROBE for k in range(N_PROBE)])
    found: dict[str, tuple[CloudDataset, CloudDataset]] = {"": (known, drives(folder, "test"))}
    real, later = keyframes_of("known"), keyframes_of("unseen")
    if real is not None and later is not None:
        found[KEYFRAMES] = (real, later)
    return found


def _prepared(
    data: CloudDataset, contract: InputContract, n_levels: int
) -> Iterator[tuple[PointCloud, Prepared]]:
    """Yield clouds, and as a network takes them."""
    for i in range(len(data)):
        cloud = data[i]
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
