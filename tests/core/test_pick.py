# SPDX-License-Identifier: Apache-2.0
"""``pc-perception pick``: few different clouds, in files that come back from a labelling tool."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.scene_choice import choose
from pc_perception.io.files import read_cloud, write_cloud
from pc_perception.labels import UNLABELED, load_label_set, whole_ids
from pc_perception.simulation.rgbd import rgbd_frames

from .conftest import make_cloud


def test_each_kind_of_place_is_chosen_once() -> None:
    rng = np.random.default_rng(0)
    # A vehicle that stands for 200 clouds and sees three other places for a few each.
    places = np.repeat(rng.normal(0, 5, (4, 6)), [200, 5, 12, 3], axis=0)
    clouds = places + rng.normal(0, 0.1, places.shape)
    starts = np.array([0, 200, 205, 217, 220])
    assert (np.histogram(choose(clouds, 4), starts)[0] == 1).all()
    same = choose(np.zeros((5, 3)), 5)
    assert same == [0, 1, 2, 3, 4]
    assert len(set(choose(rng.normal(0, 1, (50, 4)), 20))) == 20


def test_a_choice_is_written_with_labels_to_correct(
    tmp_path: Path, model_path: Path, cloud: PointCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds = tmp_path / "clouds"
    holed = cloud.xyz.copy()
    holed[7] = np.nan
    for k in range(4):  # the same place three times, then another
        moved = make_cloud(seed=5) if k == 3 else replace(cloud, xyz=holed)
        write_cloud(clouds / f"{k}.npz", moved)
    out = tmp_path / "mine"
    arguments = ["pick", str(clouds), "--out", str(out), "-n", "2", "--model", str(model_path)]
    assert main(arguments) == 0
    written = sorted(p.name for p in out.glob("*.pcd"))
    assert len(written) == 2
    assert "3.pcd" in written
    assert capsys.readouterr().out.split() == [str(out / name) for name in written]
    model = load_segmenter(model_path, "cpu")
    first = read_cloud(out / written[0])
    expected = model(replace(cloud, xyz=holed))
    kept = np.isfinite(holed).all(1)
    assert np.array_equal(first.fields["label"], expected.labels[kept])
    assert np.array_equal(first.xyz, holed[kept])
    assert load_label_set(str(out / "labels.yaml")).classes == model.label_set.classes
    assert json.loads((out / "class_mapping.json").read_text())["1"] == model.label_set.classes[1]
    assert main([*arguments[:5], "9", *arguments[6:]]) == 1
    assert "holds 4 clouds, -n asks for 9" in capsys.readouterr().err


def test_a_damaged_file_costs_itself_alone(
    tmp_path: Path, model_path: Path, cloud: PointCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(3):
        write_cloud(tmp_path / "clouds" / f"{k}.pcd", replace(cloud, xyz=cloud.xyz + np.float32(k)))
    damaged = tmp_path / "clouds" / "1.pcd"
    damaged.write_bytes(damaged.read_bytes()[:300])
    arguments = ["pick", str(tmp_path / "clouds"), "--model", str(model_path), "--out", str(tmp_path / "out")]
    assert main([*arguments, "-n", "2"]) == 0
    assert "1.pcd" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").glob("*.pcd")) == ["0.pcd", "2.pcd"]
    assert main([*arguments, "-n", "3"]) == 1
    assert main([*arguments, "-n", "0"]) == 1


def test_views_of_a_camera_are_written_upright(tmp_path: Path) -> None:
    view, _ = next(rgbd_frames(3, 1))
    write_cloud(tmp_path / "views" / "a.npz", view)
    assert main(["pick", str(tmp_path / "views"), "--out", str(tmp_path / "out"), "-n", "1"]) == 0
    back, model = read_cloud(tmp_path / "out" / "a.pcd"), load_segmenter("room", "cpu")
    again = model(back).labels  # as training would see it: no frame, z up
    assert (again == back.fields["label"]).mean() > 0.99
    assert (back.fields["label"] == 0).mean() + (back.fields["label"] == 1).mean() > 0.2


def test_labels_that_a_tool_left_out_are_no_class() -> None:
    ids = whole_ids(np.array([0.0, 3.0, np.nan, np.inf], np.float32))
    assert ids.tolist() == [0, 3, UNLABELED, UNLABELED]
