# SPDX-License-Identifier: Apache-2.0
"""A classifier from its model file: identical answers, lists, objects of any size, damage told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL
from pc_perception.inference.classifier import Classifier
from pc_perception.inference.loading import load_classifier, load_model, load_segmenter
from pc_perception.inference.model_file import ModelHeader, read_model_file, save_model
from pc_perception.inference.object_contract import ObjectContract, on_unit_sphere
from pc_perception.io.files import write_cloud
from pc_perception.labels import UNLABELED, LabelSet
from pc_perception.models.object_encoder import ObjectClassifier, ObjectEncoder
from pc_perception.models.voxel_objects import VoxelObjectEncoder

ARGUMENTS = {"n_patches": 12, "patch_size": 8, "width": 24, "depth": 2, "heads": 2, "embed": [8, 12, 16]}
LABELS = LabelSet("five", tuple("abcde"), ((1, 2, 3),) * 5)
CPU = torch.device("cpu")


VOXELS = {"grid": 0.1, "widths": [8, 16], "local": [1, 1], "mixers": [0, 1], "heads": [1, 2]}


def make_network(head: str = "mlp3", on_voxels: bool = False) -> ObjectClassifier:
    torch.manual_seed(0)
    encoder = VoxelObjectEncoder(**VOXELS) if on_voxels else ObjectEncoder(**ARGUMENTS)
    network = ObjectClassifier(encoder, 5, head).train()
    for _ in range(20):  # batch norms see something
        network(torch.randn(8, 64, 3))
    last = network.head if head == "linear" else network.head[-1]
    torch.nn.init.normal_(last.weight, std=2.0)
    return network.eval()


def make_object(seed: int, n: int) -> PointCloud:
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(n, 3)) * rng.uniform(0.2, 3, 3) + rng.uniform(-50, 50, 3)
    return PointCloud(xyz.astype(np.float32), {}, "lidar")


@pytest.fixture(params=[False, True], ids=["patches", "voxels"])
def on_voxels(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def classifier(on_voxels: bool) -> Classifier:
    return Classifier(make_network(on_voxels=on_voxels), ObjectContract(128), LABELS, CPU, "float32")


@pytest.fixture
def path(tmp_path: Path, on_voxels: bool) -> Path:
    file = tmp_path / "objects.safetensors"
    name, encoder = ("VoxelObjectClassifier", VOXELS) if on_voxels else ("ObjectClassifier", ARGUMENTS)
    architecture = {"name": name, "arguments": {**encoder, "head": "mlp3"}}
    header = ModelHeader("classification", architecture, ObjectContract(128), LABELS, {"method": "random"})
    save_model(file, make_network(on_voxels=on_voxels), header)
    return file


def test_round_trip_gives_identical_answers(path: Path, classifier: Classifier) -> None:
    loaded = load_model(path, "cpu", "float32")
    assert isinstance(loaded, Classifier)
    objects = [make_object(seed, 40 * seed + 20) for seed in range(8)]
    for one, other in zip(loaded(objects), classifier(objects), strict=True):
        assert one.label == other.label
        assert np.array_equal(one.scores, other.scores)
    assert len({r.label for r in loaded(objects)}) > 1
    assert loaded.contract == classifier.contract
    assert loaded.label_set == LABELS
    assert read_model_file(path)[0].provenance == {"method": "random"}


def test_a_list_gives_what_single_calls_give(classifier: Classifier) -> None:
    objects = [make_object(seed, n) for seed, n in enumerate((128, 6, 500, 40, 5, 128, 90) * 11)]
    together = classifier(objects)  # more than one pass
    for cloud, found in zip(objects[:14], together, strict=False):
        alone = classifier(cloud)
        assert alone.label == found.label
        assert np.allclose(alone.scores, found.scores, atol=1e-5)
        assert found.scores.dtype == np.float32
        assert float(found.scores.sum()) == pytest.approx(1, abs=1e-5)
        assert found.confidence == found.scores[found.label]
        assert found.name == "abcde"[found.label]
    assert classifier([]) == []


@pytest.mark.parametrize("n", [300, 100, 9])
def test_order_place_and_size_do_not_matter(classifier: Classifier, n: int) -> None:
    cloud = make_object(1, n)
    expected = classifier(cloud).scores
    rng = np.random.default_rng(0)
    shuffled = cloud.select(rng.permutation(n))
    assert np.allclose(classifier(shuffled).scores, expected, atol=1e-4)
    moved = replace(cloud, xyz=cloud.xyz * 4 + np.float32([8, -16, 32]))
    assert np.allclose(classifier(moved).scores, expected, atol=1e-3)
    optical = replace(cloud, xyz=cloud.xyz @ R_BODY_OPTICAL.astype(np.float32), frame="camera_optical_frame")
    assert np.allclose(classifier(optical).scores, expected, atol=1e-3)
    with_nan = replace(cloud, xyz=np.concatenate([cloud.xyz, np.full((5, 3), np.nan, np.float32)]))
    assert np.array_equal(classifier(with_nan).scores, expected)


EMPTY = {
    "no point": np.zeros((0, 3)),
    "one point": np.array([[1.0, 2, 3]]),
    "four points": np.eye(4, 3),
    "equal points": np.full((50, 3), 12345.678),
    "no finite point": np.full((9, 3), np.nan),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_objects_without_extent_stay_unlabeled(classifier: Classifier, kind: str) -> None:
    nothing = PointCloud(EMPTY[kind].astype(np.float32))
    found = classifier([nothing, make_object(0, 50), nothing])
    assert (found[0].label, found[0].name, found[0].confidence) == (UNLABELED, "unlabeled", 0.0)
    assert not found[2].scores.any()
    assert found[1].label != UNLABELED
    assert np.allclose(found[1].scores, classifier(make_object(0, 50)).scores, atol=1e-5)


def test_only_possible_classes_are_given(classifier: Classifier) -> None:
    objects = [make_object(seed, 60) for seed in range(8)]
    names = classifier.label_set.classes
    some = classifier.among(names[1:3])
    for all_of, few in zip(classifier(objects), some(objects), strict=True):
        assert few.name in names[1:3]
        expected = all_of.scores[1:3] / all_of.scores[1:3].sum()
        assert few.scores[1:3].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        assert few.scores.sum() == pytest.approx(1, abs=1e-5)
    assert classifier(objects[0]).scores.min() > 0  # the first one is as it was
    with pytest.raises(ValueError, match="'fox' is no class of this model; it has"):
        classifier.among(("fox",))
    with pytest.raises(ValueError, match="no class of this model"):
        classifier.among(())


def test_five_points_are_an_object(classifier: Classifier) -> None:
    assert classifier(make_object(0, 5)).label in range(5)


def test_large_objects_are_thinned_evenly() -> None:
    cloud = make_object(0, 3000)
    prepared = ObjectContract(128).prepare(cloud)
    assert prepared is not None
    assert prepared.shape == (128, 3)
    assert float(prepared.norm(dim=1).max()) == pytest.approx(1, abs=1e-6)
    assert float(prepared.mean(0).norm()) < 1e-6
    assert on_unit_sphere(np.float32([[0, 0, 0], [0, 0, 4]])).tolist() == [[0, 0, -1], [0, 0, 1]]  # type: ignore[union-attr]


def test_tasks_are_not_mixed_up(path: Path, model_path: Path) -> None:
    with pytest.raises(ValueError, match="'classification', this needs 'segmentation'"):
        load_segmenter(path, "cpu")
    with pytest.raises(ValueError, match="'segmentation', this needs 'classification'"):
        load_classifier(model_path, "cpu")


def _rewrite(path: Path, change: Callable[[dict, dict], object]) -> None:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["pc_perception"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, metadata={"pc_perception": json.dumps(header)})


def _arguments(**changes: object) -> Callable[[dict, dict], object]:
    return lambda header, _: header["architecture"]["arguments"].update(changes)


CHANGES: dict[str, tuple[Callable[[dict, dict], object], str]] = {
    "another patch size": (_arguments(patch_size=10**6), "patch_size"),
    "another width": (_arguments(width=32), "does not fit its header"),
    "heads that do not divide": (_arguments(heads=7), "multiple"),
    "unknown head": (_arguments(head="svm"), "head"),
    "a flag that is none": (_arguments(causal=1), "causal"),
    "embed of one": (_arguments(embed=[8]), "wrong"),
    "an unknown argument": (_arguments(speed=1), "arguments"),
    "a scene's contract": (
        lambda h, t: h.update(contract={"grid_m": 0.1, "features": ["range"]}),
        "n_points",
    ),
    "too many points": (lambda h, t: h["contract"].update(n_points=10**9), "n_points"),
    "another task": (lambda h, t: h.update(task="segmentation"), "checksum"),
    "a counter as a fraction": (
        lambda h, t: t.update({k: v.float() for k, v in t.items() if k.endswith("tracked")}),
        "should be torch.int64",
    ),
    "a changed counter": (
        lambda h, t: [v.add_(1) for k, v in t.items() if k.endswith("tracked")],
        "checksum",
    ),
}


@pytest.mark.parametrize("on_voxels", [False], indirect=True)
@pytest.mark.parametrize("name", CHANGES)
def test_contradictions_are_refused(path: Path, name: str) -> None:
    change, words = CHANGES[name]
    _rewrite(path, change)
    with pytest.raises(ValueError, match=words) as error:
        load_model(path, "cpu")
    assert "\n" not in str(error.value)


VOXEL_CHANGES = {
    "grid of nothing": (_arguments(grid=0), "grid"),
    "huge": (_arguments(widths=[10**6, 16]), "widths"),
    "unknown head": (_arguments(head="svm"), "head"),
    "patches": (_arguments(patch_size=8), "arguments"),
}


@pytest.mark.parametrize("on_voxels", [True], indirect=True)
@pytest.mark.parametrize("name", VOXEL_CHANGES)
def test_contradictions_on_voxels_are_refused(path: Path, name: str) -> None:
    change, words = VOXEL_CHANGES[name]
    _rewrite(path, change)
    with pytest.raises(ValueError, match=words):
        load_model(path, "cpu")


def test_the_command_names_every_object(
    tmp_path: Path, path: Path, classifier: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = [make_object(seed, 30 + seed) for seed in range(3)]
    folder = tmp_path / "objects"
    for i, cloud in enumerate(objects):
        write_cloud(folder / f"{i}.npz", cloud)
    write_cloud(folder / "3.npz", PointCloud(np.ones((9, 3), np.float32)))
    assert main(["classify", str(folder), "--model", str(path), "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for i, found in enumerate(classifier(objects)):
        assert lines[i].startswith(f"{i}.npz: {found.name} 0.") or found.confidence > 0.99
        assert lines[i].endswith(f"({30 + i} points)")
    assert lines[3] == "3.npz: unlabeled (9 finite points; an object needs 5, not all in one place)"
    (folder / "4.pcd").write_bytes(b"not a pcd")
    assert main(["classify", str(folder), "--model", str(path), "--json"]) == 1
    told = capsys.readouterr()
    assert [json.loads(line)["object"] for line in told.out.splitlines()] == [f"{i}.npz" for i in range(4)]
    assert set(json.loads(told.out.splitlines()[0])["scores"]) == set("abcde")
    assert "4.pcd" in told.err
    assert main(["classify", str(folder), "--model", "street"]) == 1
    assert "this needs 'classification'" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_changes_scores_a_little(path: Path, precision: str) -> None:
    objects = [make_object(seed, 100) for seed in range(6)]
    exact, found = (
        load_classifier(path, "cpu", "float32")(objects),
        load_classifier(path, "cpu", precision)(objects),
    )
    for one, other in zip(exact, found, strict=True):
        assert np.abs(one.scores - other.scores).max() < 0.1
