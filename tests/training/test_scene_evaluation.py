# SPDX-License-Identifier: Apache-2.0
"""Whole-scene figures: windows, six folds with pooled counts, and the figures that papers ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, little_street

from pc_perception.inference.contract import InputContract
from pc_perception.inference.loading import load_model
from pc_perception.inference.model_file import ModelHeader, read_model_file, save_model
from pc_perception.io.files import write_cloud
from pc_perception.labels import load_label_set
from pc_perception.metrics import Confusion
from pc_perception.models.scene_encoder import SceneEncoder, SceneSegmenter
from training.data.specs import DataOptions, open_one
from training.evaluate import main
from training.evaluate.report import report
from training.evaluate.segmentation import evaluate
from training.evaluate.six_fold import check_models, open_folds
from training.metrics import pooled
from training.run import train
from training.settings import RunSettings

AREAS = range(1, 7)


def counts(*rows: tuple[int, ...]) -> Confusion:
    out = Confusion(len(rows))
    out.matrix[:] = np.array(rows)
    return out


def test_figures_by_hand() -> None:
    # truth 0: 6 right, 2 called 1; truth 1: 1 right, 1 called 0; class 2 is absent, yet one of class 1's
    # points is called 2; one of class 1 is left unlabeled
    found = report(counts((6, 2, 0, 0), (1, 1, 1, 1), (0, 0, 0, 0)), ("a", "b", "c"))
    assert found["iou"] == {"a": 6 / 9, "b": 1 / 6, "c": None}
    assert found["recall"] == {"a": 6 / 8, "b": 1 / 4, "c": None}
    assert found["miou"] == pytest.approx((6 / 9 + 1 / 6) / 2)
    assert found["macc"] == pytest.approx((6 / 8 + 1 / 4) / 2)
    assert found["accuracy"] == pytest.approx(7 / 12)
    assert (found["absent"], found["points"]) == (["c"], 12)
    assert np.isnan(Confusion(2).mean_recall())


def test_pooled_counts_are_not_the_mean_of_means() -> None:
    large, small = counts((90, 10, 0), (0, 100, 0)), counts((1, 9, 0), (5, 5, 0))
    whole = pooled([large, small])
    np.testing.assert_array_equal(whole.matrix, [[91, 19, 0], [5, 105, 0]])
    assert whole.mean_iou() == pytest.approx((91 / 115 + 105 / 129) / 2)
    mean = (large.mean_iou() + small.mean_iou()) / 2
    assert mean == pytest.approx(((90 / 100 + 100 / 110) / 2 + (1 / 15 + 5 / 19) / 2) / 2)
    assert whole.mean_iou() - mean > 0.25
    assert large.matrix.sum() == 200  # the parts stay as they were


@pytest.fixture
def six_areas(tmp_path: Path) -> Path:
    """One room of arrays in each area: k hundred points, of classes that differ from area to area."""
    for k in AREAS:
        rng = np.random.default_rng(k)
        xyz = rng.uniform([0, 0, 0], [8, 3, 2.5], (100 * k, 3))
        label = rng.choice([0, 1, 2, 6 + k], 100 * k)
        rows = np.concatenate([xyz, rng.integers(0, 256, (100 * k, 3)), label[:, None]], axis=1)
        np.save(tmp_path / f"Area_{k}_office_1.npy", rows)
    return tmp_path


def write_model(path: Path, seed: int, config: dict[str, Any] | None = None) -> str:
    torch.manual_seed(seed)
    contract = InputContract(0.2, ("offset", "height", "color"), ground_cell_m=0.5)
    network = SceneSegmenter(SceneEncoder(contract.n_features, **TINY), 13)
    torch.nn.init.normal_(network.head[1].weight, std=2.0)
    arguments = {k: list(v) if isinstance(v, tuple) else v for k, v in TINY.items()}
    architecture = {"name": "SceneSegmenter", "arguments": arguments}
    story = {"method": "random", "config": config or {}}
    save_model(
        path, network, ModelHeader("segmentation", architecture, contract, load_label_set("s3dis13"), story)
    )
    return str(path)


def test_six_folds(six_areas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = {k: [str(a) for a in AREAS if a != k] for k in AREAS}
    models = [
        write_model(tmp_path / f"model_area{k}.safetensors", k, {"data": "s3dis:x", "areas": others[k]})
        for k in AREAS
    ]
    arguments = [*models, "--data", f"s3dis:{six_areas}", "--six-fold", "--device", "cpu"]
    assert main([*arguments, "--json", "--record"]) == 0
    told = json.loads(capsys.readouterr().out)
    confusions = [
        evaluate(
            load_model(m, "cpu"), open_one(f"s3dis:{six_areas}", DataOptions("s3dis13", areas=(str(k),)))
        )
        for k, m in zip(AREAS, models, strict=True)
    ]
    assert [each["points"] for each in told["each"]] == [100 * k for k in AREAS]
    assert told["summary"]["miou"] == [pytest.approx(pooled(confusions).mean_iou()), 0.0]
    assert told["summary"]["mean_of_areas"] == pytest.approx(np.mean([c.mean_iou() for c in confusions]))
    assert told["summary"]["mean_of_areas"] != pytest.approx(told["summary"]["miou"][0], abs=1e-3)
    assert (told["clouds"], told["six_fold"]) == (6, True)
    recorded = read_model_file(models[2])[0].provenance["metrics"]
    third = recorded[f"s3dis:{six_areas.name} area 3, 1 clouds"]
    assert third["macc"] == pytest.approx(told["each"][2]["macc"], abs=1e-4)
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "6 model(s), 6 clouds" in table
    assert "2,100 labelled points" in table
    assert "mIoU of areas 1 to 6:" in table


def test_six_folds_that_are_none(six_areas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "m.safetensors", 0)
    six = [model] * 6
    data = f"s3dis:{six_areas}"
    for models, extra, problem in (
        (
            [model] * 5,
            ["--data", data],
            "six folds need six models, of areas 1 to 6 in this order; there are 5",
        ),
        (six, ["--data", data, "--areas", "5"], "without areas"),
        (six, ["--data", f"folder:{six_areas}"], "use s3dis:DIR"),
    ):
        assert main([*models, "--six-fold", *extra]) == 1
        assert problem in capsys.readouterr().err
    for k in (2, 6):
        (six_areas / f"Area_{k}_office_1.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 file\(s\):\n  Area_2: no room\n  Area_6: no room"):
        open_folds(data, DataOptions("s3dis13"))


def test_a_model_is_not_tested_on_what_it_was_trained_on() -> None:
    elsewhere: dict[str, Any] = {"config": {"data": "scannet:x", "areas": []}}
    seen = {"config": {"data": "sim:room, s3dis:x", "areas": ["1", "Area_4"]}}
    check_models(list("abcdef"), [elsewhere, seen, seen, elsewhere, {}, {}])
    with pytest.raises(
        ValueError, match="'d' was trained on areas 1, 4 of S3DIS, it cannot be tested on area 4"
    ):
        check_models(list("abcdef"), [elsewhere] * 3 + [seen] + [elsewhere] * 2)
    with pytest.raises(ValueError, match="trained on all areas"):
        check_models(list("abcdef"), [{"config": {"data": "s3dis:x", "areas": []}}] + [elsewhere] * 5)


def test_windows_through_the_command(
    six_areas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "m.safetensors", 0)
    arguments = [model, "--data", f"s3dis:{six_areas}", "--areas", "5,6", "--device", "cpu", "--json"]
    found = []
    for extra in ([], ["--window", "9"], ["--window", "4", "--overlap", "1"]):
        assert main([*arguments, *extra]) == 0
        found.append(json.loads(capsys.readouterr().out)["each"][0])
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[2]["points"] == 1100
    assert found[2]["unlabeled"] == 0.0
    assert main([*arguments, "--window", "2"]) == 1
    assert "larger than the overlap" in capsys.readouterr().err


def test_a_users_own_classes_from_tiles_to_figures(
    make_run: Callable[..., RunSettings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("laspy")
    for seed in range(2):
        street = little_street(seed)  # road 0, building 4, vehicle 5, pole 7
        write_cloud(tmp_path / "tiles" / f"{seed}.las", street)
    classes = [{"name": name, "color": [k, k, k]} for k, name in enumerate(("ground", "thing"))]
    (tmp_path / "mine.yaml").write_text(json.dumps({"classes": classes}))  # JSON is YAML
    (tmp_path / "map.yaml").write_text("ground: [0]\nthing: [4, 5, 7]\n")
    where = {"data": f"folder:{tmp_path / 'tiles'}", "label_source": str(tmp_path / "map.yaml")}
    model = train(make_run(label_set=str(tmp_path / "mine.yaml"), max_steps=30, lr=1e-2, ema=0.8, **where))
    header, _ = read_model_file(model)
    assert header.labels is not None
    assert (header.labels.name, header.labels.classes) == ("mine", ("ground", "thing"))
    assert str(tmp_path) not in json.dumps(header.provenance)
    arguments = [str(model), "--data", where["data"], "--device", "cpu", "--json"]
    assert main([*arguments, "--label-source", where["label_source"]]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["each"][0]
    assert found["miou"] > 0.7
    assert found["unlabeled"] == 0.0
    assert main([*arguments, "--label-source", "nyu40"]) == 1
    assert "no label set 'mine'" in capsys.readouterr().err


def test_scenes_without_labels(six_areas: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load_model(write_model(tmp_path / "m.safetensors", 0), "cpu")
    rows = np.load(six_areas / "Area_1_office_1.npy")
    np.save(six_areas / "Area_1_void_1.npy", np.concatenate([rows[:, :6], np.full((100, 1), 255)], axis=1))
    options = DataOptions("s3dis13", areas=("1",))
    assert evaluate(model, open_one(f"s3dis:{six_areas}", options)).matrix.sum() == 100
    assert "Area_1/void_1: no point has a label" in caplog.text
    (six_areas / "Area_1_office_1.npy").unlink()
    with pytest.raises(ValueError, match="no point of the data has a label"):
        evaluate(model, open_one(f"s3dis:{six_areas}", options))
    np.save(six_areas / "bare.npy", rows[:, :6])
    for file in six_areas.glob("Area_*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"bare\.npy has no labels to compare with"):
        evaluate(model, open_one(f"folder:{six_areas}", replace(options, areas=())))
