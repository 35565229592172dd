# SPDX-License-Identifier: Apache-2.0
"""Many bags: each in a process of its own, resumed after an interruption, one bag's end not the others'."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pc_perception.cli import main
from pc_perception.commands import fleet as fleet_command
from pc_perception.commands.fleet_job import Job, Outcome, label_bag
from pc_perception.commands.fleet_plan import Manifest, Plan, find_bags, make_jobs
from pc_perception.inference.loading import load_model
from pc_perception.io.bags import BagReader, BagWriter
from pc_perception.io.message_types import new_message

from .conftest import make_cloud

WAIT_S = 300.0


def write_bag(path: Path, seed: int, count: int = 2, n: int = 300) -> Path:
    with BagWriter(path) as bag:
        for i in range(count):
            cloud = make_cloud(100 * seed + i, n)
            bag.write_cloud("/points", replace(cloud, stamp_ns=10**9 + i * 10**8))
    return path


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Two whole bags, one of them a folder, one cut in its middle, and one that is none."""
    folder = tmp_path / "fleet"
    write_bag(folder / "day1" / "a.mcap", 1)
    write_bag(folder / "day2" / "b", 2)
    whole = write_bag(folder / "cut.mcap", 3, count=4, n=30_000).read_bytes()
    (folder / "cut.mcap").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "junk.mcap").write_bytes(b"no recording" * 100)
    return folder


def wait(done: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < end, f"waited {WAIT_S:.0f} s for {what}"
        time.sleep(0.02)


def test_bags_are_found_and_outputs_left_out(fleet: Path) -> None:
    out = fleet / "labelled"
    write_bag(out / "day1" / "a.mcap", 1)
    found = [bag.relative_to(fleet).as_posix() for bag in find_bags(fleet, out)]
    assert sorted(found) == ["cut.mcap", "day1/a.mcap", "day2/b", "junk.mcap"]
    jobs = make_jobs(fleet, find_bags(fleet, out), out, Plan("street"), 2)
    assert sorted(job.name for job in jobs) == ["cut.mcap", "day1/a.mcap", "day2/b.mcap", "junk.mcap"]
    write_bag(fleet / "day2" / "b.mcap", 5)
    with pytest.raises(ValueError, match="two bags would be written to"):
        make_jobs(fleet, find_bags(fleet, out), out, Plan("street"), 2)


def test_bag_model_and_options_decide_what_is_finished(tmp_path: Path, model_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    write_bag(folder / "a.mcap", 1)

    def job(plan: Plan) -> Job:
        return make_jobs(folder, find_bags(folder, out), out, plan, 1)[0]

    plan = Plan(str(model_path))
    first = job(plan)
    out.mkdir()
    Manifest(out).record(first, Outcome("done", clouds=2))
    assert not Manifest(out).is_finished(first)  # the output is not there
    (out / "a.mcap").write_bytes(b"x")
    assert Manifest(out).is_finished(job(plan))
    assert not Manifest(out).is_finished(job(replace(plan, confidence_threshold=0.5)))
    assert not Manifest(out).is_finished(job(Plan("street")))
    changed = bytearray((folder / "a.mcap").read_bytes())
    changed[-100] ^= 1
    (folder / "a.mcap").write_bytes(changed)
    assert not Manifest(out).is_finished(job(plan))
    (out / "manifest.json").write_text("{]")
    with pytest.raises(ValueError, match="not a manifest"):
        Manifest(out)


def test_a_fleet_is_labelled_around_its_bad_bags_and_resumed(
    fleet: Path, tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["segment", str(fleet), "--jobs", "2", "--out", str(out), "--model", str(model_path)]
    assert main([*arguments, "--json"]) == 1
    captured = capsys.readouterr()
    outcomes = json.loads(captured.out.splitlines()[-1])
    status = {name: o["status"] for name, o in outcomes.items()}
    assert status == {
        "day1/a.mcap": "done",
        "day2/b.mcap": "done",
        "cut.mcap": "cut",
        "junk.mcap": "failed",
    }
    assert "2 of 4 bags" in captured.err
    assert 0 < outcomes["cut.mcap"]["clouds"] < 4
    assert "not an MCAP file" in outcomes["junk.mcap"]["error"]
    model = load_model(model_path, "cpu")
    with BagReader(out / "day1" / "a.mcap") as reader:
        labels = [cloud.fields["label"] for _, cloud in reader.clouds("/segmentation")]
    assert all(
        np.array_equal(found, model(make_cloud(100 + i, 300)).labels) for i, found in enumerate(labels)
    )
    assert sorted(p.name for p in out.rglob("*.mcap")) == ["a.mcap", "b.mcap", "cut.mcap"]

    (fleet / "junk.mcap").unlink()
    write_bag(fleet / "junk.mcap", 9)
    untouched = (out / "day1" / "a.mcap").stat().st_mtime_ns
    assert main(arguments) == 1  # the cut bag stays cut
    captured = capsys.readouterr()
    assert "4 bags, 3 finished before" in captured.err
    assert "1 cut, 3 done" in captured.out
    assert (out / "day1" / "a.mcap").stat().st_mtime_ns == untouched


def test_a_bag_with_damaged_messages_is_labelled_once(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    with BagWriter(folder / "a.mcap") as bag:
        bag.write_cloud("/points", replace(make_cloud(0, 300), stamp_ns=1))
        cut = new_message("sensor_msgs/msg/PointCloud2")
        cut.height, cut.width, cut.point_step = 1, 10, 16
        bag.write("/points", "sensor_msgs/msg/PointCloud2", cut, 2)
    arguments = [
        "segment",
        str(folder),
        "--jobs",
        "1",
        "--out",
        str(out),
        "--model",
        str(model_path),
        "--json",
    ]
    for finished in (0, 1):
        assert main(arguments) == 1
        captured = capsys.readouterr()
        outcome = json.loads(captured.out.splitlines()[-1])["a.mcap"]
        assert (outcome["status"], outcome["clouds"]) == ("gaps", 1)
        assert "1 of 2 messages were left out" in outcome["error"]
        assert f"1 bags, {finished} finished before" in captured.err
    assert [p.name for p in out.glob("*.mcap")] == ["a.mcap"]


def test_a_bag_that_kills_its_process_is_reported(tmp_path: Path, model_path: Path) -> None:
    bag = write_bag(tmp_path / "in" / "a.mcap", 1, count=400, n=2000)
    out = tmp_path / "out"
    job = make_jobs(bag.parent, [bag], out, Plan(str(model_path), "cpu"), 1)[0]
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(label_bag(job)))
    thread.start()
    wait(lambda: (out / "a.part.mcap").is_file(), "the first bytes of the output")
    child = next(c for c in psutil.Process().children(recursive=True) if str(bag) in c.cmdline())
    os.kill(child.pid, signal.SIGKILL)
    thread.join(WAIT_S)
    assert outcomes[0].status == "failed"
    assert "killed by SIGKILL" in outcomes[0].error
    assert not (out / "a.mcap").exists()


def test_a_killed_run_leaves_no_process_and_goes_on_where_it_was(tmp_path: Path, model_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    write_bag(folder / "a.mcap", 1)
    write_bag(folder / "b.mcap", 2, count=400, n=2000)
    command = [sys.executable, "-m", "pc_perception.cli", "segment", str(folder), "--jobs", "1"]
    command += ["--out", str(out), "--model", str(model_path), "--device", "cpu"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait(lambda: (out / "b.part.mcap").is_file(), "the second bag's beginning")
    children = psutil.Process(first.pid).children(recursive=True)
    assert children
    with pytest.raises(ValueError, match="another run writes"):
        fleet_command.run(folder, out, Plan(str(model_path)), 1)
    first.kill()
    first.wait(WAIT_S)
    wait(lambda: not any(c.is_running() for c in children), "the orphans' end")
    write_bag(tmp_path / "small.mcap", 2).replace(folder / "b.mcap")
    second = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert "2 bags, 1 finished before" in second.stderr
    assert "2 done" in second.stdout
    assert not list(out.glob("*.part.*"))


def test_a_cluster_does_the_same(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    folder, out = tmp_path / "in", tmp_path / "out"
    write_bag(folder / "a.mcap", 1)
    (folder / "junk.mcap").write_bytes(b"no recording" * 100)
    local = {"processes": False, "dashboard_address": None, "protocol": "tcp", "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **local) as cluster:
        arguments = ["--cluster", cluster.scheduler_address, "--out", str(out), "--model", str(model_path)]
        assert main(["segment", str(folder), *arguments]) == 1
    captured = capsys.readouterr()
    assert "1 done, 1 failed" in captured.out
    with BagReader(out / "a.mcap") as reader:
        assert len(list(reader.clouds("/segmentation"))) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FLEET", "--jobs", "2"], "--out"),
        (["FLEET", "--jobs", "0", "--out", "OUT"], "at least 1"),
        (["FLEET", "--jobs", "2", "--out", "OUT", "--view"], "--view"),
        (["FLEET", "--jobs", "2", "--out", "OUT", "--model", "absent"], "no model 'absent'"),
        (["FLEET/absent", "--jobs", "2", "--out", "OUT"], "not a folder"),
        (["OUT", "--jobs", "2", "--out", "OUT"], "no bag"),
    ],
)
def test_refusals(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bag(tmp_path / "fleet" / "a.mcap", 1)
    (tmp_path / "out").mkdir()
    named = [
        a.replace("FLEET", str(tmp_path / "fleet")).replace("OUT", str(tmp_path / "out")) for a in arguments
    ]
    assert main(["segment", *named]) == 1
    assert words in capsys.readouterr().err
