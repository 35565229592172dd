# SPDX-License-Identifier: Apache-2.0
"""Splits, probes, few-shot, parts and result files: by hand, on features that are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pc_perception.cloud import PointCloud
from training.data.few_shot_folds import draw_folds
from training.data.object_sets import JoinedObjects, ObjectSubset, Relabeled
from training.data.object_splits import bootstrap, few_labels, split_by_instance
from training.data.objects import LabeledObject, StoredObjects, class_counts, labels_of, y_up
from training.data.shapenet_part import CATEGORIES, PARTS
from training.evaluate.accuracy import measure, measure_classifier
from training.evaluate.features import Described, describe_all, on_published_axes, shape_statistics
from training.evaluate.few_shot import FewShotResult, probe_folds, run_folds
from training.evaluate.few_shot import main as few_shot
from training.evaluate.objects import ProbeSettings, main, probe_objects
from training.evaluate.parts import PartScores, evaluate_parts, shape_iou
from training.evaluate.probes import CHOICES, Probe, run_probe
from training.evaluate.results import BEST, LAST, SeedRun, about, summarise, table, write_result
from training.evaluate.voting import label, mean_logits
from training.object_views import ObjectView

CLASSES = ("a", "b", "c")
SMALL = ObjectView(16)


def objects(per_class: int = 30, views: int = 2, classes: tuple[str, ...] = CLASSES) -> StoredObjects:
    """Each instance is seen ``views`` times; class k is stretched k-fold along z."""
    rng = np.random.default_rng(0)
    xyz, labels, names, things = [], [], [], []
    for k in range(len(classes)):
        for i in range(per_class):
            for v in range(views):
                xyz.append(rng.normal(size=(32, 3)) * [1, 1, 1 + 4 * k])
                labels.append(k)
                names.append(f"{classes[k]}{i} view {v}")
                things.append(f"{classes[k]}{i}")
    cloud = PointCloud(np.concatenate(xyz).astype(np.float32))
    return StoredObjects(cloud, np.arange(len(xyz) + 1) * 32, np.array(labels), classes, names, things)


def write_npz(folder: Path, data: StoredObjects) -> Path:
    file = folder / "o.npz"
    points = data.cloud.xyz.reshape(-1, 32, 3)
    np.savez(file, points=points, label=data.labels, classes=np.array(data.classes))
    return file


def described(
    features: np.ndarray, labels: np.ndarray, prefix: str, classes: tuple[str, ...] = CLASSES
) -> Described:
    names = tuple(f"{prefix}{i}" for i in range(len(labels)))
    return Described(features.astype(np.float32), labels, names, names, classes)


def test_no_instance_is_on_two_sides() -> None:
    data = objects(per_class=10)
    for seed in range(3):
        parts = split_by_instance(data, (0.6, 0.2, 0.2), seed)
        things = [{p.instance(i) for i in range(len(p))} for p in parts]
        assert [len(t) for t in things] == [18, 6, 6]
        assert not things[0] & things[1] | things[0] & things[2] | things[1] & things[2]
        assert [class_counts(p)["b"] for p in parts] == [12, 4, 4]  # both views of each
    other = split_by_instance(data, (0.6, 0.2, 0.2), 9)[2]
    assert {other.instance(i) for i in range(len(other))} != things[2]


@pytest.mark.parametrize(
    ("n", "expected"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (20, [13, 3, 4])]
)
def test_rare_classes_come_to_training_first(n: int, expected: list[int]) -> None:
    data = objects(per_class=n, views=1, classes=("a",))
    assert [len(p) for p in split_by_instance(data, (0.65, 0.15, 0.2), 0)] == expected


def test_few_labels_are_of_different_instances() -> None:
    data = objects(per_class=6, views=3)
    few = few_labels(data, 4, seed=1)
    assert class_counts(few) == {"a": 4, "b": 4, "c": 4}
    assert len({few.instance(i) for i in range(len(few))}) == 12
    assert len(few_labels(data, 50, seed=1)) == 18
    assert len(few_labels(data, 0, seed=1)) == len(data)


def test_bootstrap_draws_instances_not_views() -> None:
    correct = np.repeat(np.arange(20) % 2, 50)  # ten things always right, ten always wrong
    low, high = bootstrap(correct, np.repeat(np.arange(20), 50).astype(str).tolist())
    assert 0.25 < low < 0.35
    assert 0.65 < high < 0.75
    by_view = bootstrap(correct, np.arange(1000).astype(str).tolist())
    assert by_view[1] - by_view[0] < 0.08
    assert bootstrap(np.ones(9), list("abcabcabc")) == (1.0, 1.0)


@pytest.mark.parametrize("kind", list(CHOICES))
def test_separable_features_give_all_and_random_ones_chance(kind: str) -> None:
    rng = np.random.default_rng(0)
    sides = {}
    for name, n in (("train", 150), ("validation", 60), ("test", 300)):
        y = np.arange(n) % 3
        sides[name] = described(np.eye(3)[y] * 5 + rng.normal(0, 0.1, (n, 3)), y, name)
    strength = Probe().strength if kind == "svm" else 0.0
    found = run_probe(Probe(kind, strength), sides["train"], sides["test"], sides["validation"])
    assert (found.accuracy, found.test.low, found.test.mean_recall) == (1.0, 1.0, 1.0)
    assert found.test.recall == {"a": 1.0, "b": 1.0, "c": 1.0}
    noise = {k: described(rng.normal(size=(len(v.labels), 8)), v.labels, k) for k, v in sides.items()}
    found = run_probe(Probe(kind, 0), noise["train"], noise["test"], noise["validation"])
    assert 0.22 < found.accuracy < 0.45
    assert found.test.low < found.accuracy < found.test.high
    assert found.chosen
    assert found.strength in CHOICES[kind]


def test_a_classifier_is_measured_by_class_names() -> None:
    data = objects(per_class=4, views=2)  # a, b, c

    def classify(clouds: Sequence[PointCloud]) -> list[int]:
        """Know b (0) from everything else (1), which it calls c."""
        return [0 if 3 < np.std(cloud.xyz[:, 2]) < 7 else 1 for cloud in clouds]

    found = measure_classifier(classify, ("b", "c"), data, batch_size=3)
    assert (found.accuracy, found.n_objects, found.n_instances, found.unknown) == (1.0, 16, 8, 8)
    swapped = measure_classifier(lambda clouds: [1] * len(clouds), ("b", "c"), data)
    assert swapped.recall == {"b": 0.0, "c": 1.0}
    assert (swapped.accuracy, swapped.mean_recall) == (0.5, 0.5)
    assert swapped.low < 0.5 < swapped.high
    with pytest.raises(ValueError, match="no object is of a class that the classifier has; it has fox"):
        measure_classifier(classify, ("fox",), data)
    with pytest.raises(ValueError, match="2 predictions and 3 instances"):
        measure(np.zeros(3), np.zeros(2), ["x"] * 3, ("a",))


def test_strength_is_chosen_on_validation_alone() -> None:
    """Neighbours: 1 is right on validation, 5 and more on the test; the choice must follow validation."""
    x = np.array([[1, 0]] * 4 + [[1, 0.01]] + [[0, 1]] * 5, float)
    y = np.array([0] * 4 + [1] + [1] * 5)
    train = described(x, y, "t", ("a", "b"))
    validation = described(np.array([[1, 0.01], [0, 1]]), np.array([1, 1]), "v", ("a", "b"))
    test = described(np.array([[1, 0.01], [0, 1]]), np.array([0, 1]), "e", ("a", "b"))
    found = run_probe(Probe("knn", 0), train, test, validation)
    assert (found.strength, found.validation, found.accuracy) == (1.0, 1.0, 0.5)
    assert run_probe(Probe("knn", 5), train, test).accuracy == 1.0
    with pytest.raises(ValueError, match="give a validation split"):
        run_probe(Probe("knn", 0), train, test)


def test_a_leaking_split_is_refused() -> None:
    part = described(np.eye(4), np.array([0, 1, 0, 1]), "x")
    with pytest.raises(ValueError, match="split by instance"):
        run_probe(Probe(), part, part)
    with pytest.raises(ValueError, match="other classes"):
        run_probe(Probe(), part, described(np.eye(4), np.array([0, 1, 0, 1]), "y", ("a", "b")))
    with pytest.raises(ValueError, match="test part has no object"):
        run_probe(Probe(), part, part.take([]))
    with pytest.raises(ValueError, match="at least two classes"):
        run_probe(Probe(), part.take([0, 2]), described(np.eye(4), np.array([0, 1, 0, 1]), "y"))


def test_shape_statistics() -> None:
    points = torch.randn(4, 200, 3)
    values = shape_statistics(points)
    assert values.shape == (4, 24)
    torch.testing.assert_close(values[:, :3], points.amax(1) - points.amin(1))
    torch.testing.assert_close(values, shape_statistics(points[:, torch.randperm(200)]), rtol=1e-4, atol=1e-5)
    assert torch.isfinite(shape_statistics(torch.zeros(2, 5, 3))).all()


def test_probing_from_data_to_result_file(tmp_path: Path) -> None:
    data = objects(per_class=20)
    settings = ProbeSettings("made up", view=SMALL, seeds=(0, 1), per_class=5)
    runs = probe_objects(shape_statistics, data, settings)
    mean, std = summarise(runs)["svm 0.075"]
    assert mean > 0.7
    assert "svm, chosen on validation" in table(runs)
    write_result(tmp_path / "r.json", "probe", settings, {"all": about(data)}, runs)
    story = json.loads((tmp_path / "r.json").read_text())
    assert story["seeds"] == [0, 1]
    assert story["mean_std"]["svm 0.075"] == [mean, std]
    assert len(story["data"]["all"]["hash"]) == 16
    assert (story["data"]["all"]["objects"], story["data"]["all"]["instances"]) == (120, 60)
    assert story["config"]["view"]["n_points"] == 16
    assert story["commit"]
    assert story["runs"][0]["details"]["svm 0.075"]["n_train"] == 15
    again = probe_objects(shape_statistics, data, settings)
    assert [r.scores for r in again] == [r.scores for r in runs]


def test_an_official_test_part_is_used_as_it_is() -> None:
    data, test = objects(per_class=12), objects(per_class=4)
    test = StoredObjects(test.cloud, test.offsets, test.labels, CLASSES, [f"test {n}" for n in test.names])
    runs = probe_objects(shape_statistics, data, ProbeSettings("x", view=SMALL, seeds=(0,)), test)
    assert runs[0].details["svm 0.075"]["test"]["n_objects"] == len(test)
    assert runs[0].details["svm 0.075"]["n_train"] < len(data)


def test_last_and_best_are_told_apart() -> None:
    runs = [SeedRun(0, {LAST: 0.8, BEST: 0.9}), SeedRun(1, {LAST: 0.6, BEST: 0.9})]
    assert summarise(runs)[LAST] == pytest.approx((0.7, 0.1 * 2**0.5))
    lines = table(runs).splitlines()
    assert "70.0 ± 14.1 %" in lines[0]
    assert "90.0 ± 0.0 %" in lines[1]
    with pytest.raises(ValueError, match="same scores"):
        summarise([*runs, SeedRun(2, {LAST: 1.0})])


def test_axes_as_published() -> None:
    data = objects(1, 1)
    seen = on_published_axes(lambda points: points[:, 0])(torch.from_numpy(data[0].xyz[None]))
    np.testing.assert_array_equal(seen[0], y_up(data[0]).xyz[0])


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = objects(per_class=15, views=1)
    file = write_npz(tmp_path, data)
    out = tmp_path / "r.json"
    args = ["--data", f"objects:{file}", "--points", "32", "--seeds", "0", "--probes", "svm"]
    assert main([*args, "--out", str(out)]) == 0
    assert "svm 0.075" in capsys.readouterr().out
    assert str(tmp_path) not in out.read_text()
    assert main([*args, "--model", "street"]) == 1
    assert "does not describe single objects" in capsys.readouterr().err
    assert main(["--data", f"folder:{tmp_path}", "--label-set", "street8"]) == 1
    assert "try instances:folder:" in capsys.readouterr().err


def test_an_official_test_split_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import h5py

    rng = np.random.default_rng(0)
    for name, n in (("train", 60), ("test", 20)):
        labels = np.arange(n) % 4
        stretch = np.stack([np.ones(n), 1.0 + 2 * labels, np.ones(n)], 1)[:, None]
        with h5py.File(tmp_path / f"ply_data_{name}0.h5", "w") as file:
            file["data"] = (rng.normal(size=(n, 64, 3)) * stretch).astype(np.float32)
            file["label"] = labels[:, None].astype(np.uint8)
    args = ["--data", f"modelnet40:{tmp_path}", "--test-split", "test", "--seeds", "0", "--probes", "linear"]
    assert main([*args, "--out", str(tmp_path / "r.json")]) == 0
    printed = capsys.readouterr().out
    assert "train: airplane 15, bathtub 15, bed 15, bench 15" in printed
    assert "test: airplane 5, bathtub 5, bed 5, bench 5" in printed
    story = json.loads((tmp_path / "r.json").read_text())
    assert set(story["data"]) == {"train", "test"}
    figures = story["runs"][0]["details"]["linear, chosen on validation"]
    assert (figures["test"]["n_objects"], figures["n_train"]) == (20, 48)
    assert figures["test"]["accuracy"] > 0.6


def test_drawn_folds_and_their_accuracy() -> None:
    names = tuple("abcdef")
    train, test = objects(12, 2, names), objects(8, 1, names)
    test = StoredObjects(test.cloud, test.offsets, test.labels, names, [f"test {n}" for n in test.names])
    folds = draw_folds(train, test, way=5, shot=10, n_folds=4, seed=3)
    for fold in folds:
        assert set(class_counts(fold.train).values()) == {10}
        assert set(class_counts(fold.test).values()) == {8}
        assert len({fold.train.instance(i) for i in range(50)}) == 50
        assert fold.train.classes == fold.test.classes
    assert folds[0].train.classes != folds[1].train.classes
    assert [f.train.classes for f in draw_folds(train, test, 5, 10, 4, 3)] == [f.train.classes for f in folds]
    assert all(
        isinstance(fold.test[i], LabeledObject) and fold.test[i].category == fold.test.label(i)
        for i in range(3)
    )
    result = probe_folds(shape_statistics, folds, view=SMALL)
    assert (result.way, result.shot, len(result.accuracy)) == (5, 10, 4)
    assert 0.2 < result.mean <= 1
    with pytest.raises(ValueError, match="20 instances each"):
        draw_folds(train, test, 5, 20)


def test_few_shot_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = objects(per_class=20, views=1)
    file = write_npz(tmp_path, data)
    args = ["--data", f"objects:{file}", "--way", "2", "--shot", "3", "--folds", "3"]
    assert few_shot([*args, "--out", str(tmp_path / "r.json")]) == 0
    assert "svm, no pre-training: 2 way 3 shot: " in capsys.readouterr().out
    story = json.loads((tmp_path / "r.json").read_text())
    assert (story["task"], len(story["runs"])) == ("few-shot 2 way 3 shot", 3)
    assert story["data"]["fold 2 train"]["classes"] != story["data"]["fold 0 train"]["classes"]
    assert str(tmp_path) not in (tmp_path / "r.json").read_text()

    args += [
        "--mode",
        "full",
        "--work-dir",
        str(tmp_path / "runs"),
        "max_steps=60",
        "batch_size=6",
        "threads=1",
    ]
    args += [
        "encoder.n_patches=4",
        "encoder.patch_size=8",
        "contract.n_points=32",
        "progress=false",
        "lr=3e-3",
    ]
    assert few_shot(args) == 0
    mean = float(capsys.readouterr().out.split("3 shot: ")[1].split(" ")[0])
    assert mean > 75  # of two classes, told apart by their length; after fewer steps rounding decides
    kept = sorted((tmp_path / "runs").glob("fold-*/model.safetensors"))
    written = [file.stat().st_mtime_ns for file in kept]
    assert few_shot(args) == 0  # nothing is trained again
    assert [file.stat().st_mtime_ns for file in kept] == written
    assert few_shot([*args, "lr=1e-3", "--folds", "1"]) == 0  # another run is not taken for it
    assert len(list((tmp_path / "runs").glob("fold-*"))) == 4
    assert few_shot([*args[:2], "--way", "9"]) == 1
    assert "9 way 10 shot needs 9 classes" in capsys.readouterr().err


def test_folds_never_test_what_they_learn() -> None:
    data = objects(per_class=12, views=3)
    fold = draw_folds(data, ObjectSubset(data, range(0, len(data), 9)), way=2, shot=3, n_folds=1)[0]
    sides = [{side.instance(i) for i in range(len(side))} for side in (fold.train, fold.test)]
    assert not sides[0] & sides[1]


def test_mean_and_std_over_folds() -> None:
    data = objects(3, 1)
    folds = draw_folds(data, Renamed(data), 2, 2, n_folds=3)
    scores = iter((0.5, 0.7, 0.9))
    result = run_folds(folds, lambda fold, k: next(scores))
    assert (result.mean, result.std) == (pytest.approx(0.7), pytest.approx(0.2))
    assert str(result) == "2 way 2 shot: 70.0 ± 20.0 % (3 folds)"
    assert FewShotResult(5, 10, (0.9,)).std == 0
    with pytest.raises(ValueError, match="one way and shot"):
        run_folds([], lambda fold, k: 0.0)


class Renamed(ObjectSubset):
    """The same objects as other things."""

    def __init__(self, whole: StoredObjects) -> None:
        super().__init__(whole, range(len(whole)))

    def instance(self, index: int) -> str:
        return f"other {super().instance(index)}"


def test_joined_and_relabelled() -> None:
    first, second = objects(2, 1, ("a", "b")), objects(2, 1, ("c", "b"))
    joined = JoinedObjects([first, second])
    assert joined.classes == ("a", "b", "c")
    assert labels_of(joined).tolist() == [0, 0, 1, 1, 2, 2, 1, 1]
    assert [joined[i].category for i in range(8)] == labels_of(joined).tolist()
    assert labels_of(Relabeled(joined, ("c", "a"))).tolist() == [1, 1, -1, -1, 0, 0, -1, -1]
    assert Relabeled(joined, ("c",))[2].category == -1
    assert labels_of(Relabeled(joined, ("x", "b"), {"a": "x"})).tolist() == [0, 0, 1, 1, -1, -1, 1, 1]
    with pytest.raises(ValueError, match="'moon' is to be renamed"):
        Relabeled(joined, ("a",), {"moon": "a"})


# ShapeNetPart, by hand: a cap has parts 6 and 7, a bag 4 and 5, a mug 36 and 37.
CAP, BAG = 2, 1
NAMES = tuple(name for name, _, _ in CATEGORIES)


def scores_of(parts: list[int]) -> np.ndarray:
    return np.eye(50)[parts]


def test_shape_iou_by_hand() -> None:
    truth, found = np.array([6, 6, 6, 7]), np.array([6, 6, 7, 7])
    assert shape_iou(truth, found, (6, 7)) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert shape_iou(np.array([6, 6]), np.array([6, 6]), (6, 7)) == 1.0  # part 7 is absent in both
    assert shape_iou(np.array([6, 6]), np.array([6, 7]), (6, 7)) == pytest.approx((1 / 2 + 0) / 2)


def test_instance_and_class_miou_by_hand() -> None:
    scores = PartScores(NAMES, PARTS)
    scores.add(CAP, np.array([6, 6, 7, 7]), scores_of([6, 6, 7, 7]))  # 1
    scores.add(CAP, np.array([6, 6, 7, 7]), scores_of([6, 6, 6, 6]))  # (1/2 + 0) / 2
    scores.add(BAG, np.array([4, 5]), scores_of([4, 5]))  # 1
    assert scores.instance_miou == pytest.approx((1 + 0.25 + 1) / 3)
    assert scores.class_miou == pytest.approx(((1 + 0.25) / 2 + 1) / 2)
    assert scores.by_category == {"bag": 1.0, "cap": 0.625}


def test_only_parts_of_the_own_category_can_be_predicted() -> None:
    scores = PartScores(NAMES, PARTS)
    loud = scores_of([6, 7]) + 9 * scores_of([30, 30])
    scores.add(CAP, np.array([6, 7]), loud)
    assert scores.instance_miou == 1.0
    with pytest.raises(ValueError, match="not all of cap"):
        scores.add(CAP, np.array([6, 8]), loud)
    with pytest.raises(ValueError, match=r"must be \(2, 50\)"):
        scores.add(CAP, np.array([6, 7]), loud[:, :49])


class Halves(StoredObjects):
    part_ids = PARTS


def test_parts_are_evaluated_on_the_sampled_points() -> None:
    """A segmenter that knows the rule (part 7 lies above) is perfect, points being matched to their own labels."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-1, 1, (2 * 300, 3)).astype(np.float32)
    part = np.where(xyz[:, 2] > 0, 7, 6).astype(np.uint16)
    cloud = PointCloud(xyz, {"label": part})
    data = Halves(cloud, np.array([0, 300, 600]), np.array([CAP, CAP]), NAMES, ["x", "y"])
    seen = []

    def segment(points: Tensor, category: Tensor) -> Tensor:
        seen.append((tuple(points.shape), category.tolist()))
        out = torch.zeros(*points.shape[:2], 50)
        out[..., 7], out[..., 6] = points[..., 2], -points[..., 2]
        return out

    view = ObjectView(128, pool=False, unit_sphere=False)
    _, report = evaluate_parts(segment, data, view)
    assert (report["instance_miou"], report["views"], report["shapes"]) == (1.0, "single view", 2)
    assert seen == [((1, 128, 3), [CAP])] * 2
    _, report = evaluate_parts(segment, data, view, votes=3)
    assert report["views"] == "3-vote"
    assert seen[-1] == ((3, 128, 3), [CAP] * 3)


def test_votes_are_the_mean_of_training_views() -> None:
    data = objects(1, 1)
    view = ObjectView(16, scale_shift=True)
    classify = lambda points: points.mean(1)  # noqa: E731
    single = mean_logits(classify, data[0], view)
    torch.testing.assert_close(single, torch.from_numpy(view(data[0])).mean(0))
    views = [view(data[0], np.random.default_rng([0, 14, k])) for k in range(10)]
    voted = mean_logits(classify, data[0], view, votes=10)
    torch.testing.assert_close(voted, torch.from_numpy(np.stack(views)).mean((0, 1)))
    assert (label(0), label(10)) == ("single view", "10-vote")


def test_descriptions_do_not_depend_on_the_batch() -> None:
    data = objects(4, 1)
    by_one, by_five = (describe_all(shape_statistics, data, SMALL, n) for n in (1, 5))
    np.testing.assert_allclose(by_one.features, by_five.features, rtol=1e-4, atol=1e-5)
    assert by_one.names == by_five.names == tuple(data.names)


def test_objects_of_many_sizes_are_described_in_their_order() -> None:
    sizes = [5, 16, 9, 400, 5, 300, 9]
    xyz = np.random.default_rng(0).normal(size=(sum(sizes), 3)).astype(np.float32)
    data = StoredObjects(PointCloud(xyz), np.cumsum([0, *sizes]), np.zeros(7, int), ("a",), list("abcdefg"))
    asked = []

    def sizes_of(points: Tensor) -> Tensor:
        asked.append(tuple(points.shape[:2]))
        return torch.full((len(points), 1), float(points.shape[1]))

    found = describe_all(sizes_of, data, SMALL, batch_size=2)
    assert found.features[:, 0].tolist() == [5, 16, 9, 16, 5, 16, 9]
    assert sorted(asked) == [(1, 16), (2, 5), (2, 9), (2, 16)]
