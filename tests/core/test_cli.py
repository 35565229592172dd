# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: results, one-sentence refusals, exit codes, nothing lost."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_model
from pc_perception.io.bags import BagReader, BagWriter
from pc_perception.io.files import read_cloud, write_cloud
from pc_perception.io.whole_files import whole_file
from pc_perception.labels import UNLABELED
from pc_perception.refusals import sentence

from .conftest import make_cloud


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Call the command; return its exit code and what it printed."""
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_file_gets_one_label_per_point_in_order(
    tmp_path: Path, model_path: Path, cloud: PointCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    xyz = cloud.xyz.copy()
    xyz[7] = np.nan
    write_cloud(tmp_path / "sweep.pcd", PointCloud(xyz, cloud.fields))
    out = tmp_path / "labels.npz"
    code, _, _ = run(capsys, "segment", tmp_path / "sweep.pcd", "--model", model_path, "--out", out)
    assert code == 0
    written = read_cloud(out)
    expected = load_model(model_path, "cpu")(PointCloud(xyz, cloud.fields))
    assert np.array_equal(written.fields["label"], expected.labels)
    assert np.array_equal(written.fields["confidence"], expected.confidence)
    assert written.fields["label"][7] == UNLABELED
    np.testing.assert_array_equal(written.xyz, xyz)


def test_json_is_the_last_line_and_complete(
    tmp_path: Path, model_path: Path, cloud: PointCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cloud(tmp_path / "sweep.pcd", cloud)
    code, out, _ = run(
        capsys, "segment", tmp_path / "sweep.pcd", "--model", model_path, "--json", "--device", "cpu"
    )
    assert code == 0
    report = json.loads(out.splitlines()[-1])
    expected = {"clouds", "points", "seconds", "latency_ms", "labels", "model", "device"}
    assert set(report) == expected
    assert (report["clouds"], report["points"], report["device"]) == (1, len(cloud), "cpu")
    assert set(report["latency_ms"]) == {"p50", "p99"}
    assert sum(report["labels"].values()) == len(cloud)


def test_a_bag_becomes_a_labelled_bag(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clouds = [make_cloud(i, 500 + i) for i in range(3)]
    with BagWriter(tmp_path / "drive.mcap") as bag:
        bag.write_transform("map", "lidar", np.eye(4), 1)
        for i, cloud in enumerate(clouds):
            bag.write_cloud("/points", PointCloud(cloud.xyz, cloud.fields, "lidar", 10**9 + i))
    out = tmp_path / "labelled.mcap"
    code, _, _ = run(capsys, "segment", tmp_path / "drive.mcap", "--model", model_path, "--out", out)
    assert code == 0
    model = load_model(model_path, "cpu")
    with BagReader(out) as reader:
        assert {"/segmentation", "/segmentation/label_info", "/segmentation/legend", "/tf"} <= set(
            reader.topics
        )
        labelled = list(reader.clouds("/segmentation"))
    assert [stamp for stamp, _ in labelled] == [10**9, 10**9 + 1, 10**9 + 2]
    for (_, found), cloud in zip(labelled, clouds, strict=True):
        assert np.array_equal(found.fields["label"], model(cloud).labels)
        assert found.frame == "lidar"


def test_a_damaged_file_of_a_folder_costs_itself_alone(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "clouds"
    for i in range(3):
        write_cloud(folder / f"{i}.pcd", make_cloud(i, 300))
    (folder / "1.pcd").write_bytes((folder / "1.pcd").read_bytes()[:-50])
    code, _, err = run(capsys, "segment", folder, "--model", model_path, "--out", tmp_path / "out")
    assert code == 1
    assert "1 of 3 files were left out" in err
    assert "1.pcd" in err
    for name in ("0", "2"):
        assert len(read_cloud(tmp_path / "out" / f"{name}.pcd.npz")) == 300


def test_pictures_are_written(
    tmp_path: Path, model_path: Path, cloud: PointCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cloud(tmp_path / "sweep.ply", cloud)
    picture, page = tmp_path / "p.png", tmp_path / "h.html"
    arguments = ("--model", model_path, "--picture", picture, "--html", page)
    assert run(capsys, "segment", tmp_path / "sweep.ply", *arguments)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "<html" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--out", "chairs", "--guidance", "nan"],
        ["serve", "--max-rate", "inf"],
        ["segment", "sweep.pcd", "--window", "inf"],
        ["classify", "sweep.pcd", "--scene", "--score-threshold", "half"],
    ],
)
def test_numbers_are_finite(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert f"'{arguments[-1]}' is no finite number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment", "absent.pcd"], "not there"),
        (["segment", "sweep.pcd", "--model", "absent"], "no model 'absent'"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--device", "cuda:9"], "device"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--topic", "/points"], "not a bag"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--out", "x.docx"], ".docx"),
        (["segment", "drive.mcap", "--model", "MODEL", "--topic", "/nowhere"], "/nowhere"),
        (["segment", "wrong.pcd", "--model", "MODEL"], "wrong.pcd"),
        (["segment", "no_xyz.npz", "--model", "MODEL"], "no_xyz.npz"),
        (["segment", "empty", "--model", "MODEL"], "no cloud files"),
        (["segment", "both", "--model", "MODEL"], "recordings and cloud files, such as 'a.npy'"),
        (["segment", "drive.mcap", "--model", "MODEL", "--columns", "4"], "--columns"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--out", "x.bin"], "not written to '.bin'"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--out", "sweep.pcd"], "what is read"),
        (["segment", "drive.mcap", "--model", "MODEL", "--out", "drive.mcap"], "what is read"),
        (["segment", "drive.mcap", "--model", "MODEL", "--out", "x.bag"], "gives an .mcap file or a folder"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--out", "wrong.pcd/x.npz"], "is a file, not a folder"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--picture", "empty"], "'empty' is a folder"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--picture", "p"], "ending in .png"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--html", "empty"], "'empty' is a folder"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--window", "9", "--overlap", "-1"], "not be negative"),
        (["segment", "sweep.pcd", "--model", "MODEL", "--overlap", "1"], "say --window"),
        (["segment", "empty", "--out", "x", "--jobs", "1", "--overlap", "1"], "say --window"),
        (["segment", "both/a.npy", "--model", "MODEL", "--columns", "a,b,c"], "x, y and z"),
        (["classify", "sweep.pcd", "--segmenter", "none"], "--segmenter belongs to --scene"),
        (["classify", "sweep.pcd", "--scene", "--fixed-frame", "odom"], "transforms of a bag"),
        (["classify", "drive.mcap", "--scene", "--fixed-frame", "odom"], "not among the frames"),
        (["classify", "sweep.pcd", "--scene", "--score-threshold", "3"], "0 .. 1"),
        (["generate", "--out", "wrong.pcd"], "is a file"),
        (["serve", "--period", "0"], "--period"),
        (["serve", "--max-rate", "-1"], "--max-rate"),
        (["serve", "--output", "/points"], "input and output"),
        (["simulate", "street", "x", "--seed", "-1"], "--seed"),
        (["simulate", "street", "wrong.pcd", "--format", "folder"], "is a file"),
        (["inspect", "sweep.pcd"], "safetensors"),
        (["simulate", "room", "x", "--format", "nuscenes"], "not as 'nuscenes'"),
        (["simulate", "street", "x", "--count", "0"], "at least 1"),
        (["demo", "--sweeps", "0"], "at least 1"),
    ],
)
def test_refusals_are_one_sentence(
    tmp_path: Path,
    model_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cloud("sweep.pcd", make_cloud(0, 100))
    with BagWriter("drive.mcap") as bag:
        bag.write_cloud("/points", PointCloud(np.zeros((1, 3), np.float32)))
    Path("wrong.pcd").write_bytes(os.urandom(300))
    np.savez("no_xyz.npz", a=np.zeros(3))
    Path("empty").mkdir()
    Path("both").mkdir()
    np.save("both/a.npy", np.zeros((4, 3)))
    shutil.copy("drive.mcap", "both")
    kept = {path: path.read_bytes() for path in (Path("sweep.pcd"), Path("drive.mcap"), Path("wrong.pcd"))}
    code, out, err = run(capsys, *[str(model_path) if a == "MODEL" else a for a in arguments])
    assert code == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err
    assert all(path.read_bytes() == content for path, content in kept.items())


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "a.npy", "--view", "99999"],
        ["classify", "a.npy", "--among", ","],
        ["inspect", "street", "--json", "--card"],
        ["serve"],
    ],
)
def test_wrong_words_are_refused_by_the_command_that_has_them(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "robot")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_another_command_does_without_the_robots_domain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "robot")
    assert run(capsys, "inspect", "street")[0] == 0


def test_a_refused_run_leaves_the_recording_of_the_last_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = tmp_path / "drive.mcap", tmp_path / "labelled.mcap"
    with BagWriter(bag) as writer:
        writer.write_cloud("/points", make_cloud(0, 100))
    out.write_bytes(b"hours of work")
    for command in (["segment", "--model"], ["classify", "--scene", "--model"]):
        assert run(capsys, *command, "absent", bag, "--out", out)[0] == 1
        assert out.read_bytes() == b"hours of work"


def test_labels_in_the_folder_of_the_clouds_are_not_labelled_again(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cloud(tmp_path / "a.pcd", make_cloud(0, 300))
    for _ in range(2):
        arguments = ("--model", model_path, "--out", tmp_path / "labelled", "--json")
        code, out, _ = run(capsys, "segment", tmp_path, *arguments)
        assert (code, json.loads(out.splitlines()[-1])["clouds"]) == (0, 1)


def test_columns_may_be_named(tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloud = make_cloud(0, 300)
    rest = np.stack([cloud.fields["intensity"]] * 5, axis=1)
    np.save(tmp_path / "eight.npy", np.concatenate([cloud.xyz, rest], axis=1))
    out = tmp_path / "new" / "eight.label"
    arguments = ("--columns", "x,y,z,_,_,_,_,intensity", "--model", model_path, "--out", out)
    assert run(capsys, "segment", tmp_path / "eight.npy", *arguments)[0] == 0
    assert np.array_equal(np.fromfile(out, "<u4"), load_model(model_path, "cpu")(cloud).labels)


def test_a_file_that_fails_half_written_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"before")

    def write() -> None:
        with whole_file(tmp_path / "a.png") as partial:
            partial.write_bytes(b"half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"before"


def test_errors_of_the_system_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent") as found:
        (tmp_path / "absent").read_bytes()
    assert sentence(found.value) == f"there is no '{tmp_path / 'absent'}'"


def test_a_cut_bag_keeps_what_was_read(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "drive.mcap"
    with BagWriter(whole) as bag:
        for i in range(40):
            bag.write_cloud("/points", PointCloud(make_cloud(i, 5000).xyz, {}, "lidar", 10**9 + i))
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole.read_bytes()[: int(0.7 * whole.stat().st_size)])
    out = tmp_path / "labelled.mcap"
    code, printed, err = run(capsys, "segment", cut, "--model", model_path, "--out", out, "--json")
    assert code == 1
    assert json.loads(printed.splitlines()[-1])["cut_off"] is True
    assert "pc-perception:" in err
    with BagReader(out) as reader:
        assert 10 < len(list(reader.clouds("/segmentation"))) < 40


def test_inspect_and_doctor_speak(model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", model_path, "--json")
    assert code == 0
    assert json.loads(out)["provenance"]["method"] == "random"
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "torch" in out


def test_simulate_then_segment(tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / "drive.mcap"
    assert run(capsys, "simulate", "street", bag, "--count", "1")[0] == 0
    code, out, _ = run(capsys, "segment", bag, "--model", model_path, "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["clouds"] == 1


def test_demo_leaves_its_files(tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "demo", "--out", tmp_path, "--sweeps", "2", "--model", model_path)
    assert code == 0
    for words in ("points/s", "mIoU", "message to message", "p99"):
        assert words in out
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert (tmp_path / "demo.html").exists()
    with BagReader(tmp_path / "demo.mcap") as reader:
        assert {"/points", "/segmentation", "/tf", "/tf_static"} <= set(reader.topics)
        raw, labelled = list(reader.clouds("/points")), list(reader.clouds("/segmentation"))
    assert len(raw) == len(labelled) == 2
    assert "label" not in raw[0][1].fields
    assert len(raw[0][1]) == len(labelled[0][1])
