# SPDX-License-Identifier: Apache-2.0
"""Data sets on files of their layout, the training stream, and real samples where they are."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.io.files import write_cloud
from pc_perception.io.label_files import write_labels
from pc_perception.labels import UNLABELED
from training.data.dataset import Joined, Picker
from training.data.simulation import SimulatedClouds
from training.data.specs import DataOptions, open_data, open_one


def cloud_of(n: int, label: int | None = None) -> PointCloud:
    rng = np.random.default_rng(n)
    fields = {"intensity": rng.uniform(0, 1, n).astype(np.float32)}
    if label is not None:
        fields["label"] = np.full(n, label, np.uint16)
    return PointCloud(rng.uniform(-5, 5, (n, 3)).astype(np.float32), fields)


def test_folder_with_fields_and_with_files(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.npz", cloud_of(30, 11))
    write_cloud(tmp_path / "b.pcd", cloud_of(20))
    write_labels(tmp_path / "b.label", np.full(20, 1))
    data = open_one(f"folder:{tmp_path}", DataOptions("street8", label_source="simulation"))
    assert [len(data[i]) for i in range(len(data))] == [30, 20]
    assert set(data[0].fields["label"]) == {5}  # simulated car is vehicle
    assert set(data[1].fields["label"]) == {0}
    assert data.name(1) == "b.pcd"


def test_labels_that_are_the_targets_own(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.npz", cloud_of(5).with_fields(label=np.array([0, 7, 8, 65535, 3], np.uint16)))
    own = open_one(f"folder:{tmp_path}", DataOptions("street8"))[0]
    assert own.fields["label"].tolist() == [0, 7, UNLABELED, UNLABELED, 3]
    assert "label" not in open_one(f"folder:{tmp_path}", DataOptions(None))[0].fields


def test_semantickitti_layout(tmp_path: Path) -> None:
    for sequence in ("00", "08"):
        for folder in ("velodyne", "labels"):
            (tmp_path / "sequences" / sequence / folder).mkdir(parents=True)
        np.zeros((3, 4), np.float32).tofile(tmp_path / f"sequences/{sequence}/velodyne/000000.bin")
        np.array([10, 40 | 7 << 16, 0], "<u4").tofile(tmp_path / f"sequences/{sequence}/labels/000000.label")
    data = open_one(f"semantickitti:{tmp_path}", DataOptions("street8", sequences=("08",)))
    assert len(data) == 1
    assert data.name(0) == "08/000000"
    assert data[0].fields["label"].tolist() == [5, 0, UNLABELED]
    with pytest.raises(ValueError, match="sequences 11"):
        open_one(f"semantickitti:{tmp_path}", DataOptions("street8", sequences=("11",)))


def test_simulated_clouds_are_made_once_and_by_seed(tmp_path: Path) -> None:
    first = SimulatedClouds("street", "street8", 1, 1, seed=3, cache_dir=tmp_path / "a")
    assert first.missing() == [3]
    cloud = first[0]
    assert first.missing() == []
    assert set(np.unique(cloud.fields["label"])) - {UNLABELED} <= set(range(8))
    assert {"intensity", "ring"} <= set(cloud.fields)
    assert np.isfinite(cloud.xyz).all()
    again = SimulatedClouds("street", None, 1, 1, seed=3, cache_dir=tmp_path / "b")
    np.testing.assert_array_equal(again[0].xyz, cloud.xyz)
    assert "label" not in again[0].fields
    file = next((tmp_path / "a").rglob("*-0.npz"))
    before = file.stat().st_mtime_ns
    assert len(first[0])
    assert file.stat().st_mtime_ns == before


def test_a_bag_is_laid_out_once(tmp_path: Path) -> None:
    from pc_perception.io.bags import BagWriter

    with BagWriter(tmp_path / "drive.mcap") as bag:
        for k in range(3):
            bag.write_cloud(
                "/points", PointCloud(cloud_of(40 + k, 11).xyz, cloud_of(40 + k, 11).fields, "lidar", k + 1)
            )
    options = DataOptions("street8", label_source="simulation", cache_dir=str(tmp_path / "cache"))
    data = open_one(f"bag:{tmp_path / 'drive.mcap'}", options)
    assert [len(data[i]) for i in range(len(data))] == [40, 41, 42]
    assert set(data[2].fields["label"]) == {5}
    np.testing.assert_allclose(data[1].xyz, cloud_of(41).xyz)
    listing = next((tmp_path / "cache").rglob("clouds.json"))
    before = listing.stat().st_mtime_ns
    assert len(open_one(f"bag:{tmp_path / 'drive.mcap'}", options)) == 3
    assert listing.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("moon:1", "names no data"),
        ("folder:", "does not say where"),
        ("sim:sea", "no simulation 'sea'"),
        ("folder:/nowhere/at/all", "there is no"),
        ("", "no data was named"),
    ],
)
def test_what_is_not_there_is_said(spec: str, problem: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        open_data(spec, DataOptions("street8"))


class Named:
    """A data set of ``n`` clouds that are never read."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> PointCloud:
        raise NotImplementedError

    def name(self, index: int) -> str:
        return f"{self.n}:{index}"


def test_the_stream_passes_over_everything_in_new_orders() -> None:
    picker = Picker([Named(3), Named(4)], (), seed=1)
    passes = [[picker.pick(7 * p + i) for i in range(7)] for p in range(3)]
    assert all(sorted(p) == list(range(7)) for p in passes)
    assert passes[0] != passes[1]
    fresh = pickle.loads(pickle.dumps(Picker([Named(3), Named(4)], (), seed=1)))
    assert [fresh.pick(7 + i) for i in range(7)] == passes[1]


def test_shares() -> None:
    picker = Picker([Named(100), Named(2)], (1, 3), seed=0)
    second = np.mean([picker.pick(k) >= 100 for k in range(800)])
    assert 0.7 < second < 0.8
    with pytest.raises(ValueError, match="data_shares"):
        Picker([Named(1)], (1, 2), seed=0)
    assert Joined([Named(2), Named(3)]).name(2) == "3:0"


def real(folder: str) -> Path:
    root = os.environ.get("PC_PERCEPTION_DATA")
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(f"PC_PERCEPTION_DATA names no folder with {folder}")
    return Path(root) / folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_real_nuscenes_format() -> None:
    root = real("nuscenes/pandaset002_nusc_dev")
    data = open_one(f"nuscenes:{root}", DataOptions("street8"))
    assert len(data) == 12
    cloud = data[0]
    assert len(cloud) > 90_000
    share = np.bincount(np.minimum(cloud.fields["label"], 8), minlength=9) / len(cloud)
    assert share[0] > 0.05
    assert share[5] > 0.01
    assert share[8] < 0.5
    other = open_one(f"nuscenes:{root}", DataOptions("street8", label_source="pandaset43"))[0]
    both = (other.fields["label"] != UNLABELED) & (cloud.fields["label"] != UNLABELED)
    assert (other.fields["label"] == cloud.fields["label"])[both].mean() > 0.9


def test_real_semantickitti() -> None:
    cloud = open_one(f"semantickitti:{real('semantickitti')}", DataOptions("street8"))[0]
    assert len(cloud) == 124_668
    assert (cloud.fields["label"] != UNLABELED).mean() > 0.9
