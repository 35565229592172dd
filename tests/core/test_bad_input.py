# SPDX-License-Identifier: Apache-2.0
"""Inputs with damage or without points: one sentence, an exit code that tells, and nothing good is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.io.bags import BagReader, BagWriter
from pc_perception.io.files import read_cloud, write_cloud
from pc_perception.io.message_types import new_message
from pc_perception.labels import UNLABELED
from pc_perception.refusals import sentence
from tests.nodes import tiny_model

from .conftest import make_cloud

POINTS, NOTHING = "/points", "finite x, y and z"


def empty(n: int = 50, value: float = np.nan) -> PointCloud:
    return PointCloud(np.full((n, 3), value, np.float32), frame="lidar")


def write_bag(path: Path, clouds: list[PointCloud | None]) -> Path:
    """Write a recording; None is a message whose data is cut."""
    with BagWriter(path) as bag:
        for k, cloud in enumerate(clouds, start=1):
            if cloud is not None:
                bag.write_cloud(POINTS, PointCloud(cloud.xyz, cloud.fields, "lidar", k * 10**8), k * 10**8)
                continue
            cut = new_message("sensor_msgs/msg/PointCloud2")
            cut.height, cut.width, cut.point_step = 1, 10, 16
            bag.write(POINTS, "sensor_msgs/msg/PointCloud2", cut, k * 10**8)
    return path


def segment(capsys: pytest.CaptureFixture[str], path: Path, *more: object) -> tuple[int, dict, str]:
    """Return exit code, the last line's JSON and what went to stderr."""
    code = main(["segment", str(path), "--json", "--device", "cpu", *map(str, more)])
    printed = capsys.readouterr()
    return code, json.loads(printed.out.splitlines()[-1]), printed.err


def test_a_damaged_message_is_told_as_a_damaged_file_is(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds = [make_cloud(0, 300), None, make_cloud(1, 300), None, make_cloud(2, 300)]
    bag, folder = write_bag(tmp_path / "drive.mcap", clouds), tmp_path / "clouds"
    for k, cloud in enumerate(clouds):
        write_cloud(folder / f"{k}.pcd", cloud or make_cloud(k, 300))
        if cloud is None:
            (folder / f"{k}.pcd").write_bytes((folder / f"{k}.pcd").read_bytes()[:-9])
    for source, out, kind in ((bag, tmp_path / "l.mcap", "messages"), (folder, tmp_path / "l", "files")):
        code, report, err = segment(capsys, source, "--model", model_path, "--out", out)
        assert code == 1
        assert (report["clouds"], report["left_out"]) == (3, 2)
        assert f"2 of 5 {kind} were left out: " in err
    with BagReader(tmp_path / "l.mcap") as reader:
        assert len(list(reader.clouds("/segmentation"))) == 3
    assert len(list((tmp_path / "l").iterdir())) == 3


def test_classify_tells_of_damaged_messages_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model.write_objects(tmp_path / "objects.safetensors")
    bag = write_bag(tmp_path / "drive.mcap", [make_cloud(0, 300), None])
    for more in ([], ["--scene", "--segmenter", "none"]):
        assert main(["classify", str(bag), "--model", str(model), "--json", *more]) == 1
        printed = capsys.readouterr()
        assert len(printed.out.splitlines()) == 1
        assert "1 of 2 messages were left out" in printed.err


@pytest.mark.parametrize("cloud", [empty(), empty(value=np.inf), empty(0)], ids=["nan", "inf", "none"])
def test_a_cloud_without_a_finite_point_is_refused(
    tmp_path: Path, model_path: Path, cloud: PointCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_cloud(tmp_path / "a.npy", cloud), tmp_path / "out.npz"
    code, report, err = segment(capsys, path, "--model", model_path, "--out", out)
    assert (code, report["clouds"], report["empty"]) == (1, 1, 1)
    assert err.count("\n") == 1
    assert f"none of its {len(cloud)} points in 1 cloud(s) has {NOTHING}" in err
    assert (read_cloud(out).fields["label"] == UNLABELED).all()


def test_a_file_of_no_byte_is_refused(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "000000.bin").touch()
    code, _, err = segment(capsys, tmp_path / "000000.bin", "--model", model_path)
    assert code == 1
    assert NOTHING in err


def test_empty_clouds_among_others_are_told(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "drive.mcap", [empty(0), make_cloud(0, 300), empty()])
    code, report, err = segment(capsys, bag, "--model", model_path)
    assert (code, report["clouds"], report["empty"]) == (0, 3, 2)
    assert "2 of 3 clouds have no finite point" in err
    code, report, err = segment(capsys, write_bag(tmp_path / "b.mcap", [empty()] * 2), "--model", model_path)
    assert (code, report["empty"]) == (1, 2)
    assert NOTHING in err


def test_objects_without_a_finite_point_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model.write_objects(tmp_path / "objects.safetensors")
    path = write_cloud(tmp_path / "a.npz", empty())
    for more in ([], ["--scene", "--segmenter", "none"]):
        assert main(["classify", str(path), "--model", str(model), *more]) == 1
        assert NOTHING in capsys.readouterr().err


def test_the_first_cloud_with_points_chooses_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    room = PointCloud(rng.uniform(0, 4, (500, 3)), {"rgb": rng.integers(0, 255, (500, 3)).astype(np.uint8)})
    folder = tmp_path / "views"
    write_cloud(folder / "0.npz", empty())
    write_cloud(folder / "1.npz", room)
    code, report, err = segment(capsys, folder)
    assert (code, report["model"]) == (0, "room")
    assert "model 'room' for all clouds, by the first: a coloured cloud" in err
    assert "model 'room': a coloured cloud" in segment(capsys, folder / "1.npz")[2]


def test_recordings_below_a_folder_are_pointed_at(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in ("day1", "day2"):
        write_bag(tmp_path / "drives" / day / "a.mcap", [make_cloud(0, 300)])
    assert main(["segment", str(tmp_path / "drives"), "--model", str(model_path)]) == 1
    told = capsys.readouterr().err
    assert "holds no cloud files, but 2 recording(s), such as" in told
    assert "--jobs N and --out FOLDER" in told


def test_an_input_label_is_replaced(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = make_cloud(0, 300).with_fields(label=np.full(300, 77, np.uint16))
    path, out = write_cloud(tmp_path / "a.npz", cloud), tmp_path / "out.npz"
    assert segment(capsys, path, "--model", model_path, "--out", out)[0] == 0
    assert 77 not in read_cloud(out).fields["label"]


class Absent:
    """Finds no Open3D, as where it is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "open3d":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_an_absent_package_comes_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    monkeypatch.chdir(tmp_path)
    for command in (["simulate", "street", "a.mcap", "--count", "1"], ["demo", "--sweeps", "1"]):
        assert main(command) == 1
        told = capsys.readouterr().err
        assert "this needs open3d (simulate, demo, sim: data, " in told
        assert "not installed; type: pip install open3d" in told


def test_absent_packages_are_named_by_what_they_are_installed_as() -> None:
    told = sentence(ModuleNotFoundError("No module named 'mmengine.config'"))
    assert told == (
        "this needs mmengine-lite (training), not installed; type: "
        'pip install mmengine-lite "setuptools<81" tensorboard'
    )
    in_a_worker = "Caught ModuleNotFoundError in DataLoader worker process 0.\n...\nNo module named 'open3d'"
    assert "type: pip install open3d" in sentence(ModuleNotFoundError(in_a_worker))
    assert sentence(ModuleNotFoundError("No module named 'rclpy'")) == "No module named 'rclpy'"
