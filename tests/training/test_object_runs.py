# SPDX-License-Identifier: Apache-2.0
"""Whole runs on analytic objects: pre-training without labels, fine-tuning from it, the classifier of the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import SHAPES, SMALL, make_object, object_run, write_objects

from benchmarks import jobs
from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_classifier, load_model, load_segmenter
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.object_contract import ObjectContract
from pc_perception.io.files import write_cloud
from pc_perception.labels import load_label_set
from training.checkpoint import load_state
from training.methods.classification import Classification
from training.methods.method import Task
from training.methods.point_mae import PointMae
from training.methods.segmentation import class_weights
from training.objects import ObjectAugmentation, labels_of_data, object_label
from training.run import main, train
from training.settings import RunSettings

CONFIGS = (
    "point_mae_pretrain",
    "pointacl_pretrain",
    "pointacl_causal_pretrain",
    "point_pqae_pretrain",
    "classify_tiny",
    "classify_voxels",
    "objects",
    "classify_spd",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_objects(tmp_path_factory.mktemp("objects"), range(8))


def test_pretrain_fine_tune_classify(folder: Path, tmp_path: Path) -> None:
    """The thin path: no labels, then labels, then a file that a user loads."""
    encoder = {**SMALL, "class_token": False}
    first = object_run(
        folder, tmp_path / "mae", method=PointMae(), label_set="", encoder=encoder, lr=2e-3, max_steps=20
    )
    pretrained = train(first)
    header, _ = read_model_file(pretrained)
    assert (header.task, header.labels) == ("encoder", None)
    tune = object_run(
        folder, tmp_path / "tune", init=str(pretrained), lr=5e-3, max_steps=120, batch_size=16, ema=0.9
    )
    model = load_classifier(train(tune), "cpu")
    unseen = [make_object(kind, seed, 300) for kind in range(5) for seed in range(100, 104)]
    right = [r.label == i // 4 for i, r in enumerate(model(unseen))]
    assert np.mean(right) >= 0.7  # 0.2 by chance
    log = next((tmp_path / "tune").rglob("*.log")).read_text()
    assert "encoder.class_token: not in the file" in log


def test_model_file_and_live_network_agree(folder: Path, tmp_path: Path) -> None:
    run = object_run(folder, tmp_path / "run", ema=0.0)
    model = load_model(train(run), "cpu", "float32")
    state = load_state(run.work_dir)["model"]
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, state[f"network.{name}"])
    with pytest.raises(ValueError, match="'classification', this needs 'segmentation'"):
        load_segmenter(tmp_path / "run" / "model.safetensors")


def test_a_short_run_is_measured_at_what_it_learned(folder: Path, tmp_path: Path) -> None:
    """What batch norms keep has arrived after a few steps, though inputs vary ten thousand times less than 1."""
    for seed in (0, 1):
        run = object_run(
            folder, tmp_path / str(seed), ema=0.0, max_steps=20, batch_size=20, lr=3e-3, seed=seed
        )
        model = load_classifier(train(run), "cpu", "float32")
        objects = [make_object(kind, 50 + seed, 300) for kind in range(5) for seed in range(4)]
        points = torch.stack([model.contract.prepare(o) for o in objects])
        norm = model.network.encoder.embedding.first[1]
        seen: list[torch.Tensor] = []
        norm.register_forward_hook(lambda _, given, __, seen=seen: seen.append(given[0]))
        model.network.train()(points)
        assert (norm.running_var / seen[0].var(0)).log().abs().max() < 1.5
        assert norm.running_var.max() < 0.05  # 0.9^20 = 0.12 would be left of torch's start


@pytest.mark.parametrize("mode", ["linear", "mlp3"])
def test_frozen_encoders_stay_what_they_were(folder: Path, tmp_path: Path, mode: str) -> None:
    method = Classification(mode=mode, still=True)
    start = train(object_run(folder, tmp_path / "start", ema=0.0))
    file = train(object_run(folder, tmp_path / mode, method=method, init=str(start), ema=0.0, lr=0.1))
    before, after = read_model_file(start)[1], read_model_file(file)[1]
    changed = {name for name in after if name not in before or not torch.equal(before[name], after[name])}
    assert {n for n in changed if n.startswith("encoder.")} == {
        "encoder.class_token",
        "encoder.class_position",
    }
    assert "head.weight" in changed or "head.0.weight" in changed


def test_rare_classes_weigh_more() -> None:
    task = Task(ObjectContract(64), 3, 0, SMALL, ObjectAugmentation())
    counts = np.array([64, 36, 0])
    assert Classification().build(task, counts).weights.tolist() == [1, 1, 1]
    weighted = Classification(weight_cap=4.0).build(task, counts)
    assert weighted.weights.tolist() == pytest.approx(class_weights(counts, 4.0).tolist())
    assert not any("weights" in name for name in weighted.state_dict())


def test_resume_equals_an_uninterrupted_run(
    folder: Path, tmp_path: Path, train_and_die: Callable[[RunSettings], None]
) -> None:
    whole = object_run(folder, tmp_path / "whole", max_steps=6)
    train(whole)
    half = replace(whole, work_dir=str(tmp_path / "half"), max_steps=6, checkpoint_steps=3)
    train_and_die(half)
    train(replace(half, resume=True))
    one, other = load_state(whole.work_dir)["model"], load_state(half.work_dir)["model"]
    assert all(torch.equal(one[k], other[k]) for k in one)


BAD = {
    "only 3 finite points": PointCloud(np.eye(3, dtype=np.float32), {"label": np.zeros(3, np.uint16)}),
    "all of its points are equal": PointCloud(
        np.ones((50, 3), np.float32), {"label": np.zeros(50, np.uint16)}
    ),
    "needs one label, this one has several": make_object(0, 0).with_fields(
        label=(np.arange(256) % 2).astype(np.uint16)
    ),
    "needs one label, this one has none": PointCloud(make_object(0, 0).xyz),
}


@pytest.mark.parametrize("problem", BAD)
def test_bad_objects_are_named_and_end_a_run_of_many(tmp_path: Path, problem: str) -> None:
    folder = write_objects(tmp_path / "data", [0])
    for i in range(3):
        write_cloud(folder / f"bad{i}.npz", BAD[problem])
    with pytest.raises(ValueError, match=f"more than 1%.*{problem}"):
        train(object_run(folder, tmp_path / "run", max_steps=40))


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_run(folder: Path, tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["max_steps=1", "max_minutes=0", "batch_size=4", "progress=false", "threads=1", "workers=0"]
    street = ["label_set=street8"]
    more = {"objects": ["data_shares="]}.get(config, street if config.startswith("classify") else [])
    work_dir = tmp_path / config
    assert main([config, f"data=folder:{folder}", f"work_dir={work_dir}", *settings, *more]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"model: {work_dir / 'model.safetensors'}"
    header, _ = read_model_file(work_dir / "model.safetensors")
    assert json.dumps(header.provenance)


def test_an_encoder_of_other_patches_is_refused(folder: Path, tmp_path: Path) -> None:
    start = train(object_run(folder, tmp_path / "start", max_steps=1))
    other = {**SMALL, "patch_size": 12}
    with pytest.raises(ValueError, match=r"patches of 8 points, .* takes 12; set encoder.patch_size=8"):
        train(object_run(folder, tmp_path / "run", init=str(start), encoder=other))


def test_objects_smaller_than_a_patch_are_trained_on(tmp_path: Path) -> None:
    folder = write_objects(tmp_path / "data", range(2), n=9)
    encoder = {**SMALL, "patch_size": 16}
    model = load_classifier(train(object_run(folder, tmp_path / "run", encoder=encoder)), "cpu")
    assert not (tmp_path / "run" / "bad_samples.txt").exists()
    assert model(make_object(0, 5, 9)).scores.sum() == pytest.approx(1, abs=1e-5)


def test_a_head_of_other_classes_is_begun_anew(folder: Path, tmp_path: Path) -> None:
    start = train(object_run(folder, tmp_path / "start", max_steps=1))
    run = object_run(folder, tmp_path / "run", init=str(start), label_set="objects16", max_steps=1)
    assert len(load_classifier(train(run), "cpu").label_set) == 16
    log = next((tmp_path / "run").rglob("*.log")).read_text()
    assert "head.8.bias: (8,) in the file, (16,) here" in log
    with pytest.raises(ValueError, match="name different classes"):
        labels_of_data([type("Five", (), {"classes": tuple("abcde")})], "objects16")


def test_normals_and_colours_may_be_missing(folder: Path, tmp_path: Path) -> None:
    """What a network of objects sees is x, y, z; some objects of a set may have more fields than others."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for seed in range(2):
        cloud = make_object(seed, seed)
        more = {"normal": np.zeros((len(cloud), 3), np.float32), "rgb": np.zeros((len(cloud), 3), np.uint8)}
        write_cloud(mixed / f"{seed}.npz", cloud.with_fields(**(more if seed else {})))
    model = load_classifier(train(object_run(mixed, tmp_path / "run", max_steps=2)), "cpu")
    bare = PointCloud(make_object(1, 1).xyz)
    for found, plain in zip(model([cloud.with_fields(**more), bare]), [model(bare)] * 2, strict=True):
        assert found.scores.tolist() == pytest.approx(plain.scores.tolist(), abs=1e-5)


def test_a_batch_of_one_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="raise batch_size"):
        train(object_run(folder, tmp_path / "run", batch_size=1))


class Named:
    """Stands for a data set of objects that knows its classes."""

    def __init__(self, *classes: str) -> None:
        self.classes = classes


def test_classes_come_from_the_data_or_from_the_preset() -> None:
    found = labels_of_data([Named("a", "b"), Named("a", "b")], "")
    assert found.classes == ("a", "b")
    assert len(set(found.colors)) == 2
    preset = load_label_set("street8")
    assert labels_of_data([object()], "street8") == preset
    assert labels_of_data([Named(*preset.classes)], "street8") == preset
    with pytest.raises(ValueError, match="name different classes"):
        labels_of_data([Named("a", "b"), Named("b", "a")], "")
    with pytest.raises(ValueError, match="name different classes"):
        labels_of_data([Named("a", "b")], "street8")


def test_the_class_of_an_object() -> None:
    @dataclass(frozen=True)
    class Categorised(PointCloud):
        category: int = 2

    xyz = make_object(0, 0).xyz
    parts = np.arange(len(xyz)).astype(np.uint16)
    assert object_label(Categorised(xyz, {"label": parts}), 3) == 2  # its points' labels are parts
    with pytest.raises(ValueError, match="not one of the 2 classes"):
        object_label(Categorised(xyz), 2)
    with pytest.raises(ValueError, match="has none"):
        object_label(Categorised(xyz, category=-1), 2)


def test_data_that_names_no_classes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="say which they are by label_set"):
        train(object_run(folder, tmp_path / "run", label_set=""))
    assert len(SHAPES) == 5


def test_evidence_knows_whether_a_run_is_whole(folder: Path, tmp_path: Path) -> None:
    run, kept = object_run(folder, tmp_path / "run", max_steps=2), tmp_path / "figures.json"
    model = jobs.train_to_end(run)
    assert jobs.is_trained(run)
    assert not jobs.is_current(kept, run)
    kept.write_text("{}")
    os.utime(model, (0, 0))
    assert jobs.train_to_end(run) == model
    assert model.stat().st_mtime == 0  # not trained again
    assert jobs.is_current(kept, run)
    longer = replace(run, max_steps=3)
    assert not jobs.is_current(kept, longer)
    with pytest.raises(InterruptedError, match="before step 3"):
        jobs.train_to_end(replace(longer, max_minutes=1e-6))
