# SPDX-License-Identifier: Apache-2.0
"""Whole scenes: ScanNet's and S3DIS's layouts, folders of tiles, and what is wrong with a data set's folder."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.io.files import write_cloud
from pc_perception.labels import UNLABELED, label_map
from pc_perception.simulation.scan import ScanSettings, scan_room
from pc_perception.simulation.writers.scannet import NYU40, write_scannet_scene
from training.data.dataset import warn_once
from training.data.folder import FolderClouds
from training.data.s3dis import S3DISClouds
from training.data.scannet import ScanNetClouds, read_categories
from training.data.specs import DataOptions, open_one

SCENES = ("scene0000_00", "scene0001_00", "scene0001_01")


@pytest.fixture(autouse=True)
def nothing_said_yet() -> None:
    warn_once.cache_clear()


@pytest.fixture(scope="session")
def room() -> PointCloud:
    return scan_room(2, ScanSettings("handheld", spacing_m=0.08))


@pytest.fixture
def scannet(tmp_path: Path, room: PointCloud) -> Path:
    """Three scenes in the official layout, with lists and the table of categories."""
    root = tmp_path / "scannet"
    for k, name in enumerate(SCENES):
        write_scannet_scene(root / "scans", name, room.select(np.arange(k, len(room))))
    (root / "scannetv2_train.txt").write_text("".join(f"{name}\n" for name in SCENES[:2]))
    (root / "scannetv2_val.txt").write_text(f"{SCENES[2]}\n")
    rows = ["raw_category\tnyu40id", *(f"{thing}\t{nyu}" for nyu, _, thing in NYU40.values())]
    (root / "scannetv2-labels.combined.tsv").write_text("\n".join(rows))
    return root


def test_scannet_splits_and_labels(scannet: Path, room: PointCloud) -> None:
    data = open_one(f"scannet:{scannet}", DataOptions("scannet20", split="val"))
    assert [data.name(i) for i in range(len(data))] == [SCENES[2]]
    cloud = data[0]
    np.testing.assert_array_equal(cloud.xyz, room.xyz[2:])
    assert set(cloud.fields) == {"rgb", "label"}
    expected = label_map("simulation", "scannet20")[room.fields["label"][2:]]
    np.testing.assert_array_equal(cloud.fields["label"], expected)
    assert len(np.unique(expected)) > 4
    assert len(ScanNetClouds(scannet, "scannet20")) == 3
    assert len(ScanNetClouds(scannet / "scans", "scannet20", "train")) == 2
    own_list = scannet / "few.txt"
    own_list.write_text(SCENES[1])
    assert len(ScanNetClouds(scannet, None, str(own_list))) == 1
    assert "label" not in ScanNetClouds(scannet, None)[0].fields


def test_scannet_labels_from_segments_are_the_same(scannet: Path) -> None:
    given = ScanNetClouds(scannet, "room9")[0].fields["label"]
    (scannet / "scans" / SCENES[0] / f"{SCENES[0]}_vh_clean_2.labels.ply").unlink()
    np.testing.assert_array_equal(ScanNetClouds(scannet, "room9")[0].fields["label"], given)


def test_scannet_categories_that_nobody_knows(scannet: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = scannet / "scans" / SCENES[0]
    (folder / f"{SCENES[0]}_vh_clean_2.labels.ply").unlink()
    file = folder / f"{SCENES[0]}.aggregation.json"
    groups = json.loads(file.read_text())
    floor = [g for g in groups["segGroups"] if g["label"] == "floor"]
    for group in floor:
        group["label"] = "lava"
    file.write_text(json.dumps(groups))
    data = ScanNetClouds(scannet, "scannet20")
    assert floor
    assert 1 not in data[0].fields["label"]
    assert len(data[0].fields["label"]) == len(data[0])
    assert caplog.text.count("scene0000_00: unknown categories lava") == 1
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"aggregation\.json' cannot be read: KeyError"):
        data[0]


def test_scannet_ids_that_nobody_knows(
    scannet: Path, caplog: pytest.LogCaptureFixture, room: PointCloud
) -> None:
    file = scannet / "scans" / SCENES[0] / f"{SCENES[0]}_vh_clean_2.labels.ply"
    ids = np.full(len(room), 2, np.uint16)
    ids[:3] = (50, 149, 50)  # such ids are in a few published scenes
    write_cloud(file, room.with_fields(label=ids))
    data = ScanNetClouds(scannet, "scannet20")
    for _ in range(2):
        assert data[0].fields["label"][:4].tolist() == [UNLABELED] * 3 + [1]
    assert caplog.text.count("unknown label ids 50, 149; their 3 points count as unlabelled") == 1
    write_cloud(file, room.select(np.arange(5)))
    with pytest.raises(ValueError, match=rf"{SCENES[0]}: there are 5 labels for {len(room)} points"):
        data[0]
    write_cloud(file, PointCloud(room.xyz))
    with pytest.raises(ValueError, match="has no property 'label'"):
        data[0]


def test_scannet_names_all_missing_files(scannet: Path) -> None:
    scans = scannet / "scans"
    (scans / SCENES[0] / f"{SCENES[0]}_vh_clean_2.ply").unlink()
    for end in ("_vh_clean_2.labels.ply", ".aggregation.json", "_vh_clean_2.0.010000.segs.json"):
        (scans / SCENES[1] / f"{SCENES[1]}{end}").unlink()  # a scene without labels
    (scans / SCENES[2] / f"{SCENES[2]}_vh_clean_2.labels.ply").unlink()
    (scannet / "scannetv2-labels.combined.tsv").unlink()
    with pytest.raises(FileNotFoundError) as error:
        ScanNetClouds(scannet, "scannet20")
    first, *lines = str(error.value).splitlines()
    assert first == f"'{scannet}' lacks 3 file(s):"
    assert [line.strip() for line in lines] == [
        f"scans/{SCENES[0]}/{SCENES[0]}_vh_clean_2.ply",
        f"scans/{SCENES[1]}/{SCENES[1]}_vh_clean_2.labels.ply",
        "scannetv2-labels.combined.tsv",
    ]
    shutil.rmtree(scans / SCENES[2])
    with pytest.raises(FileNotFoundError, match=r"lacks 2 file"):
        ScanNetClouds(scannet, "scannet20", "val")
    assert len(ScanNetClouds(scans, None, str(_list(scannet, SCENES[1])))) == 1


def _list(root: Path, *names: str) -> Path:
    (root / "list.txt").write_text("\n".join(names))
    return root / "list.txt"


def test_scannet_lists_and_scenes_that_are_not_there(scannet: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no 'scannetv2_dev\.txt' in or beside"):
        ScanNetClouds(scannet, "scannet20", "dev")
    with pytest.raises(ValueError, match="has no scenes"):
        ScanNetClouds(tmp_path / "scannet" / "scans" / SCENES[0], "scannet20")


# --- S3DIS ----------------------------------------------------------------------------------------------


def write_room(folder: Path, objects: dict[str, str]) -> None:
    (folder / "Annotations").mkdir(parents=True)
    for name, text in objects.items():
        (folder / "Annotations" / f"{name}.txt").write_text(text, encoding="latin-1")


@pytest.fixture
def s3dis(tmp_path: Path) -> Path:
    """Two areas as published, one room with a damaged line like that of Area_5/hallway_6."""
    root = tmp_path / "data" / "Stanford3dDataset_v1.2_Aligned_Version"
    write_room(
        root / "Area_1" / "office_1", {"floor_1": "0 0 0 1 2 3\n1 0 0 1 2 3\n", "stairs_1": "0 1 1 9 9 9\n"}
    )
    write_room(
        root / "Area_5" / "hallway_6",
        {"ceiling_1": "0 0 3 1 2 3\n1 0 3 185\x10187 4\n", "beam_1": "2 2 2 0 0 0"},
    )
    (root / "Area_5" / "Area_5_alignmentAngle.txt").write_text("## x\n")
    return root.parent


def test_s3dis_as_published(s3dis: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = DataOptions("s3dis13", cache_dir=str(tmp_path / "cache"))
    data = open_one(f"s3dis:{s3dis}", options)
    assert [data.name(i) for i in range(len(data))] == ["Area_1/office_1", "Area_5/hallway_6"]
    assert data[0].fields["label"].tolist() == [1, 1, 12]
    for _ in range(2):
        hall = data[1]
    assert hall.fields["label"].tolist() == [3, 0, 0]
    assert hall.fields["rgb"].tolist() == [[0, 0, 0], [1, 2, 3], [185, 187, 4]]
    assert caplog.text.count("1 damaged lines repaired, 0 left out") == 1
    assert len(list((tmp_path / "cache" / "s3dis").glob("*.npz"))) == 2
    five = S3DISClouds(s3dis, "s3dis13", ("5",), str(tmp_path / "cache"))
    assert [five.name(i) for i in range(len(five))] == ["Area_5/hallway_6"]
    write_room(
        s3dis / "Stanford3dDataset_v1.2_Aligned_Version/Area_5/a",
        {"wall_1": "0 0 0 1 1 1", "lava_1": "0 0 0 1 1 1"},
    )
    more = S3DISClouds(s3dis, "room9", ("Area_5",), str(tmp_path / "cache"))
    assert more[0].fields["label"].tolist() == [8, 1]
    assert "'lava' is no class of S3DIS" in caplog.text


def test_a_changed_room_is_read_again(s3dis: Path, tmp_path: Path) -> None:
    data = S3DISClouds(s3dis, "s3dis13", ("1",), str(tmp_path / "cache"))
    assert len(data[0]) == 3
    file = next(s3dis.rglob("floor_1.txt"))
    file.write_text("0 0 0 1 2 3\n")
    assert len(S3DISClouds(s3dis, "s3dis13", ("1",), str(tmp_path / "cache"))[0]) == 2


def test_s3dis_as_arrays(tmp_path: Path) -> None:
    xyz, rgb = np.eye(3, dtype=np.float32), np.full((3, 3), 200, np.uint8)
    room = tmp_path / "a" / "Area_2" / "storage_1"
    room.mkdir(parents=True)
    arrays = {"coord": xyz, "color": rgb, "normal": xyz, "segment": np.array([[4], [-1], [12]], np.int16)}
    for name, values in arrays.items():
        np.save(room / f"{name}.npy", values)
    cloud = S3DISClouds(tmp_path / "a", "s3dis13")[0]
    assert cloud.fields["label"].tolist() == [4, UNLABELED, 12]
    np.testing.assert_array_equal(cloud.fields["normal"], xyz)
    rows = np.concatenate([xyz, rgb, [[0], [2], [7]]], axis=1)
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "Area_4_lobby_2.npy", rows)
    np.save(tmp_path / "b" / "Area_6_office_9.npy", rows)
    data = S3DISClouds(tmp_path / "b", "s3dis13", ("4",))
    assert (len(data), data.name(0)) == (1, "Area_4/lobby_2")
    assert data[0].fields["label"].tolist() == [0, 2, 7]
    np.testing.assert_array_equal(data[0].fields["rgb"], rgb)
    (room / "segment.npy").unlink()
    (room / "color.npy").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks 2 .*\n  Area_2/storage_1/color\.npy\n  .*/segment\.npy"
    ):
        S3DISClouds(tmp_path / "a", "s3dis13")


def test_arrays_with_ids_that_nobody_knows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(
        tmp_path / "Area_1_hall_1.npy", np.array([[0, 0, 0, 9, 9, 9, 40], [1, 0, 0, 9, 9, 9, 1]], np.float64)
    )
    assert S3DISClouds(tmp_path, "s3dis13")[0].fields["label"].tolist() == [UNLABELED, 1]
    assert "Area_1/hall_1: unknown label ids 40; their 1 points count as unlabelled" in caplog.text


def test_s3dis_names_all_that_is_missing(s3dis: Path, tmp_path: Path) -> None:
    root = s3dis / "Stanford3dDataset_v1.2_Aligned_Version"
    (root / "Area_1" / "office_2").mkdir()
    (root / "Area_5" / "office_3" / "Annotations").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as error:
        S3DISClouds(s3dis, "s3dis13", ("1", "2", "5", "6"))
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        "Area_1/office_2/Annotations/*.txt",
        "Area_2: no room",
        "Area_5/office_3/Annotations/*.txt",
        "Area_6: no room",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no areas"):
        S3DISClouds(tmp_path / "empty", "s3dis13")


# --- folders of tiles -----------------------------------------------------------------------------------


@pytest.fixture
def tile_map(tmp_path: Path) -> Path:
    """Ids of a scanner's software to three classes of room9."""
    file = tmp_path / "tiles.yaml"
    file.write_text("floor: [2]\nwall: [3, 17]\nclutter: [5]\nunlabeled: [0, 1]\n")
    return file


@pytest.mark.parametrize("suffix", ["las", "laz", "ply"])
def test_tiles_with_classification_and_a_map(
    tmp_path: Path, tile_map: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    if suffix != "ply":
        pytest.importorskip("laspy")
        pytest.importorskip("lazrs")
    xyz = np.random.default_rng(0).uniform(0, 5, (6, 3)).astype(np.float32)
    tile = PointCloud(xyz, {"label": np.array([0, 2, 17, 5, 9, 3], np.uint8)})
    write_cloud(tmp_path / "tiles" / f"one.{suffix}", tile)
    data = open_one(f"folder:{tmp_path / 'tiles'}", DataOptions("room9", label_source=str(tile_map)))
    assert data[0].fields["label"].tolist() == [UNLABELED, 0, 1, 8, UNLABELED, 1]
    assert f"one.{suffix}: unknown label ids 9; their 1 points count as unlabelled" in caplog.text


def test_tiles_with_a_field_of_another_name(tmp_path: Path, tile_map: Path) -> None:
    xyz = np.zeros((2, 3), np.float32)
    fields = {"scalar_Classification": np.array([2.0, 5.0], np.float32), "sem": np.array([3, 3], np.int32)}
    write_cloud(tmp_path / "tiles" / "a.ply", PointCloud(xyz, fields))  # as CloudCompare names it
    folder = tmp_path / "tiles"
    options = DataOptions("room9", label_source=str(tile_map), label_field="classification")
    assert open_one(f"folder:{folder}", options)[0].fields["label"].tolist() == [0, 8]
    assert FolderClouds(folder, "room9", str(tile_map), "sem")[0].fields["label"].tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"has no field 'class'; its fields are \['classification', 'sem'\]"):
        FolderClouds(folder, "room9", str(tile_map), "class")[0]


def test_text_tiles_where_there_is_nothing_else(tmp_path: Path, tile_map: Path) -> None:
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "a.txt").write_text("x y z r g b label\n0 0 0 9 9 9 2\n1 0 0 9 9 9 17\n")
    (tmp_path / "tiles" / "b.csv").write_text("0,0,0,9,9,9,5\n")
    data = FolderClouds(tmp_path / "tiles", "room9", str(tile_map))
    assert [data[k].fields["label"].tolist() for k in range(len(data))] == [[0, 1], [8]]
    write_cloud(tmp_path / "tiles" / "c.npz", PointCloud(np.zeros((1, 3), np.float32)))
    assert [p.name for p in FolderClouds(tmp_path / "tiles", None).files] == ["c.npz"]


# --- real pieces ----------------------------------------------------------------------------------------


def real(folder: str) -> Path:
    root = os.environ.get("PC_PERCEPTION_DATA")
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(f"PC_PERCEPTION_DATA names no folder with {folder}")
    return Path(root) / folder


def test_real_scannet_in_the_official_layout(tmp_path: Path) -> None:
    pieces = real("scannet/mmdet3d_instance_data")
    prepared = FolderClouds(pieces, "scannet20", "nyu40")
    assert [len(prepared[k]) for k in range(len(prepared))] == [81_369, 80_583]
    ids = np.load(pieces / "scene0000_00_sem_label_all.npy")
    folder = tmp_path / "scans" / "scene0000_00"
    mesh = prepared[0]
    write_cloud(folder / "scene0000_00_vh_clean_2.ply", PointCloud(mesh.xyz, {"rgb": mesh.fields["rgb"]}))
    labelled = PointCloud(mesh.xyz, {"label": ids.astype(np.uint16)})
    write_cloud(folder / "scene0000_00_vh_clean_2.labels.ply", labelled)
    cloud = ScanNetClouds(tmp_path, "scannet20")[0]
    np.testing.assert_array_equal(cloud.fields["rgb"], mesh.fields["rgb"])
    np.testing.assert_array_equal(cloud.fields["label"], mesh.fields["label"])
    present = {int(v) for v in np.unique(cloud.fields["label"])} - {UNLABELED}
    assert {0, 1, 2, 3, 5} <= present  # wall, floor, cabinet, bed, sofa
    assert 4 not in present  # no chair


def test_real_table_of_categories() -> None:
    file = real("scannet/meta") / "scannetv2-labels.combined.tsv"
    categories = read_categories(file)
    assert (categories["wall"], categories["chair"], categories["office chair"]) == (1, 5, 5)
    with file.open(encoding="utf-8", newline="") as stream:
        assert len(categories) == len(list(csv.DictReader(stream, delimiter="\t")))
    assert set(categories.values()) <= set(range(41))


def test_real_s3dis(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = S3DISClouds(real("s3dis"), "s3dis13", ("3",), str(tmp_path))
    with caplog.at_level(logging.WARNING):
        cloud = data[0]
    assert (len(data), data.name(0), len(cloud)) == (1, "Area_3/hallway_3", 175_075)
    assert set(np.unique(cloud.fields["label"])) == {0, 1, 2, 6, 12}
    assert not caplog.records
    with pytest.raises(FileNotFoundError, match="Area_5: no room"):
        S3DISClouds(real("s3dis"), "s3dis13", ("5",), str(tmp_path))
