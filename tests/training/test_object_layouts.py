# SPDX-License-Identifier: Apache-2.0
"""Published layouts of object data: tiny files are written as they are published, and read back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from training.data.few_shot_folds import read_fold
from training.data.modelnet40 import CLASSES
from training.data.object_files import write_objects
from training.data.objects import ObjectDataset, class_counts, data_hash, y_up
from training.data.pickled_arrays import read_arrays
from training.data.s3dis_blocks import S3DISBlocks
from training.data.scanobjectnn import CLASSES as SCAN_CLASSES
from training.data.shapenet_part import CATEGORIES, N_PARTS, PARTS
from training.data.specs import DataOptions, open_one
from training.settings import RunSettings, read_config

RNG = np.random.default_rng(0)


def opened(spec: str, **options: object) -> ObjectDataset:
    return open_one(spec, DataOptions(None, **options))  # type: ignore[arg-type,return-value]


def points(n: int, k: int = 3) -> np.ndarray:
    return RNG.uniform(-1, 1, (n, k)).astype(np.float32)


def is_turned(cloud: object, published: np.ndarray) -> bool:
    """True where the cloud's z is the published y."""
    return np.allclose(cloud.xyz, published[:, [0, 2, 1]] * [1, -1, 1], atol=1e-5)  # type: ignore[attr-defined]


def test_shapenet55(tmp_path: Path) -> None:
    lists = {"train": ["02691156-a1.npy", "03001627-b2.npy"], "test": ["02691156-c3.npy"]}
    (tmp_path / "ShapeNet-55").mkdir()
    (tmp_path / "shapenet_pc").mkdir()
    stored = {}
    for name, files in lists.items():
        (tmp_path / "ShapeNet-55" / f"{name}.txt").write_text("\n".join(files) + "\n")
        for file in files:
            stored[file] = points(8192)
            np.save(tmp_path / "shapenet_pc" / file, stored[file])
    for root in (tmp_path, tmp_path / "ShapeNet-55"):
        data = opened(f"shapenet55:{root}")
        assert [data.name(i) for i in range(len(data))] == lists["train"]
        assert data.classes == ("02691156", "03001627")
        assert (data.label(1), data[1].category, data.instance(1)) == (1, 1, "03001627-b2.npy")
        assert is_turned(data[1], stored["03001627-b2.npy"])
        np.testing.assert_allclose(y_up(data[1]).xyz, stored["03001627-b2.npy"])
    assert len(opened(f"shapenet55:{tmp_path}", split="test")) == 1
    assert len(opened(f"shapenet55:{tmp_path}", split="all")) == 3


def write_modelnet_text(root: Path) -> dict[str, np.ndarray]:
    (root / "modelnet40_shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    shapes = {name: points(50, 6) for name in ("airplane_0001", "night_stand_0002", "xbox_0003")}
    for name, values in shapes.items():
        (root / name.rpartition("_")[0]).mkdir(exist_ok=True)
        np.savetxt(root / name.rpartition("_")[0] / f"{name}.txt", values, fmt="%.6f", delimiter=",")
    (root / "modelnet40_train.txt").write_text("airplane_0001\nnight_stand_0002\n")
    (root / "modelnet40_test.txt").write_text("xbox_0003\n")
    return shapes


def test_modelnet40_text(tmp_path: Path) -> None:
    shapes = write_modelnet_text(tmp_path)
    train, test = opened(f"modelnet40:{tmp_path}"), opened(f"modelnet40:{tmp_path}", split="test")
    assert [train.classes[train.label(i)] for i in range(2)] == ["airplane", "night_stand"]
    assert [test.label(i) for i in range(len(test))] == [39]
    assert is_turned(train[1], shapes["night_stand_0002"][:, :3])
    assert train[1].fields["normal"][0, 2] == pytest.approx(shapes["night_stand_0002"][0, 4], abs=1e-5)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_modelnet40_cache(tmp_path: Path, protocol: int) -> None:
    write_modelnet_text(tmp_path)  # the cache lies beside the text files, and wins
    shapes = [points(64, 6), points(64, 6)]
    content = [shapes, [np.array([8]).astype(np.int32), np.array([0]).astype(np.int32)]]
    with (tmp_path / "modelnet40_train_8192pts_fps.dat").open("wb") as stream:
        pickle.dump(content, stream, protocol=protocol)
    data = opened(f"modelnet40:{tmp_path}")
    assert len(data) == 2
    assert (data.label(0), data[0].category, data.classes[data.label(0)]) == (8, 8, "chair")
    assert is_turned(data[1], shapes[1][:, :3])
    assert "normal" in data[1].fields


def test_modelnet40_h5(tmp_path: Path) -> None:
    shapes = [points(3 * 2048).reshape(3, 2048, 3), points(2 * 2048).reshape(2, 2048, 3)]
    for k, values in enumerate(shapes):
        with h5py.File(tmp_path / f"ply_data_train{k}.h5", "w") as file:
            file["data"] = values
            file["label"] = np.arange(len(values), dtype=np.uint8)[:, None] + 10 * k
            file["normal"] = values
            file["faceId"] = np.zeros((len(values), 2048), np.int32)
    data = opened(f"modelnet40:{tmp_path}")
    assert [data.label(i) for i in range(len(data))] == [0, 1, 2, 10, 11]
    assert is_turned(data[4], shapes[1][1])
    assert len({data.name(i) for i in range(5)}) == 5


@pytest.mark.parametrize(
    ("variant", "folder", "ending"),
    [
        ("bg", "main_split", "objectdataset.h5"),
        ("only", "main_split_nobg", "objectdataset.h5"),
        ("hardest", "main_split", "objectdataset_augmentedrot_scale75.h5"),
    ],
)
def test_scanobjectnn(tmp_path: Path, variant: str, folder: str, ending: str) -> None:
    (tmp_path / folder).mkdir()
    for name, labels in (("training", [14, 0, 3]), ("test", [5])):
        with h5py.File(tmp_path / folder / f"{name}_{ending}", "w") as file:
            file["data"] = points(len(labels) * 2048).reshape(-1, 2048, 3)
            file["label"] = np.array(labels, np.int32)
            file["mask"] = np.where(RNG.random((len(labels), 2048)) < 0.3, -1, 4)
    train = opened(f"scanobjectnn:{tmp_path}", variant=variant)
    assert [train.label(i) for i in range(3)] == [14, 0, 3]
    assert (train.classes, len(train[0])) == (SCAN_CLASSES, 2048)
    assert set(train[0].fields["label"].tolist()) == {0, 1}
    test = opened(f"scanobjectnn:{tmp_path}", variant=variant, split="test")
    assert [test.classes[test.label(i)] for i in range(len(test))] == ["desk"]


def test_shapenetpart(tmp_path: Path) -> None:
    assert (N_PARTS, PARTS[0], PARTS[10], PARTS[15]) == (50, (0, 1, 2, 3), tuple(range(30, 36)), (47, 48, 49))
    (tmp_path / "train_test_split").mkdir()
    for split, models in {"train": ["a", "b"], "val": ["c"], "test": ["d"]}.items():
        names = [f"shape_data/02954340/{m}" for m in models] + [f"shape_data/04379243/{m}" for m in models]
        (tmp_path / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
        for name in names:
            file = tmp_path / f"{name.removeprefix('shape_data/')}.txt"
            file.parent.mkdir(exist_ok=True)
            parts = [6, 7] if "02954340" in name else [47, 49]
            np.savetxt(file, np.c_[points(40, 6), RNG.choice(parts, 40)], fmt="%.6f")
    data = opened(f"shapenetpart:{tmp_path}")
    assert [len(opened(f"shapenetpart:{tmp_path}", split=s)) for s in ("", "train", "val", "test")] == [
        6,
        4,
        2,
        2,
    ]
    assert class_counts(data)["cap"] == class_counts(data)["table"] == 3
    assert data.classes[data[2].category] == "table"
    assert set(data[2].fields["label"].tolist()) <= {47, 49}
    assert data[2].fields["normal"].shape == (40, 3)
    assert [CATEGORIES[data.label(i)][1] for i in (0, 2)] == ["02954340", "04379243"]


def write_folds(root: Path, way: int, shot: int) -> None:
    folder = root / f"{way}way_{shot}shot"
    folder.mkdir()
    for k in range(10):
        old = (np.arange(way) * 3 + k).tolist()
        sides = {
            side: [(points(32, 6), np.int64(c), np.int64(old[c])) for c in range(way) for _ in range(n)]
            for side, n in (("train", shot), ("test", 2))
        }
        with (folder / f"{k}.pkl").open("wb") as stream:
            pickle.dump(sides, stream)


def test_few_shot_folds(tmp_path: Path) -> None:
    write_folds(tmp_path, 5, 10)
    fold = read_fold(tmp_path, 5, 10, 1)
    assert (len(fold.train), len(fold.test)) == (50, 10)
    assert fold.train.classes == tuple(CLASSES[i] for i in (1, 4, 7, 10, 13))
    assert class_counts(fold.test) == dict.fromkeys(fold.train.classes, 2)
    for split, side in (("train", fold.train), ("test", fold.test)):
        opened = open_one(f"fold:5x10x1:{tmp_path}", DataOptions(None, split=split))
        np.testing.assert_array_equal(opened[3].xyz, side[3].xyz)
    with pytest.raises(ValueError, match="names no fold"):
        open_one(f"fold:5x10:{tmp_path}", DataOptions(None))
    with pytest.raises(FileNotFoundError, match="10way_10shot"):
        read_fold(tmp_path, 10, 10, 0)


def room(n: int) -> np.ndarray:
    """A floor of 3 m x 3 m (label 1) with a table top (label 7), far from the origin."""
    xyz = np.c_[RNG.uniform(0, 3, (n, 2)), np.where(RNG.random(n) < 0.5, 0.0, 0.75)]
    label = np.where(xyz[:, 2] > 0.5, 7, 1)
    return np.c_[xyz + np.array([20, -5, 1.5]), RNG.integers(0, 256, (n, 3)), label].astype(np.float32)


@pytest.mark.parametrize("form", ["npy", "native"])
def test_s3dis_blocks(tmp_path: Path, form: str) -> None:
    table = room(20_000)
    if form == "npy":
        np.save(tmp_path / "Area_5_office_1.npy", table)
    else:
        folder = tmp_path / "Area_5" / "office_1" / "Annotations"
        folder.mkdir(parents=True)
        for label, name in ((1, "floor_1"), (7, "table_1")):
            np.savetxt(folder / f"{name}.txt", table[table[:, 6] == label][:, :6], fmt="%.4f")
    options = DataOptions("s3dis13", areas=("5",), cache_dir=str(tmp_path / "cache"))
    data = open_one(f"s3dis-blocks:{tmp_path}", options)
    assert len(data) == 20_000 // 2048
    block = data[3]
    assert len(block) == 2048
    assert np.abs(block.xyz[:, :2]).max() <= 0.5 + 1e-5
    assert set(np.round(block.xyz[:, 2], 2)) == {np.float32(0.0), np.float32(0.75)}
    assert (block.fields["label"][block.xyz[:, 2] > 0.5] == 7).all()
    np.testing.assert_array_equal(block.xyz, open_one(f"s3dis-blocks:{tmp_path}", options)[3].xyz)
    assert isinstance(data, S3DISBlocks)
    counts = np.bincount(table[:, 6].astype(int), minlength=13)
    np.testing.assert_allclose(
        data.class_weights()[[1, 7]], np.cbrt(counts.max() / counts[[1, 7]]), rtol=1e-5
    )
    coarse = open_one(
        f"s3dis-blocks:{tmp_path}", DataOptions("room9", areas=("5",), cache_dir=str(tmp_path / "cache"))
    )
    assert set(coarse[3].fields["label"].tolist()) == {0, 4}
    with pytest.raises(FileNotFoundError, match="Area_1: no room"):
        open_one(f"s3dis-blocks:{tmp_path}", DataOptions("s3dis13", areas=("1",)))


def test_object_files_of_both_forms(tmp_path: Path) -> None:
    sizes = [70, 3, 40]
    np.savez(
        tmp_path / "a_real.npz",
        points=points(sum(sizes), 4),
        offsets=np.cumsum([0, *sizes]),
        label=[0, 1, 1],
        classes=np.array(["car", "tree"]),
        ids=np.array(["track7", "t/1.pcd", "track7"]),
    )
    upright = points(2 * 16, 6).reshape(2, 16, 6)
    upright[:, :, 3:] /= np.linalg.norm(upright[:, :, 3:], axis=2, keepdims=True)
    np.savez(tmp_path / "b_cad.npz", points=upright, label=[1, 0], classes=np.array(["bed", "car"]))
    data = opened(f"objects:{tmp_path}", y_up=("b_*",))
    assert data.classes == ("car", "tree", "bed")
    assert [data.label(i) for i in range(5)] == [0, 1, 1, 0, 2] == [data[i].category for i in range(5)]
    assert [len(data[i]) for i in range(5)] == [70, 3, 40, 16, 16]
    assert [data.name(i) for i in range(3)] == ["a_real/track7", "a_real/t/1.pcd", "a_real/track7#1"]
    assert [data.instance(i) for i in range(3)] == ["a_real/track7", "a_real/t", "a_real/track7"]
    assert "intensity" in data[0].fields
    assert is_turned(data[3], upright[0, :, :3])
    np.testing.assert_allclose(data[3].fields["normal"][:, 2], upright[0, :, 4], rtol=1e-5)
    assert len(opened(f"objects:{tmp_path / 'a_real.npz'}")) == 3


def test_written_objects_come_back(tmp_path: Path) -> None:
    from pc_perception.cloud import PointCloud

    clouds = [PointCloud(points(n)) for n in (5, 9)]
    write_objects(tmp_path / "o.npz", clouds, [1, 0], ["a", "b"], ["x", "y"], ["thing", "thing"])
    data = opened(f"objects:{tmp_path / 'o.npz'}")
    np.testing.assert_array_equal(data[1].xyz, clouds[1].xyz)
    assert [data.instance(i) for i in range(2)] == ["o/thing", "o/thing"]
    before = data_hash(data)
    assert before == data_hash(opened(f"objects:{tmp_path / 'o.npz'}"))
    write_objects(tmp_path / "o.npz", clouds, [1, 1], ["a", "b"], ["x", "y"], ["thing", "thing"])
    assert data_hash(opened(f"objects:{tmp_path / 'o.npz'}")) != before


def test_the_new_names_of_numpy_2_are_known(tmp_path: Path) -> None:
    content = {"train": [(np.arange(6, dtype=np.float32).reshape(3, 2), np.float64(2.5), 7, "text")]}
    raw = pickle.dumps(content, protocol=2).replace(b"numpy.core.", b"numpy._core.")
    (tmp_path / "new.pkl").write_bytes(raw)
    (values, scalar, number, text) = read_arrays(tmp_path / "new.pkl")["train"][0]
    np.testing.assert_array_equal(values, content["train"][0][0])
    assert (scalar, number, text) == (2.5, 7, "text")
    fortran = {
        "a": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "b": np.arange(3, dtype=">i4"),
        "c": np.eye(2) > 0,
    }
    (tmp_path / "more.pkl").write_bytes(pickle.dumps(fortran))
    for name, expected in fortran.items():
        np.testing.assert_array_equal(read_arrays(tmp_path / "more.pkl")[name], expected)


def test_settings_reach_the_data(tmp_path: Path) -> None:
    config = tmp_path / "c.py"
    config.write_text(
        "from training.configs.street_sim import run as base\nfrom dataclasses import replace\nrun = replace(base)\n"
    )
    run: RunSettings = read_config(config, ["variant=bg", "y_up=a_*,b", "areas=1,5"])
    options = run.data_options()
    assert (options.variant, options.y_up, options.areas) == ("bg", ("a_*", "b"), ("1", "5"))
