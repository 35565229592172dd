# SPDX-License-Identifier: Apache-2.0
"""Bad files and bad objects: a clear error that names them, or the documented fallback."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from training.data.objects import StoredObjects
from training.data.pickled_arrays import read_arrays
from training.data.specs import DataOptions, open_one
from training.evaluate.features import describe_all, shape_statistics
from training.object_views import ObjectView, usable

RNG = np.random.default_rng(1)


def scan_file(root: Path, **arrays: Any) -> str:
    (root / "main_split").mkdir(exist_ok=True)
    with h5py.File(root / "main_split" / "training_objectdataset_augmentedrot_scale75.h5", "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return f"scanobjectnn:{root}"


POINTS = np.zeros((4, 16, 3), np.float32)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"data": np.arange(4), "label": POINTS}, "keys are swapped"),
        ({"points": POINTS, "label": np.arange(4)}, r"no key 'data'; its keys are \['label', 'points'\]"),
        ({"data": POINTS}, "no key 'label'"),
        ({"data": POINTS, "label": np.arange(3)}, "'label' must hold 4 numbers"),
        ({"data": POINTS, "label": np.arange(4) * 13}, r"labels 0 \.\. 39, but there are 15 classes"),
        ({"data": POINTS.astype(np.int32), "label": np.arange(4)}, "'data' must be"),
        ({"data": POINTS[:, :, :2], "label": np.arange(4)}, "'data' must be"),
    ],
)
def test_h5_files_of_another_make(tmp_path: Path, arrays: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        open_one(scan_file(tmp_path, **arrays), DataOptions(None))


def test_truncated_h5_and_unknown_names(tmp_path: Path) -> None:
    spec = scan_file(tmp_path, data=POINTS, label=np.arange(4))
    file = next((tmp_path / "main_split").iterdir())
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(ValueError, match="truncated"):
        open_one(spec, DataOptions(None))
    with pytest.raises(ValueError, match="no variant 'easy'; there are bg, only, hardest"):
        open_one(spec, DataOptions(None, variant="easy"))
    with pytest.raises(ValueError, match="no split 'val'"):
        open_one(spec, DataOptions(None, split="val"))
    with pytest.raises(FileNotFoundError, match="test_objectdataset"):
        open_one(spec, DataOptions(None, split="test"))


class Attack:
    """Runs a command when it is unpickled by pickle itself."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / "modelnet40_train_8192pts_fps.dat"
    file.write_bytes(pickle.dumps([[Attack(marker)], []]))
    with pytest.raises(ValueError, match=r"names posix\.system"):
        open_one(f"modelnet40:{tmp_path}", DataOptions(None))
    assert not marker.exists()
    pickle.loads(file.read_bytes())
    assert marker.exists()  # the attack is real


@pytest.mark.parametrize(
    "content",
    [
        np.array([{"a": 1}, None], dtype=object),
        np.zeros(2, [("a", "f4")]),
        np.array(["text"]),
        np.array("2020-01-01", "M8[D]"),
    ],
)
def test_only_arrays_of_numbers_are_unpickled(tmp_path: Path, content: np.ndarray) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="cannot be read as a pickle of arrays"):
        read_arrays(tmp_path / "x.pkl")


def test_a_small_pickle_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    file = tmp_path / "x.pkl"
    file.write_bytes(b"\x80\x02]r\xff\xff\xff\xff.")  # an empty list, kept as object number 2^32 - 1
    with pytest.raises(ValueError, match="counts 4294967295 objects in 9 bytes"):
        read_arrays(file)
    file.write_bytes(b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.")  # a terabyte is announced
    with pytest.raises(ValueError, match=r"x\.pkl"):
        read_arrays(file)
    nested: list = []
    for _ in range(60):
        nested = [nested, nested]
    file.write_bytes(pickle.dumps(nested))
    assert len(read_arrays(file)) == 2  # 2^60 lists, were they copied one by one


@pytest.mark.parametrize("cut", [1, 7, 40, 200])
def test_broken_pickles(tmp_path: Path, cut: int) -> None:
    raw = pickle.dumps([[np.zeros((20, 6), np.float32)], [np.array([1])]])
    (tmp_path / "x.pkl").write_bytes(raw[:-cut])
    with pytest.raises(ValueError, match=r"x\.pkl"):
        read_arrays(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([[np.zeros((5, 6))], [np.array([40])]], "label 40, but there are 40 classes"),
        ([[np.zeros((5, 6))], [np.array([1]), np.array([1])]], "1 objects, 2 labels"),
        ([[np.zeros((5, 4))], [np.array([1])]], r"must hold shapes of \(N, 3\) or \(N, 6\)"),
        ([[], []], "none"),
        ({"a": 1}, "must hold a list of points and a list of labels"),
    ],
)
def test_caches_of_another_make(tmp_path: Path, content: Any, problem: str) -> None:
    (tmp_path / "modelnet40_train_8192pts_fps.dat").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=problem):
        open_one(f"modelnet40:{tmp_path}", DataOptions(None))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"xyz": np.zeros((4, 3))}, "no array 'points'"),
        ({"points": np.zeros((4, 3), np.float32)}, "without 'offsets'"),
        ({"points": np.zeros((4, 3), np.float32), "offsets": [0, 2, 5]}, "do not cut its 4 points"),
        ({"points": np.zeros((2, 4, 3), np.float32), "label": [0, 1]}, "only one of 'label' and 'classes'"),
        (
            {"points": np.zeros((2, 4, 3), np.float32), "label": [0, 1], "classes": ["a"]},
            "label 1, but there are 1",
        ),
        ({"points": np.zeros((2, 4, 2), np.float32)}, "N, 3 or more"),
    ],
)
def test_object_files_of_another_make(tmp_path: Path, arrays: dict[str, Any], problem: str) -> None:
    np.savez(tmp_path / "o.npz", **arrays)
    with pytest.raises(ValueError, match=problem) as caught:
        open_one(f"objects:{tmp_path}", DataOptions(None))
    assert "o.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("modelnet40:{}", "holds no ModelNet40 for split 'train'"),
        ("objects:{}", r"no \.npz file of objects"),
        ("shapenet55:{}", "no list"),
        ("shapenetpart:{}", "no list"),
        ("s3dis-blocks:{}", "has no areas"),
        ("scanobjectnn:{}", "no file"),
        ("instances:{}", "label_set"),
        ("objects:{}/nowhere", "there is no"),
        ("sim:objects", "must be at least 1"),
    ],
)
def test_empty_folders_are_told_apart(tmp_path: Path, spec: str, problem: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        open_one(spec.format(tmp_path), DataOptions(None, n_scenes=0))


def test_parts_of_another_category(tmp_path: Path) -> None:
    (tmp_path / "train_test_split").mkdir()
    for split in ("train", "val"):
        (tmp_path / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(
            '["shape_data/02954340/a"]'
        )
    (tmp_path / "02954340").mkdir()
    np.savetxt(tmp_path / "02954340" / "a.txt", np.c_[np.zeros((3, 6)), [6, 7, 12]])
    with pytest.raises(ValueError, match=r"parts \[6, 7, 12\]; category cap has \(6, 7\)"):
        open_one(f"shapenetpart:{tmp_path}", DataOptions(None))[0]


NAN = np.full((1, 3), np.nan, np.float32)
SHAPE = RNG.normal(size=(200, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("xyz", "problem"),
    [
        (np.zeros((0, 3)), "has 0 points"),
        (np.ones((1, 3)), "has 1 points"),
        (np.ones((50, 3)), "all 50 points of the object are equal"),
        (np.concatenate([SHAPE, NAN.repeat(3, 0)]), "3 of 203 points are NaN"),
        (NAN.repeat(9, 0), "9 of 9 points are NaN"),
    ],
)
def test_objects_without_a_shape(xyz: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ObjectView(16)(PointCloud(xyz))


def test_small_objects_keep_their_points_and_a_little_nan_is_left_out() -> None:
    few = PointCloud(SHAPE[:3])
    assert ObjectView(16)(few).shape == (3, 3)
    filled = ObjectView(16, fill=True)(few)
    assert filled.shape == (16, 3)
    assert len(np.unique(filled, axis=0)) == 3
    with pytest.raises(ValueError, match="has 3 points; at least 32 are needed"):
        ObjectView(64, least=32)(few)
    with pytest.raises(ValueError, match="n_points 0"):
        ObjectView(0)
    one_bad = PointCloud(np.concatenate([NAN, SHAPE]))
    assert usable(one_bad).tolist() == list(range(1, 201))
    assert np.isfinite(ObjectView(1024)(one_bad)).all()


def stored(clouds: list[np.ndarray]) -> StoredObjects:
    n = len(clouds)
    cloud = PointCloud(np.concatenate(clouds))
    return StoredObjects(
        cloud, np.cumsum([0, *map(len, clouds)]), np.arange(n) % 2, ("a", "b"), [f"o{i}" for i in range(n)]
    )


def test_bad_objects_are_named_counted_and_at_most_one_per_cent() -> None:
    good = [RNG.normal(size=(40, 3)).astype(np.float32) for _ in range(150)]
    found = describe_all(shape_statistics, stored([*good, NAN.repeat(5, 0)]), ObjectView(32))
    assert len(found.features) == 150
    assert found.bad == ("o150: 5 of 5 points are NaN or infinite; at most 1 % may be",)
    with pytest.raises(ValueError, match=r"3 of 153 samples cannot be used, more than 1%; the last: o152"):
        describe_all(shape_statistics, stored([*good, *[NAN] * 3]), ObjectView(32))
    with pytest.raises(ValueError, match="2 of 2 samples"):
        describe_all(shape_statistics, stored([NAN, NAN]), ObjectView(32))


def test_an_encoder_that_breaks_its_promise_is_told() -> None:
    data = stored([SHAPE, SHAPE])
    with pytest.raises(ValueError, match=r"must return \(2, F\) features"):
        describe_all(lambda p: p, data, ObjectView(32))
    with pytest.raises(ValueError, match="NaN or infinite"):
        describe_all(lambda p: p.mean(1) * float("nan"), data, ObjectView(32))
