# SPDX-License-Identifier: Apache-2.0
"""Boxes seen from above: codes, targets, losses, mAP and NDS by the devkit, whole runs on a simulated drive."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("open3d", reason="ray casting needs open3d")

import camera_drive

from pc_perception.geometry import in_box, pose, rotation_z
from pc_perception.inference.contract import InputContract
from pc_perception.inference.detector import DetectionResult, Detector
from pc_perception.inference.loading import load_detector, load_model, load_segmenter
from pc_perception.labels import load_label_set
from pc_perception.models.bev_head import BOX, CELLS, STRIDE, BoxDetector, cells, decode, encode
from pc_perception.models.pyramid import pack
from pc_perception.models.segmenters import SEGMENTERS
from training.augment import Augmentation
from training.data.boxes import BoxCloud
from training.data.nuscenes import NuScenesClouds
from training.data.specs import DataOptions, open_one
from training.evaluate import boxes as evaluation
from training.methods.boxes import Boxes, focal_loss, heat_map, moved
from training.methods.method import Task
from training.run import train
from training.settings import RunSettings, read_config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ENCODER = {"widths": (8, 8, 16), "blocks": (1, 1), "up_widths": (16, 16), "up_blocks": (1, 1)}
CONTRACT = InputContract(grid_m=0.2, features=("offset", "height", "intensity"), max_range_m=50)
LABELS = load_label_set("nuscenes10")
CALM = Augmentation(max_points=0, drop_intensity=0, intensity_gamma=0)
TASK = Task(CONTRACT, 10, 3, ENCODER, CALM, SEGMENTERS["BoxDetector"])
CELL = STRIDE * CONTRACT.grid_m


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camera_drive.write(tmp_path_factory.mktemp("drive"))


@pytest.fixture(scope="module")
def data(root: Path) -> NuScenesClouds:
    found = open_one(f"nuscenes:{root}", DataOptions("nuscenes10", boxes=True))
    assert isinstance(found, NuScenesClouds)
    return found


def some_boxes() -> torch.Tensor:
    return torch.tensor(
        [
            [10.3, -4.1, -0.8, 4.6, 1.9, 1.7, 0.3, 5.0, -1.0],
            [-20.0, 13.0, -0.5, 0.7, 0.6, 1.8, -2.9, 0.0, 1.2],
            [48.0, 3.3, 0.1, 11.0, 2.9, 3.5, 1.6, 0.0, 0.0],
        ]
    )


def maps_of(boxes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the maps that a perfect network gives."""
    cell, value = encode(boxes, CELL)
    heat = heat_map(boxes, labels, len(LABELS), CELL)
    maps = torch.cat([(heat * 0.98 + 0.01).logit(), torch.zeros(BOX, CELLS, CELLS)])
    maps[len(LABELS) :].flatten(1)[:, cell] = value.T
    return maps


def test_what_is_encoded_is_decoded() -> None:
    boxes, labels = some_boxes(), torch.tensor([0, 5, 2])
    found, classes, scores = decode(maps_of(boxes, labels), len(LABELS), CELL, 3)
    order = classes.argsort()
    torch.testing.assert_close(found[order], boxes[[0, 2, 1]], atol=1e-4, rtol=1e-4)
    assert classes[order].tolist() == [0, 2, 5]
    assert (scores > 0.9).all()
    beyond, _ = encode(torch.tensor([[60.0, 0, 0, 1, 1, 1, 0, 0, 0], [0, -51.3, 0, 1, 1, 1, 0, 0, 0]]), CELL)
    assert beyond.tolist() == [-1, -1]


def test_voxels_stand_in_the_cells_of_their_places(data: NuScenesClouds) -> None:
    level = CONTRACT.prepare(data[0], 3).pyramid.levels[0]
    cell = cells(level)
    inside = cell >= 0
    assert torch.equal(inside, (level.xyz[:, :2].abs() < CELLS / 2 * CELL).all(1))
    middle = (torch.stack([cell // CELLS, cell % CELLS], 1) - CELLS / 2 + 0.5) * CELL
    assert float((middle - level.xyz[:, :2])[inside].abs().max()) <= CELL / 2 + 1e-4
    both = CONTRACT.prepare(data[1], 3).pyramid
    packed = pack([CONTRACT.prepare(data[0], 3).pyramid, both]).levels[0]
    expected = torch.where(cells(both.levels[0]) >= 0, cells(both.levels[0]) + CELLS * CELLS, -1)
    assert torch.equal(cells(packed), torch.cat([cell, expected]))


def test_boxes_hold_the_points_of_their_objects(data: NuScenesClouds, root: Path) -> None:
    """Boxes of the devkit, in the cloud's frame, against labels of points, which the simulator wrote elsewhere."""
    cloud = data[0]
    assert isinstance(cloud, BoxCloud)
    assert len(cloud.boxes) > 3
    assert cloud.box_labels.max() < 10
    points = open_one(f"nuscenes:{root}", DataOptions("nuscenes16", instances=True))[0]
    held = [
        in_box(cloud.xyz, pose(box[:3], rotation_z(float(box[6]))), box[3:6] * 1.05) for box in cloud.boxes
    ]
    assert np.mean([within.any() for within in held]) > 0.8  # the others moved on while the sweep was taken
    shares = [(points.fields["instance"][within] > 0).mean() for within in held if within.sum() > 40]
    assert len(shares) > 2
    assert min(shares) > 0.5
    turned = moved(cloud, 0.1, np.random.default_rng(3))
    for before, after in zip(cloud.boxes, turned.boxes, strict=True):
        inside = [
            in_box(c.xyz, pose(b[:3], rotation_z(float(b[6]))), b[3:6] * 1.02)
            for c, b in ((cloud, before), (turned, after))
        ]
        assert (inside[0] == inside[1]).mean() > 0.9999
        speeds = [np.linalg.norm(b[7:9]) / np.linalg.norm(b[3:6]) for b in (before, after)]
        np.testing.assert_allclose(*speeds, rtol=1e-4)


def test_the_focal_loss_by_hand() -> None:
    logits, heat = torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[1.0, 0.5]]]])
    p = 1 / (1 + np.exp(-2.0))
    by_hand = -((0.5**2) * np.log(0.5) + 0.5**4 * p**2 * np.log(1 - p)) / 2
    assert float(focal_loss(logits, heat, 2)) == pytest.approx(by_hand, rel=1e-5)
    right = torch.where(heat == 1, 20.0, -20.0)
    assert float(focal_loss(right, heat, 1)) < 1e-6


def test_it_learns_the_boxes_of_a_sweep(data: NuScenesClouds) -> None:
    torch.manual_seed(0)
    method = Boxes(scale=0)
    batch = method.collate([method.sample(data[k], np.random.default_rng(k), TASK) for k in range(2)])
    assert batch.n_scenes == 2
    assert set(batch.scene.tolist()) == {0, 1}
    model = method.build(TASK, np.ones(10, np.int64))
    optimiser, log = torch.optim.AdamW(model.parameters(), 5e-3), []
    for _ in range(16):
        losses = model.losses(batch)
        optimiser.zero_grad()
        torch.stack([v for k, v in losses.items() if k.startswith("loss")]).sum().backward()
        optimiser.step()
        log.append({k: float(v.detach()) for k, v in losses.items()})
    assert log[-1]["loss_heat"] < 0.5 * log[0]["loss_heat"]
    assert log[-1]["loss_box"] < 0.7 * log[0]["loss_box"]
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    assert unused == []
    sample = method.sample(data[0], np.random.default_rng(0), TASK)
    empty = method.collate(
        [replace(sample, cell=sample.cell[:0], value=sample.value[:0], heat=sample.heat * 0)]
    )
    assert all(torch.isfinite(v) for v in model.losses(empty).values())
    unknown = method.collate(
        [replace(sample, value=torch.where(torch.arange(BOX) > 7, torch.nan, sample.value))]
    )
    assert float(model.losses(unknown)["loss_velocity"].detach()) == 0


def test_what_cannot_be_trained_on_is_told(data: NuScenesClouds, root: Path) -> None:
    plain = open_one(f"nuscenes:{root}", DataOptions("street8"))[0]
    with pytest.raises(ValueError, match="comes without boxes"):
        Boxes().sample(plain, np.random.default_rng(0), TASK)
    bent = replace(TASK, contract=InputContract(0.2, ("height",), voxels="cylindrical"))
    with pytest.raises(ValueError, match="cartesian"):
        Boxes().sample(data[0], np.random.default_rng(0), bent)
    with pytest.raises(ValueError, match="boxes need network=BoxDetector"):
        Boxes().build(replace(TASK, network=SEGMENTERS["SparseUNetSegmenter"]), np.ones(10, np.int64))
    with pytest.raises(ValueError, match="boxes need label_set=nuscenes10"):
        open_one(f"nuscenes:{root}", DataOptions("street8", boxes=True))


class Oracle:
    """Answer with the annotations themselves, moved by so many metres."""

    label_set = LABELS

    def __init__(self, off_m: float = 0.0, turn: float = 0.0) -> None:
        self.off_m, self.turn = off_m, turn

    def __call__(self, cloud: BoxCloud) -> DetectionResult:
        boxes = cloud.boxes.copy()
        boxes[:, 0] += self.off_m
        boxes[:, 6] += self.turn
        scores = np.full(len(boxes), 0.9, np.float32)
        return DetectionResult(np.nan_to_num(boxes), cloud.box_labels, scores, LABELS, {})


def test_the_devkit_finds_the_annotations_perfect(data: NuScenesClouds, tmp_path: Path) -> None:
    best = evaluation.evaluate(Oracle(), data, tmp_path / "best.json")  # type: ignore[arg-type]
    assert best["samples"] == 3
    assert best["present"]
    assert min(best["present"].values()) > 0.99
    assert best["mAP"] == pytest.approx(sum(best["present"].values()) / 10, abs=1e-6)
    astray = evaluation.evaluate(Oracle(1.5), data, tmp_path / "off.json")  # type: ignore[arg-type]
    assert astray["mAP"] == pytest.approx(best["mAP"] / 2, rel=0.1)  # within 2 and 4 m, not within 0.5 and 1
    turned = evaluation.evaluate(Oracle(turn=0.5), data, tmp_path / "turned.json")  # type: ignore[arg-type]
    assert turned["mAP"] == pytest.approx(best["mAP"])
    assert turned["NDS"] < best["NDS"]
    results = json.loads((tmp_path / "best.json").read_text())
    assert set(results) == {"meta", "results"}
    row = next(iter(results["results"].values()))[0]
    assert set(row) == {
        "sample_token", "translation", "size", "rotation", "velocity", "detection_name", "detection_score",
        "attribute_name",
    }  # fmt: skip


def test_whole_runs(
    make_run: Callable[..., RunSettings], root: Path, data: NuScenesClouds, tmp_path: Path, capsys
) -> None:  # type: ignore[no-untyped-def]
    run = make_run(
        data=f"nuscenes:{root}", contract=CONTRACT, encoder=ENCODER, label_set="nuscenes10", method=Boxes(),
        network=BoxDetector, augmentation=CALM, survey=1, batch_size=1, max_steps=5, lr=5e-3, ema=0.0,
        work_dir=str(tmp_path / "run"),
    )  # fmt: skip
    file = train(run)
    model, cloud = load_model(file, "cpu"), data[0]
    assert isinstance(model, Detector)
    model.least_score = 0.0
    found = model(cloud)
    assert found.boxes.shape == (200, 9)
    assert np.isfinite(found.boxes).all()
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(model([data[1], cloud])[1].boxes, found.boxes, atol=1e-4)
    order = np.random.default_rng(0).permutation(len(cloud))
    np.testing.assert_allclose(model(cloud.select(order)).scores, found.scores, atol=1e-3)
    assert len(model(cloud.select(np.zeros(0, int)))) == 0
    out = str(tmp_path / "results.json")
    assert evaluation.main([str(file), "--data", f"nuscenes:{root}", "--results", out]) == 0
    assert "3 samples: mAP" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds a model for 'detection', this needs 'segmentation'"):
        load_segmenter(file)
    with pytest.raises(ValueError, match="holds a model for 'segmentation', this needs 'detection'"):
        load_detector("street")


def test_the_config_fits_what_it_starts_from() -> None:
    run, pretrain = read_config("boxes"), read_config("cmcr_pretrain")
    assert (run.encoder, run.contract) == (pretrain.encoder, pretrain.contract)
    assert run.data_options().boxes
