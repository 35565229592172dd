# SPDX-License-Identifier: Apache-2.0
"""What ``pc-train`` and ``pc-evaluate`` say to wrong words: one sentence, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from pc_perception.io.files import write_cloud
from training.evaluate.command import main as evaluate
from training.run import main as train


@pytest.fixture
def clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one labelled cloud; beside it configs that are none."""
    monkeypatch.chdir(tmp_path)
    xyz = np.random.default_rng(0).uniform(-5, 5, (200, 3)).astype(np.float32)
    write_cloud("clouds/a.npz", PointCloud(xyz, {"label": np.zeros(200, np.uint16)}))
    Path("broken.py").write_text("x = 1\nrun = 1 / 0\n", encoding="utf-8")
    Path("notes.md").write_text("hello", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["broken.py"], "'broken.py' fails in line 2: ZeroDivisionError"),
        (["notes.md"], "'notes.md' is no config"),
        (["street_sim", "data=folder:clouds", "encoder.width=8"], "unexpected keyword argument 'width'"),
        (["street", "data=folder:clouds"], "data_shares= (nothing)"),
        (["street_sim", "data=folder:clouds", "work_dir=notes.md"], "'notes.md' is a file"),
    ],
)
def test_training_is_refused(
    clouds: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(words) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--threads", "-1"], "--threads"),
        (["--limit", "-1"], "--limit"),
        (["--out", "figures.json"], "--out is for models of classification"),
        (["--seeds", "0,1"], "--seeds is for models of classification"),
        (["--overlap", "1"], "say --window"),
    ],
)
def test_measuring_is_refused(
    clouds: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(["street", "--data", "folder:clouds", *words]) == 1
    assert told in capsys.readouterr().err


def test_labels_of_another_id_space_are_noticed(
    clouds: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    xyz = np.random.default_rng(1).uniform(-5, 5, (200, 3)).astype(np.float32)
    label = np.full(200, 40, np.uint16)  # road of SemanticKITTI; street8 ends at 7
    label[:9] = 1
    write_cloud("kitti/a.npz", PointCloud(xyz, {"label": label}))
    assert evaluate(["street", "--data", "folder:kitti"]) == 0
    assert "only 9 of 200 points have a label of the label set; check label_source" in caplog.text


def test_seeds_are_numbers(clouds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["objects", "--data", "sim:objects", "--seeds", "x"]) == 1
    assert "--seeds must be whole numbers" in capsys.readouterr().err


def test_what_takes_long_to_import_is_imported_where_an_interrupt_is_told() -> None:
    code = "import sys, training.run, training.evaluate; print({'numpy', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_interrupt_is_no_traceback(
    clouds: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.settings.read_config", interrupted)
    monkeypatch.setattr("pc_perception.inference.model_file.read_model_file", interrupted)
    assert train(["street_sim"]) == evaluate(["street", "--data", "folder:clouds"]) == 130
    assert "interrupted" in capsys.readouterr().err
