# SPDX-License-Identifier: Apache-2.0
"""``pc-evaluate`` on classifiers: splits by instance, validation, classes of other names, result files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from shapes import SHAPES, SMALL, make_object, object_run
from shapes import write_objects as write_folder

from pc_perception.inference.loading import load_classifier
from pc_perception.inference.model_file import read_model_file
from training.data.object_files import write_objects
from training.data.object_specs import open_all_objects
from training.data.specs import DataOptions, open_data
from training.evaluate import main
from training.run import train
from training.settings import RunSettings

CLASSES = ("car", "person", "bush", "fox", "pole")
"""Of the file: objects16 calls the second `pedestrian`, the third `vegetation`, and has no fox."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve shapes of each class, each seen twice."""
    keys = [(kind, seed, view) for kind in range(len(SHAPES)) for seed in range(12) for view in range(2)]
    file = tmp_path_factory.mktemp("objects") / "things.npz"
    write_objects(
        file,
        [make_object(kind, 2 * seed + view, 128) for kind, seed, view in keys],
        [kind for kind, _, _ in keys],
        CLASSES,
        [f"{kind} {seed} view {view}" for kind, seed, view in keys],
        [f"{kind} {seed}" for kind, seed, _ in keys],
    )
    return f"objects:{file}"


def settings(data: str, work_dir: Path, **changes: object) -> RunSettings:
    return object_run(
        Path(), work_dir, data=data, label_set="objects16", split="train", validate_steps=5, **changes
    )


@pytest.fixture(scope="module")
def folders(data: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished runs, each on the training part of its own seed."""
    out = [tmp_path_factory.mktemp("runs") / str(seed) for seed in range(2)]
    for seed, folder in enumerate(out):
        train(settings(data, folder, seed=seed, split_seed=seed, max_steps=12, lr=5e-3, ema=0.5))
    return out


def test_parts_by_instance_of_a_spec(data: str) -> None:
    parts = {}
    for name in ("train", "validation", "test"):
        (part,) = open_data(data, DataOptions("objects16", split=name, split_seed=3))
        assert part.classes[0] == "car"  # type: ignore[attr-defined]
        parts[name] = {part.instance(i) for i in range(len(part))}  # type: ignore[attr-defined]
    assert [len(p) for p in parts.values()] == [32, 8, 8]  # of 4 classes: there is no fox
    assert not parts["train"] & parts["validation"] | parts["train"] & parts["test"]
    (few,) = open_data(data, DataOptions("objects16", split="train", split_seed=3, per_class=2))
    assert len(few) == 8
    with pytest.raises(ValueError, match="no official split; its parts by instance are train, validation"):
        open_data(data, DataOptions("objects16", split="val"))


def test_a_run_keeps_its_end_and_its_best_on_validation(folders: list[Path], data: str) -> None:
    log = next(folders[0].rglob("*.log")).read_text()
    seen = [float(line.split()[-1]) for line in log.splitlines() if "validation accuracy at step" in line]
    assert len(seen) == 3  # steps 5, 10 and the end
    best = read_model_file(folders[0] / "best.safetensors")[0].provenance
    assert best["validation_accuracy"] == max(seen)
    assert best["steps"] == (5, 10, 12)[seen.index(max(seen))]
    validation = open_all_objects(data, DataOptions("objects16", split="validation"))
    model = load_classifier(folders[0] / "best.safetensors", "cpu")
    names = {"car": "car", "person": "pedestrian", "bush": "vegetation", "pole": "pole", "fox": None}
    rows = [i for i in range(len(validation)) if names[CLASSES[validation.label(i)]]]
    right = [model(validation[i]).name == names[CLASSES[validation.label(i)]] for i in rows]
    assert np.mean(right) == pytest.approx(best["validation_accuracy"], abs=1e-4)


def test_validation_needs_labels_and_a_split(data: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="validate_steps needs a method of classification and split=train"):
        object_run(Path(), tmp_path, data=data, validate_steps=5)


def test_last_and_best_over_seeds(
    folders: list[Path], data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    words = [*map(str, folders), "--data", data, "--seeds", "0,1", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for line in ("last epoch: accuracy", "best epoch on validation: mean accuracy"):
        assert line in printed
    assert "4 objects are of no class of the model and were left out" in printed
    story = json.loads(out.read_text())
    assert str(tmp_path) not in out.read_text()
    assert (story["task"], story["seeds"]) == ("classification", [0, 1])
    assert story["commit"]
    hashes = {role["hash"] for role in story["data"].values()}
    assert len(hashes) == 2  # each seed has its own test
    details = story["runs"][1]["details"]["last epoch"]
    assert (details["n_objects"], details["n_instances"], details["unknown"]) == (16, 8, 4)
    assert details["low"] <= details["accuracy"] <= details["high"]
    assert details["model"]["config"]["split_seed"] == 1
    matrix = np.array(details["confusion"])
    assert matrix.sum() == 16
    assert np.trace(matrix[:, :-1]) / 16 == pytest.approx(details["accuracy"])
    mean, std = story["mean_std"]["last epoch: accuracy"]
    both = [run["scores"]["last epoch: accuracy"] for run in story["runs"]]
    assert (mean, std) == (pytest.approx(np.mean(both)), pytest.approx(np.std(both, ddof=1)))


def test_one_file_on_all_its_data(
    folders: list[Path], data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes((folders[0] / "model.safetensors").read_bytes())
    assert main([str(model), "--data", data, "--record"]) == 0
    assert "96 objects, 48 instances" in capsys.readouterr().out
    metrics = read_model_file(model)[0].provenance["metrics"]["objects:things.npz, 96 objects"]
    assert main([str(model), "--data", data, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["runs"][0]["details"]["model"]
    assert metrics["accuracy"] == round(figures["accuracy"], 4)
    assert main([str(model), "--data", data, "--seeds", "0,1,2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["accuracy"][1] >= 0
    assert main([str(model), "--data", data, "--among", "car,pole", "--json"]) == 0
    confusion = np.array(json.loads(capsys.readouterr().out)["runs"][0]["details"]["model"]["confusion"])
    assert set(np.flatnonzero(confusion.any(0))) <= {0, 7}
    assert main([str(model), "--data", data, "--limit", "10"]) == 0
    assert "model: 10 objects" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--window", "5"], "--window is for models of segmentation"),
        (["--split", "val"], "no official split"),
        (["street"], "for classification and segmentation"),
        (["nowhere"], "no model 'nowhere'"),
    ],
)
def test_what_makes_no_sense_is_told(
    folders: list[Path], data: str, more: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [word for word in more if word in ("street", "nowhere")]
    words = [*models, str(folders[0]), "--data", data, *(w for w in more if w not in models)]
    assert main(words) == 1
    assert problem in capsys.readouterr().err


def test_models_and_seeds_must_pair(
    folders: list[Path], data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*map(str, folders), "--data", data, "--seeds", "0,1,2"]) == 1
    assert "2 models and 3 seeds" in capsys.readouterr().err
    assert main([str(tmp_path), "--data", data]) == 1
    assert "holds no model.safetensors" in capsys.readouterr().err


def test_an_encoder_is_sent_to_the_probes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from training.methods.point_mae import PointMae

    folder = write_folder(tmp_path / "shapes", range(2))
    encoder = {**SMALL, "class_token": False}
    file = train(
        object_run(folder, tmp_path / "run", method=PointMae(), encoder=encoder, label_set="", max_steps=1)
    )
    assert main([str(file), "--data", f"objects:{folder}"]) == 1
    assert "probe one of objects by" in capsys.readouterr().err
