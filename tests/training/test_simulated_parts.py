# SPDX-License-Identifier: Apache-2.0
"""Procedural shapes whose points say which part they belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.object_contract import ObjectContract
from pc_perception.labels import load_label_set
from pc_perception.simulation.scene import PARTS
from training.data.simulated_parts import CATEGORIES, LABEL_SET, N_POINTS, SimulatedParts, shape_with_parts
from training.data.specs import DataOptions, open_data, open_one
from training.evaluate import main as pc_evaluate
from training.run import train
from training.settings import read_config


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_one("sim:parts:65", DataOptions(None, cache_dir=str(tmp_path_factory.mktemp("cache"))))


def test_names_of_parts_are_the_simulator_s_and_the_label_set_s() -> None:
    assert {part for parts in CATEGORIES.values() for part in parts} <= set(PARTS)
    names = [f"{category}_{part}" for category, parts in CATEGORIES.items() for part in parts]
    assert list(load_label_set(LABEL_SET).classes) == names
    ids = SimulatedParts.part_ids
    assert [len(i) for i in ids] == [len(parts) for parts in CATEGORIES.values()]
    assert [i for each in ids for i in each] == list(range(len(names)))


def test_every_point_has_a_part_of_its_class(shapes: Any) -> None:
    assert shapes.classes == tuple(CATEGORIES)
    found: dict[int, set[int]] = {}
    for i in range(len(shapes)):
        cloud = shapes[i]
        parts = set(cloud.fields["label"].tolist())
        assert cloud.category == i % 13
        assert len(cloud) == N_POINTS
        assert parts <= set(shapes.part_ids[cloud.category])
        np.testing.assert_allclose(cloud.xyz.min(0) + cloud.xyz.max(0), 0, atol=1e-4)
        found.setdefault(cloud.category, set()).update(parts)
    assert all(len(found[k]) >= 2 for k in range(13))


def test_parts_are_where_they_belong(shapes: Any) -> None:
    """Wheels below the body, heads above legs, crowns above trunks, table tops above their legs."""
    names = load_label_set(LABEL_SET).classes
    heights: dict[str, list[float]] = {}
    for i in range(len(shapes)):
        cloud = shapes[i]
        for k in set(cloud.fields["label"].tolist()):
            heights.setdefault(names[k], []).append(float(cloud.xyz[cloud.fields["label"] == k, 2].mean()))
    mean = {name: np.mean(z) for name, z in heights.items()}
    for low, high in (
        ("car_wheel", "car_body"),
        ("pedestrian_leg", "pedestrian_head"),
        ("tree_trunk", "tree_crown"),
        ("table_leg", "table_top"),
        ("chair_leg", "chair_back"),
    ):
        assert mean[low] < mean[high]


def test_a_seed_is_a_shape(shapes: Any, tmp_path: Path) -> None:
    points, parts = shape_with_parts(0)
    np.testing.assert_array_equal(points, shapes[0].xyz)
    np.testing.assert_array_equal(parts, shapes[0].fields["label"])
    options = DataOptions(LABEL_SET, seed=50, n_scenes=15, cache_dir=str(tmp_path))
    (own,) = open_data("sim:parts", options)
    assert [own.name(i) for i in range(15)] == shapes.names[50:]
    np.testing.assert_array_equal(own[7].xyz, shapes[57].xyz)
    assert (own.label(7), own[7].category) == (57 % 13, 57 % 13)
    again = open_one("sim:parts", options)  # from the file
    np.testing.assert_array_equal(again[5].xyz, own[5].xyz)
    np.testing.assert_array_equal(again[5].fields["label"], own[5].fields["label"])
    with pytest.raises(ValueError, match="has no split 'test'; unseen shapes have another data_seed"):
        open_one("sim:parts", replace(options, split="test"))


def test_from_simulated_parts_to_both_mious(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data=sim:parts", f"label_set={LABEL_SET}", "method.n_categories=13", "n_scenes=26", "threads=1"]
    words += [
        "max_steps=4",
        "batch_size=4",
        "progress=false",
        f"cache_dir={tmp_path}",
        f"work_dir={tmp_path}/run",
    ]
    encoder = {"n_patches": 16, "patch_size": 8, "width": 24, "depth": 3, "heads": 2, "embed": [8, 8, 12]}
    file = train(
        replace(read_config("parts_tiny", words), encoder=encoder, contract=ObjectContract(128)).validate()
    )
    header, _ = read_model_file(file)
    assert (header.task, len(header.labels or ())) == ("parts", 53)
    words = ["--data", "sim:parts:13", "--cache-dir", str(tmp_path)]
    assert pc_evaluate([str(file), *words]) == 0
    printed = capsys.readouterr().out
    assert "instance_miou" in printed
    assert "pedestrian" in printed
    assert "IoU over 128 sampled points" in printed  # as many as the model was trained on
    assert "13 of them, 0 left out" in printed
