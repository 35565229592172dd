# SPDX-License-Identifier: Apache-2.0
"""The linear probe of CMCR's evidence: a head on frozen features, fitted to little streets and held against others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BUILDING, CONTRACT, POLE, ROAD, VEHICLE, little_street

pytest.importorskip("sklearn", reason="the probe is scikit-learn's")

from benchmarks import cmcr_measure
from benchmarks.cmcr_measure import fit_head
from benchmarks.norms import settling
from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import Segmenter
from pc_perception.labels import load_label_set
from pc_perception.models.segmenters import SEGMENTERS
from training.batch import IGNORE, voxel_labels
from training.data.dataset import Subset
from training.data.specs import DataOptions, open_one

ENCODER = {"widths": (8, 8, 16), "blocks": (1, 1), "up_widths": (16, 16), "up_blocks": (1, 1)}
LABELS = load_label_set("street8")
UNSEEN = [little_street(seed) for seed in range(20, 23)]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """Random weights whose norms have seen two streets."""
    torch.manual_seed(0)
    made = SEGMENTERS["SparseUNetSegmenter"].build(CONTRACT.n_features, len(LABELS), ENCODER)
    see = settling(made, made.encoder)
    with torch.no_grad():
        for seed in (30, 31):
            scene = CONTRACT.prepare(little_street(seed), made.encoder.n_levels)
            see(scene.features, scene.pyramid)
    return made


def accuracy(network: torch.nn.Module, clouds: list[PointCloud]) -> float:
    segmenter = Segmenter(network, CONTRACT, LABELS, torch.device("cpu"))
    return float(np.mean([(segmenter(c).labels == c.fields["label"]).mean() for c in clouds]))


def test_the_probe_tells_classes_by_frozen_features(network: torch.nn.Module, street_folder: Path) -> None:
    frozen = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    fit_head(network, CONTRACT, open_one(f"folder:{street_folder}", DataOptions("street8")))
    assert all(torch.equal(v, frozen[k]) for k, v in network.encoder.state_dict().items())
    majority = np.mean([(c.fields["label"] == ROAD).mean() for c in UNSEEN])
    assert accuracy(network, UNSEEN) > majority + 0.2
    absent = sorted(set(range(len(LABELS))) - {ROAD, BUILDING, VEHICLE, POLE})
    assert (network.head.bias[absent] < -1e3).all()
    assert not network.head.weight[absent].any()


def test_the_head_is_the_pipeline_that_was_fitted(
    network: torch.nn.Module, street_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaling folded into the weights, and classes with gaps between their ids, change no prediction."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    monkeypatch.setattr(cmcr_measure, "PROBE_VOXELS", 10**6)  # all of them
    streets = Subset(open_one(f"folder:{street_folder}", DataOptions("street8")), [0])
    fit_head(network, CONTRACT, streets)
    cloud = streets[0]
    scene = CONTRACT.prepare(cloud, network.encoder.n_levels)
    with torch.inference_mode():
        x = network.encoder(scene.features, scene.pyramid)
        ours = network.head(x).argmax(1).numpy()
    target = voxel_labels(cloud.fields["label"], scene.inverse, len(x), len(LABELS)).numpy()
    known = target != IGNORE
    plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    theirs = plain.fit(x.numpy()[known], target[known]).predict(x.numpy())
    assert (ours == theirs).mean() > 0.995
    assert set(ours) <= {ROAD, BUILDING, VEHICLE, POLE}
