# SPDX-License-Identifier: Apache-2.0
"""What ``benchmarks.pointcsp`` measures of a model: single scenes, scenes in sequence, probes, retrieval, speed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.segmenter import Segmenter
from pc_perception.labels import load_label_set
from pc_perception.metrics import Confusion
from pc_perception.models.pyramid import pack
from pc_perception.models.scene_encoder import SceneEncoder
from pc_perception.simulation.room import room_kind
from training.batch import IGNORE, voxel_labels
from training.data.simulation import HELD_OUT, SimulatedClouds
from training.data.specs import DataOptions, open_one
from training.methods.cross_sample import AcrossScenes

LABELS = "room9"
HOME = ("living", "bedroom", "kitchen", "lounge", "bathroom")
N_TEST, N_PROBE, PROBE_VOXELS = 15, 40, 100
BATCH = 6


def test_clouds() -> SimulatedClouds:
    """Return the held-out scenes: a scan and a view of each."""
    return SimulatedClouds("room", LABELS, N_TEST, 2, HELD_OUT)


def is_home(index: int) -> bool:
    """Say whether test cloud ``index`` is furnished as a home (else as a place of work)."""
    return room_kind(HELD_OUT + index // 2) in HOME


def segmenter_figures(model: Path) -> dict[str, Any]:
    """Return mIoU on held-out scenes, one at a time and as a batch in sequence, and on real rooms."""
    segmenter = load_segmenter(str(model), "cpu")
    data = test_clouds()
    clouds = [data[i] for i in range(len(data))]
    alone = [_counts(segmenter, c, segmenter(c).labels) for c in clouds]
    together = [
        _counts(segmenter, c, labels)
        for c, labels in zip(clouds, in_sequence(segmenter, clouds), strict=True)
    ]
    home = [is_home(i) for i in range(len(clouds))]
    return {
        "single": _miou(alone),
        "serialised": _miou(together),
        "home": _miou([m for m, h in zip(alone, home, strict=True) if h]),
        "work": _miou([m for m, h in zip(alone, home, strict=True) if not h]),
    } | real_rooms(segmenter)


def _counts(segmenter: Segmenter, cloud: PointCloud, labels: NDArray) -> NDArray:
    confusion = Confusion(len(segmenter.label_set))
    confusion.add(np.asarray(cloud.fields["label"]), labels)
    return confusion.matrix


def _miou(matrices: Sequence[NDArray]) -> float:
    confusion = Confusion(matrices[0].shape[0])
    confusion.matrix = np.sum(matrices, 0)
    return confusion.mean_iou()


def in_sequence(segmenter: Segmenter, clouds: Sequence[PointCloud]) -> list[NDArray]:
    """Label clouds in batches that are walked as one sequence, all tokens shuffled (seeded)."""
    out = []
    torch.manual_seed(0)
    for start in range(0, len(clouds), BATCH):
        batch = clouds[start : start + BATCH]
        scenes = [segmenter.contract.prepare(c, segmenter.network.encoder.n_levels) for c in batch]
        walk = AcrossScenes("shuffle_all", len(scenes))
        with torch.inference_mode():
            features = torch.cat([s.features for s in scenes])
            logits = segmenter.network(features, pack([s.pyramid for s in scenes]), walk)
        parts = logits.split([len(s.features) for s in scenes])
        out += [segmenter.contract.finish(x, s.inverse)[0] for x, s in zip(parts, scenes, strict=True)]
    return out


REAL = {"s3dis": ("s3dis:s3dis", ""), "scannet": ("folder:scannet/mmdet3d_instance_data", "nyu40")}
"""Real rooms below ``PC_PERCEPTION_DATA``: where, and the id space of their labels."""


def real_rooms(segmenter: Segmenter) -> dict[str, float]:
    """Return mIoU on the real rooms that are there (``PC_PERCEPTION_DATA``)."""
    root = Path(os.environ.get("PC_PERCEPTION_DATA", "/nowhere"))
    found = {}
    for name, (spec, source) in REAL.items():
        kind, _, folder = spec.partition(":")
        if not (root / folder).is_dir():
            continue
        data = open_one(f"{kind}:{root / folder}", DataOptions(LABELS, label_source=source))
        clouds = [data[i] for i in range(len(data))]
        found[name] = _miou([_counts(segmenter, c, segmenter(c).labels) for c in clouds])
    return found


def encoders_of(model: Path) -> dict[str, tuple[SceneEncoder, InputContract]]:
    """Return the encoder of a model file, and the one with random weights that its run began from."""
    header, tensors = read_model_file(model)
    found = {}
    for name in ("random", "trained"):
        torch.manual_seed(int(header.provenance["seed"]))
        encoder = SceneEncoder(header.contract.n_features, **header.architecture["arguments"]).eval()
        if name == "trained":
            encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in tensors.items()})
        found[name] = (encoder, header.contract)
    return found


def encoder_figures(model: Path) -> dict[str, Any]:
    """Return the linear probe and the cross-scene retrieval of an encoder, and of one with random weights."""
    train, test = SimulatedClouds("room", LABELS, N_PROBE, 4), test_clouds()
    found = {}
    for name, (encoder, contract) in encoders_of(model).items():
        known = features_of(encoder, contract, [train[4 * i] for i in range(N_PROBE)], PROBE_VOXELS)
        unseen = features_of(encoder, contract, [test[i] for i in range(len(test))], PROBE_VOXELS)
        found[name] = {"probe": linear_probe(known, unseen), "retrieval": class_retrieval(unseen)}
    return found


Features = list[tuple[NDArray, NDArray]]


def features_of(
    encoder: SceneEncoder, contract: InputContract, clouds: Sequence[PointCloud], most: int
) -> Features:
    """Return for each cloud (n, C) features and (n,) classes of at most ``most`` voxels of each class."""
    rng, out = np.random.default_rng(0), []
    n_classes = len(load_label_set(LABELS))
    for cloud in clouds:
        scene = contract.prepare(cloud, encoder.n_levels)
        with torch.inference_mode():
            x = encoder(scene.features, scene.pyramid).numpy()
        target = voxel_labels(np.asarray(cloud.fields["label"]), scene.inverse, len(x), n_classes).numpy()
        rows = [rng.permutation(np.flatnonzero(target == c))[:most] for c in range(n_classes)]
        kept = np.concatenate(rows)
        assert (target[kept] != IGNORE).all()
        out.append((x[kept], target[kept]))
    return out


def linear_probe(known: Features, unseen: Features) -> float:
    """Return the mean class accuracy on unseen scenes of a logistic regression on frozen features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = (np.concatenate(part) for part in zip(*known, strict=True))
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0, max_iter=300, class_weight="balanced")
    ).fit(x, y)
    x, y = (np.concatenate(part) for part in zip(*unseen, strict=True))
    return float(balanced_accuracy_score(y, probe.predict(x)))


def class_retrieval(scenes: Features) -> float:
    """Return how often the nearest class mean of all other scenes (cosine) is of the same class."""
    means, classes, scene_of = [], [], []
    for i, (x, y) in enumerate(scenes):
        for c in np.unique(y):
            means.append(x[y == c].mean(0))
            classes.append(c)
            scene_of.append(i)
    m, c, s = np.array(means), np.array(classes), np.array(scene_of)
    m = (m - m.mean(0)) / (m.std(0) + 1e-6)
    m /= np.linalg.norm(m, axis=1, keepdims=True)
    alike = m @ m.T
    alike[s[:, None] == s[None]] = -np.inf
    return float((c[alike.argmax(1)] == c).mean())
