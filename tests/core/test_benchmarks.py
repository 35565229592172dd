# SPDX-License-Identifier: Apache-2.0
"""The benchmark harness: its statistics, its files, and one small row of each table. Nothing here is timed."""

import importlib
import json
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth, harness, jobs, point_mge, point_mge_page, report
from benchmarks.__main__ import main
from pc_perception.inference.model_file import shipped_models

with warnings.catch_warnings():  # it warns of deprecations in torch while it is imported
    warnings.simplefilter("ignore")
    importlib.import_module("mmengine.model")


def test_ratio_and_interval_of_known_series():
    rng = np.random.default_rng(0)
    ratio, low, high = harness.ratio_with_interval(np.full(15, 6.0), np.full(15, 2.0), rng)
    assert ratio == low == high == 3.0
    ours, peer = rng.normal(1, 0.05, 50), rng.normal(4, 0.2, 50)
    ratio, low, high = harness.ratio_with_interval(peer, ours, rng)
    assert low < ratio < high
    assert low > 3.7
    assert high < 4.3


def test_the_fastest_peer_is_compared():
    series = {"ours": np.ones(5), "slow": np.full(5, 9.0), "fast": np.full(5, 2.0)}
    record = harness.compare(series, np.random.default_rng(0))
    assert (record["peer"], record["peer_ms"], record["ratio"]) == ("fast", 2.0, 2.0)
    assert harness.compare({"ours": np.ones(5)}, np.random.default_rng(0))["peer"] is None


def test_slope_of_a_power_law():
    sizes = np.array(growth.SIZES)
    assert growth.slope(sizes, 1e-6 * sizes**1.25) == pytest.approx(1.25)


def test_a_row_that_misses_by_its_lower_bound():
    record = {"row": "A0", "input": "x", "ours_ms": 2.0, "peer": "p", "peer_ms": 10.0, "floor_ms": 1.0}
    line = report.line(record | {"ratio": 5.0, "ratio_low": 4.0, "ratio_high": 6.0, "target": 5})
    assert line == "| A0 | x | 2 | p | 10 | 5.00 (4.00 .. 6.00) | >= 5 missed | 1 | 50 % |"


@pytest.mark.parametrize(
    "command",
    [
        ["ops", "--rows", "A13"],
        ["stream", "--rows", "A2", "--busy"],
        ["objects", "--rows", "O1"],
        ["gpu", "--device", "cpu", "--backend", "torch", "--tiny"],
    ],
)
def test_each_table_runs_and_writes_its_files(command, tmp_path):
    files = tmp_path / "a.json", tmp_path / "a.md"
    main([*command, "--rounds", "1", "--json", str(files[0]), "--markdown", str(files[1])])
    records = json.loads(files[0].read_text())
    needed = {"row", "input", "ours_ms", "peer", "peer_ms", "ratio", "ratio_low", "target", "floor_ms"}
    assert records
    assert all(needed <= record.keys() for record in records)
    assert len(files[1].read_text().splitlines()) == len(records) + 4
    assert any(record["busy"] for record in records) == ("--busy" in command)


def test_a_growth_row():
    operation = growth.OPERATIONS[1]
    draw = partial(growth.points, shuffled=True)
    row = growth.Growth(operation[0], "tiny", operation[1], draw, operation[2], (256, 512, 1024))
    record = row.measure(1, np.random.default_rng(0))
    assert len(record["steps"]) == 2
    assert "slope" in record["verdict"]


def test_an_unknown_row_is_an_error():
    with pytest.raises(SystemExit, match="Z9"):
        main(["ops", "--rows", "Z9"])


FIELDS = {"iou": 0.875, "iou_near": 0.75, "chamfer_l1": 0.01, "f_score": 0.5, "empty": 0, "n": 28}
FIELDS |= {"iou_by_class": {"chair": 0.875}, "same_shape": 0.25, "other_shape": 0.01}


def test_the_page_of_point_mge_says_what_is_missing(tmp_path: Path) -> None:
    planned = [job for stage in point_mge.stages() for job in stage]
    assert len({job.name for job in planned}) == len(planned)
    done = {"sixteen_s": 9.0, "completion_s": 0.7, "threads": 2}
    page = tmp_path / "page.md"
    scores = {"mmd": 0.5, "cov": 0.25, "one_nna": 0.75}
    sets = {name: scores | {"emd": {k: v / 5 for k, v in scores.items()}} for name in point_mge_page.SETS}
    results = [{"kind": "time", "arm": "", "seed": 0, "figures": done}]
    results += [{"kind": "generation", "arm": "any", "seed": seed, "figures": sets} for seed in range(3)]
    trained = {"iou": 0.75, "views": {"LiDAR": {"cube found": 0.125}}}
    results += [{"kind": "training", "arm": "", "seed": seed, "figures": trained} for seed in range(3)]
    results += [{"kind": "fields", "arm": "", "seed": 0, "figures": FIELDS}]
    point_mge_page.write_page(page, shipped_models()["shapes"], results, "`a command`, on a machine", 0.5)
    text = page.read_text()
    assert "Sixteen shapes meshed at 64^3: 9.0 s; one completion: 0.70 s" in text
    assert "Command: `a command`, on a machine." in text
    assert "| IoU | 0.750 ± 0.000 | 0.875 |" in text
    assert "| completion, LiDAR | 0.125 ± 0.000 | not measured |" in text
    assert "500 steps of 16" in text
    assert text.count("Not measured yet.") == 2
    means = " | ".join(f"{value:.3f} ± 0.000" for value in (0.5, 0.25, 0.75, 0.1, 0.05, 0.15))
    assert f"| generated, any class | {means} |" in text
    assert "28 shapes: IoU 0.875" in text


def test_a_job_is_done_once_and_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, kept = point_mge.Job("fields"), tmp_path / "runs" / "figures.json"
    open_call, closed_call = (jobs.Call(tmp_path, 1.0, time.time(), minutes) for minutes in (5, -1))
    assert jobs.do(job, kept, closed_call, lambda: {"iou": 0.5}) is None
    found = jobs.do(job, kept, open_call, lambda: {"iou": 0.5})
    assert found == {"kind": "fields", "arm": "", "seed": 0, "figures": {"iou": 0.5}}
    assert jobs.do(job, kept, closed_call, lambda: {"iou": 0.6}) == found
    assert jobs.do(job, kept, closed_call, lambda: {"iou": 0.6}, current=False) is None
    assert jobs.do(job, kept, open_call, lambda: {"iou": 0.6}, current=False)["figures"] == {"iou": 0.6}
    assert capsys.readouterr().err.count(f"{job.name}: 0 s") == 2


@pytest.mark.parametrize(
    ("rss_mb", "handles", "grows"),
    [
        (np.r_[np.linspace(300, 400, 20), np.full(80, 400.0)], np.full(100, 9), False),
        (np.linspace(300, 330, 100), np.full(100, 9), True),
        (np.full(100, 300.0), np.r_[np.full(80, 9), np.full(20, 10)], True),
    ],
)
def test_soak_tells_growth_from_filling_buffers(rss_mb: np.ndarray, handles: np.ndarray, grows: bool) -> None:
    from benchmarks.soak import Watch

    watch = Watch(1, rss_mb.tolist(), handles.tolist(), [12] * 100)
    assert watch.grown() == grows


def test_soak_spoils_a_message_and_leaves_the_next_one_whole(tmp_path: Path) -> None:
    pytest.importorskip("open3d", reason="the soak's sweeps are simulated with Open3D")
    from benchmarks.feeds import make_feed
    from pc_perception.io.pointcloud2 import cloud_from_msg

    feed = make_feed("serve", 200, tmp_path)
    assert feed.file is not None
    assert feed.file.is_file()
    with pytest.raises(ValueError, match="truncated"):
        cloud_from_msg(feed.messages(0, 10**9, spoilt=True)["points"])
    cloud = cloud_from_msg(feed.messages(0, 2 * 10**9, spoilt=False)["points"])
    assert (len(cloud), cloud.stamp_ns) == (200, 2 * 10**9)


def test_runs_of_different_scales_never_share_a_folder(tmp_path):
    def call(*arguments: str) -> jobs.Call:
        return jobs.Call.of(jobs.parser("", str(tmp_path / "work"), "page.md").parse_args(arguments))

    assert call("--scale", "0.5").scale == 0.5
    assert call("--scale", "0.5").work_dir == tmp_path / "work"
    with pytest.raises(SystemExit, match=r"holds runs at --scale 0\.5, not 1: give another"):
        call()
