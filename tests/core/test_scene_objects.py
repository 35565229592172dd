# SPDX-License-Identifier: Apache-2.0
"""``pc-perception classify --scene``: files and bags in, objects and tracks out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_classifier, load_segmenter
from pc_perception.inference.objects import SweepObjects
from pc_perception.io.bags import BagReader, BagWriter
from pc_perception.io.files import read_cloud, write_cloud
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.writers.bag import write_drive_bag
from tests.nodes import tiny_model

SWEEPS = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write_objects(tmp_path_factory.mktemp("m") / "objects.safetensors")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bag") / "drive.mcap"
    lidar = SpinningLidar(n_beams=32, n_azimuths=540)
    write_drive_bag(file, simulate_drive(70_002, SWEEPS, lidar=lidar, speed=6.0), with_labels=False)
    return file


def classify(path: Path, model: Path, *more: str) -> int:
    common = ["classify", str(path), "--scene", "--model", str(model), "--device", "cpu"]
    return main([*common, "--segmenter", "none", *more])


def test_a_bag_gives_tracks_as_json_and_as_a_bag(
    bag: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "objects.mcap"
    assert classify(bag, model, "--json", "--out", str(out)) == 0
    printed = capsys.readouterr()
    assert "tracked in 'map'" in printed.err
    scenes = [json.loads(line) for line in printed.out.splitlines()]
    assert len(scenes) == SWEEPS
    last = scenes[-1]
    assert last["frame"] == "lidar"
    followed = {o["id"] for o in last["objects"]} & {o["id"] for o in scenes[0]["objects"]}
    assert len(followed) >= 5
    confirmed = [o for o in last["objects"] if o["confirmed"]]
    assert confirmed
    assert all(o["velocity"] is not None for o in confirmed)
    # The same path as in the library.
    sweeps = SweepObjects(load_classifier(model, "cpu"))
    with BagReader(bag) as reader:
        poses, clouds = reader.transforms(), list(reader.clouds())
    found = [sweeps(c, poses.lookup("map", "lidar", c.stamp_ns)) for _, c in clouds][-1]
    assert [o["id"] for o in last["objects"]] == found.track_ids.tolist()
    np.testing.assert_allclose([o["center"] for o in last["objects"]], found.T_cloud_box[:, :3, 3], atol=1e-3)
    _check_bag(out, clouds, last["objects"], found.instance)


def _check_bag(out: Path, clouds: list, objects: list[dict], instance: np.ndarray) -> None:
    with BagReader(out) as reader:
        counts = {name: topic.count for name, topic in reader.topics.items()}
        assert {counts[n] for n in ("/objects", "/object_markers", "/instances")} == {SWEEPS}
        assert {"/tf", "/tf_static", "/objects/label_info", "/objects/legend"} <= set(counts)
        last = {topic.name: msg for topic, _, msg in reader.read(["/objects", "/object_markers"])}
        written = [cloud for _, cloud in reader.clouds("/instances")][-1]
    detections = last["/objects"].detections
    assert [d.id for d in detections] == [str(o["id"]) for o in objects]
    assert [d.results[0].hypothesis.class_id for d in detections] == [o["label"] for o in objects]
    assert [d.bbox.size.x for d in detections] == pytest.approx([o["size"][0] for o in objects], abs=1e-3)
    assert last["/objects"].header.frame_id == "lidar"
    markers = last["/object_markers"].markers
    assert len({(m.ns, m.id) for m in markers}) == len(markers) == 1 + 2 * len(objects)
    assert [m.text.split()[:2] for m in markers if m.text] == [[o["label"], str(o["id"])] for o in objects]
    np.testing.assert_array_equal(written.xyz, clouds[-1][1].xyz)
    np.testing.assert_array_equal(written.fields["instance"], instance)


def test_a_bag_without_transforms_is_tracked_in_the_sensors_frame(
    bag: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagReader(bag) as reader, BagWriter(tmp_path / "still.mcap") as writer:
        writer.write_cloud("/points", next(iter(reader.clouds()))[1])
    assert classify(tmp_path / "still.mcap", model, "--json") == 0
    assert "in the sensor's own frame: the bag has no transforms" in capsys.readouterr().err


def test_a_frame_that_was_named_must_be_there(
    bag: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(bag, model, "--fixed-frame", "nowhere") == 1
    assert (
        "'nowhere' is not among the frames of the bag's transforms: base_link, lidar, map"
        in capsys.readouterr().err
    )


def test_a_file_gives_a_cloud_with_instances(
    bag: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagReader(bag) as reader:
        _, cloud = next(iter(reader.clouds()))
    write_cloud(tmp_path / "sweep.npz", cloud)
    assert classify(tmp_path / "sweep.npz", model, "--out", str(tmp_path / "out.npz")) == 0
    assert "objects in" in capsys.readouterr().out
    found = read_cloud(tmp_path / "out.npz")
    np.testing.assert_array_equal(found.xyz, cloud.xyz)
    assert found.fields["instance"].max() > 3
    assert ((found.fields["label"] == 65535) | (found.fields["instance"] > 0)).all()


def test_the_model_that_suits_the_scene_decides_what_is_a_thing(
    bag: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagReader(bag) as reader:
        _, cloud = next(iter(reader.clouds()))
    write_cloud(tmp_path / "sweep.npz", cloud)
    common = [
        "classify",
        str(tmp_path / "sweep.npz"),
        "--scene",
        "--model",
        str(model),
        "--device",
        "cpu",
        "--json",
    ]
    assert main(common) == 0
    things = json.loads(capsys.readouterr().out)["objects"]
    sweeps = SweepObjects(load_classifier(model, "cpu"), load_segmenter("street", "cpu"))
    assert [o["center"] for o in things] == np.round(sweeps(cloud).T_cloud_box[:, :3, 3], 3).tolist()
    assert main([*common, "--segmenter", "none"]) == 0
    assert len(json.loads(capsys.readouterr().out)["objects"]) > len(things) > 0


def test_a_folder_holds_scenes_of_their_own(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scenes"
    write_cloud(folder / "empty.npz", PointCloud(np.zeros((0, 3))))
    rng = np.random.default_rng(0)
    cube = rng.uniform((4.5, -0.5, -1.8), (5.5, 0.5, -0.8), (80, 3))
    road = np.column_stack([rng.uniform(-20, 20, (2000, 2)), np.full(2000, -1.8)])
    for name in "ab":
        write_cloud(folder / f"{name}.npz", PointCloud(np.concatenate([road, cube])))
    assert classify(folder, model, "--json", "--out", str(tmp_path / "out")) == 0
    counts = {s["scene"]: len(s["objects"]) for s in map(json.loads, capsys.readouterr().out.splitlines())}
    assert counts == {"a.npz": 1, "b.npz": 1, "empty.npz": 0}
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--out", "labels.txt"], "gives an .mcap file"),
        (["--segmenter", "nothing"], "no model 'nothing'"),
        (["--topic", "/other"], "has no topic '/other'"),
    ],
)
def test_what_cannot_be_done_is_said(
    bag: Path, model: Path, more: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["classify", str(bag), "--scene", "--model", str(model), "--device", "cpu"]
    assert main([*common, *more]) == 1
    assert sentence in capsys.readouterr().err


def test_options_of_scenes_need_scene(bag: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(bag), "--model", str(model), "--fixed-frame", "map"]) == 1
    assert "--fixed-frame belongs to --scene" in capsys.readouterr().err
