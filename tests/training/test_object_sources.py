# SPDX-License-Identifier: Apache-2.0
"""Objects from the simulator, cut out of labelled clouds and recordings, and the real ones where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.io.files import write_cloud
from pc_perception.labels import load_label_set
from training.data.cut_objects import Cutting, _instance, cut
from training.data.dataset import Picker
from training.data.object_specs import SIM_MOST
from training.data.objects import ObjectDataset, class_counts
from training.data.simulated_objects import CLASSES, N_POINTS, simulated_object
from training.data.specs import DataOptions, open_data, open_one
from training.evaluate.features import shape_statistics
from training.evaluate.objects import ProbeSettings, probe_objects
from training.evaluate.results import summarise, table
from training.object_views import MODELNET40

STREET = load_label_set("street8")
VEHICLE, PERSON, BUILDING = (STREET.classes.index(c) for c in ("vehicle", "person", "building"))


def blob(center: tuple[float, float, float], n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, 3)) + center


def scene(seed: int = 0, nan: bool = False) -> PointCloud:
    """Two vehicles, a person between them, a small heap of vehicle points, a wall."""
    parts = [blob((0, 0, 0), 200, seed), blob((5, 0, 0), 150, seed), blob((2.5, 0, 0), 80, seed)]
    parts += [blob((20, 0, 0), 20, seed), blob((0, 9, 0), 500, seed)]
    label = np.repeat([VEHICLE, VEHICLE, PERSON, VEHICLE, BUILDING], [len(p) for p in parts])
    xyz = np.concatenate(parts).astype(np.float32)
    if nan:
        xyz[::50] = np.nan
    order = np.random.default_rng(seed).permutation(len(xyz))
    return PointCloud(xyz[order], {"label": label[order].astype(np.uint16)})


def test_cutting_a_cloud() -> None:
    cloud = scene()
    found = list(cut(cloud, STREET, Cutting()))
    assert [(c, i, len(rows)) for c, i, rows in found if c == PERSON] == [(PERSON, 0, 80)]
    assert sorted(len(rows) for c, _, rows in found if c == VEHICLE) == [150, 200]
    for number, _, rows in found:
        assert (cloud.fields["label"][rows] == number).all()
        assert np.ptp(cloud.xyz[rows], axis=0).max() <= 1
    named = list(cut(cloud, STREET, Cutting(classes=("building",), min_points=10)))
    assert [len(rows) for _, _, rows in named] == [500]
    assert not list(cut(cloud, STREET, Cutting(max_extent_m=0.5)))
    assert {len(rows) for _, _, rows in cut(cloud, STREET, Cutting(min_points=10))} == {20, 80, 150, 200}


def test_cutting_by_instance_ids_and_around_nan() -> None:
    cloud = scene()
    one = cloud.with_fields(instance=np.where(cloud.fields["label"] == VEHICLE, 7, 0).astype(np.uint16))
    vehicles = [(i, len(rows)) for c, i, rows in cut(one, STREET, Cutting()) if c == VEHICLE]
    assert vehicles == [(7, 370)]
    bad = scene(nan=True)
    rows = np.concatenate([rows for _, _, rows in cut(bad, STREET, Cutting())])
    assert np.isfinite(bad.xyz[rows]).all()
    with pytest.raises(ValueError, match="no field 'label'"):
        list(cut(PointCloud(cloud.xyz), STREET, Cutting()))
    with pytest.raises(ValueError, match="no class 'cow'"):
        Cutting(classes=("cow",)).validate(STREET)
    with pytest.raises(ValueError, match="must be positive"):
        Cutting(distance_m=0).validate(STREET)


def test_instances_of_a_folder_are_cut_once(tmp_path: Path) -> None:
    (tmp_path / "clouds").mkdir()
    for k in range(3):
        write_cloud(tmp_path / "clouds" / f"{k}.npz", scene(k))
    options = DataOptions("street8", cache_dir=str(tmp_path / "cache"))
    data: ObjectDataset = open_one(f"instances:{tmp_path / 'clouds'}", options)
    assert {k: v for k, v in class_counts(data).items() if v} == {"vehicle": 6, "person": 3}
    assert len({data.instance(i) for i in range(9)}) == 9
    assert np.abs(data[0].xyz.min(0) + data[0].xyz.max(0)).max() < 1e-5
    (file,) = (tmp_path / "cache" / "objects").glob("*.npz")
    before = file.stat().st_mtime_ns
    assert len(open_one(f"instances:{tmp_path / 'clouds'}", options)) == 9
    assert file.stat().st_mtime_ns == before
    write_cloud(tmp_path / "clouds" / "3.npz", scene(3))
    assert len(open_one(f"instances:{tmp_path / 'clouds'}", options)) == 12


def test_instances_of_a_recording_stay_together(tmp_path: Path) -> None:
    from pc_perception.io.bags import BagWriter

    with BagWriter(tmp_path / "drive.mcap") as bag:
        for k in range(4):
            cloud = scene(k)
            bag.write_cloud("/points", PointCloud(cloud.xyz, cloud.fields, "lidar", k + 1))
    options = DataOptions("street8", cache_dir=str(tmp_path / "cache"))
    data: ObjectDataset = open_one(f"instances:{tmp_path / 'drive.mcap'}", options)
    assert len(data) == 12
    # A drive shows the same things again, so that all vehicles of nearby clouds count as one.
    assert {data.instance(i).partition("/")[2] for i in range(12)} == {"clouds 0 vehicle", "clouds 0 person"}


def test_instance_ids_of_a_recording_are_tracks() -> None:
    drive, single = Cutting(group=50), Cutting()
    assert (
        _instance("car", 7, 3, 0, drive)
        == _instance("car", 7, 90, 5, drive)
        != _instance("car", 8, 3, 0, drive)
    )
    assert (
        _instance("car", 0, 49, 0, drive)
        == _instance("car", 0, 0, 1, drive)
        != _instance("car", 0, 50, 0, drive)
    )
    assert _instance("car", 7, 3, 0, single) != _instance("car", 7, 4, 0, single)
    assert _instance("car", 0, 3, 0, single) != _instance("car", 0, 3, 1, single)
    streets = Cutting(group=50, tracks=False)
    assert _instance("car", 7, 3, 0, streets) == _instance("car", 7, 4, 0, streets)
    assert _instance("car", 7, 3, 0, streets) != _instance("car", 7, 90, 0, streets)


def test_masses_are_cut_where_ids_tell_them_apart() -> None:
    cloud = scene()
    label = cloud.fields["label"]
    assert BUILDING not in {c for c, _, _ in cut(cloud, STREET, Cutting())}
    ids = np.where(label == BUILDING, 1 + np.arange(len(cloud)) % 3, 0)
    found = [(c, i) for c, i, _ in cut(cloud.with_fields(instance=ids), STREET, Cutting())]
    assert [i for c, i in found if c == BUILDING] == [1, 2, 3]
    few = [c for c, _, _ in cut(cloud.with_fields(instance=ids), STREET, Cutting(most=2))]
    assert few.count(BUILDING) == 2


def test_objects_of_a_camera_stand_upright(tmp_path: Path) -> None:
    camera = scene()
    camera = PointCloud(
        camera.xyz * np.float32([1, 5, 1]), camera.fields, "camera_optical_frame"
    )  # y is down
    (tmp_path / "clouds").mkdir()
    write_cloud(tmp_path / "clouds" / "a.npz", camera)
    options = DataOptions("street8", cache_dir=str(tmp_path / "cache"))
    data = open_one(f"instances:{tmp_path / 'clouds'}", options)
    assert len(data) == 3
    for i in range(len(data)):
        assert np.ptp(data[i].xyz, axis=0).argmax() == 2


def test_instances_of_simulated_streets(tmp_path: Path) -> None:
    options = DataOptions("street8", n_scenes=1, per_scene=2, seed=5, cache_dir=str(tmp_path))
    data: ObjectDataset = open_one("instances:sim:drive:2", options)
    counts = class_counts(data)
    assert min(counts["vehicle"], counts["building"]) >= 1
    assert max(counts.values()) <= 4 * SIM_MOST
    things = [data.instance(i) for i in range(len(data))]
    assert len(set(things)) < len(things)  # both sweeps of a street show the same cars
    assert len({thing.partition("/")[2].split(" ")[1] for thing in things}) == 2
    with pytest.raises(ValueError, match="holds objects or blocks"):
        open_one("instances:sim:objects", options)
    with pytest.raises(ValueError, match="'many' is no number of scenes"):
        open_one("sim:street:many", options)


def test_clouds_without_objects_are_refused(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.npz", PointCloud(np.zeros((5, 3)), {"label": np.full(5, VEHICLE, np.uint16)}))
    with pytest.raises(ValueError, match="none of the 1 clouds has an object of at least 40 points"):
        open_one(f"instances:{tmp_path}", DataOptions("street8", cache_dir=str(tmp_path / "cache")))
    (tmp_path / "b").mkdir()
    write_cloud(tmp_path / "b" / "b.npz", PointCloud(np.ones((50, 3))))
    with pytest.raises(ValueError, match="1 of 1 samples cannot be used"):
        open_one(f"instances:{tmp_path / 'b'}", DataOptions("street8", cache_dir=str(tmp_path / "cache")))


@pytest.mark.parametrize("name", CLASSES)
def test_every_simulated_class_from_both_sides(name: str) -> None:
    seed = CLASSES.index(name)
    seen, all_over = simulated_object(seed, 0), simulated_object(seed, 1)
    assert len(all_over) == N_POINTS
    assert 64 <= len(seen) <= N_POINTS
    for cloud in (seen, all_over):
        assert np.isfinite(cloud.xyz).all()
        np.testing.assert_allclose(cloud.xyz.min(0), -cloud.xyz.max(0), atol=1e-4)
    # What the sensor sees lies on the shape: no larger than it, but for noise.
    assert (np.ptp(seen.xyz, axis=0) < np.ptp(all_over.xyz, axis=0) * 1.15 + 0.3).all()
    np.testing.assert_array_equal(seen.xyz, simulated_object(seed, 0).xyz)


def test_simulated_objects_are_kept_and_views_share_their_shape(tmp_path: Path) -> None:
    options = DataOptions(None, n_scenes=len(CLASSES), per_scene=2, seed=0, cache_dir=str(tmp_path))
    (data,) = open_data("sim:objects", options)
    assert class_counts(data) == dict.fromkeys(CLASSES, 2)
    assert data.instance(0) == data.instance(1) != data.instance(2)
    np.testing.assert_array_equal(data[5].xyz, simulated_object(2, 1).xyz)
    (file,) = (tmp_path / "simulation").rglob("*.npz")
    before = file.stat().st_mtime_ns
    open_data("sim:objects", options)
    assert file.stat().st_mtime_ns == before


def test_several_sources_have_the_same_classes(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "o.npz",
        points=np.random.default_rng(0).normal(size=(2, 99, 3)),
        label=[1, 0],
        classes=["fox", "car"],
    )
    options = DataOptions(None, n_scenes=3, per_scene=1, cache_dir=str(tmp_path / "cache"))
    real, simulated = open_data(f"objects:{tmp_path / 'o.npz'}, sim:objects", options)
    assert real.classes == simulated.classes == ("fox", "car", *(c for c in CLASSES if c != "car"))
    assert [real[0].category, simulated[0].category, simulated.label(1)] == [1, 1, 2]


def test_objects_are_clouds_for_the_training_stream(tmp_path: Path) -> None:
    options = DataOptions(None, n_scenes=4, per_scene=1, cache_dir=str(tmp_path))
    picker = Picker(open_data("sim:objects", options), (), seed=0)
    picked = [picker.joined[picker.pick(k)] for k in range(4)]
    assert sorted(cloud.category for cloud in picked) == [0, 1, 2, 3]
    for cloud in picked:
        assert MODELNET40(cloud, np.random.default_rng(0)).shape == (min(len(cloud), 1024), 3)


def real(folder: str) -> Path:
    root = os.environ.get("PC_PERCEPTION_DATA")
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(f"PC_PERCEPTION_DATA names no folder with {folder}")
    return Path(root) / folder


REAL = [
    ("pandaset_objects_dev", 585, 157, 0.70, 0.487),
    ("lidarnet_hdl32_dev", 435, 435, 0.85, 0.377),
    ("dales_objects_dev", 299, 299, 0.80, 0.201),
]


@pytest.mark.parametrize(("name", "n", "things", "least", "majority"), REAL)
def test_a_baseline_on_real_objects(name: str, n: int, things: int, least: float, majority: float) -> None:
    """Plain shape statistics and a linear SVM, split by instance: well above the commonest class."""
    file = real("objects/dev") / f"{name}.npz"
    data: ObjectDataset = open_one(f"objects:{file}", DataOptions(None, y_up=("lidarnet_*",)))
    assert (len(data), len({data.instance(i) for i in range(len(data))})) == (n, things)
    runs = probe_objects(shape_statistics, data, ProbeSettings(name, probes=("svm",), standardise=True))
    print(f"\n{name}: {class_counts(data)}\n{table(runs)}")
    assert summarise(runs)["svm 0.075"][0] > least > majority


def test_all_real_files_are_read() -> None:
    where = real("objects/dev")
    data: ObjectDataset = open_one(f"objects:{where}", DataOptions(None, y_up=("modelnet40_*", "lidarnet_*")))
    assert len(data) == 1674
    assert class_counts(data)["car"] == 503
    bottles = [i for i in range(len(data)) if data.classes[data.label(i)] == "bottle"]
    assert all(np.ptp(data[i].xyz, axis=0).argmax() == 2 for i in bottles)  # they stand upright


def test_real_s3dis_room(tmp_path: Path) -> None:
    options = DataOptions("s3dis13", areas=("3",), cache_dir=str(tmp_path))
    data = open_one(f"s3dis-blocks:{real('s3dis')}", options)
    assert len(data) == 175_075 // 2048
    block = data[0]
    assert len(block) == 2048
    assert block.xyz[:, 2].min() >= 0
    assert set(block.fields["label"].tolist()) <= set(range(13))
