# SPDX-License-Identifier: Apache-2.0
"""The commands that a user types, in processes of their own: ``make loop`` and ``torchrun``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pc_perception.inference.model_file import read_model_file
from pc_perception.io.bags import BagReader
from training.loop import main as loop

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_train_one_model(street_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--module", "training.run", "street_sim", f"data=folder:{street_folder}", "threads=1"]
    command += ["max_steps=3", "survey=2", "checkpoint_steps=3", "progress=false", f"work_dir={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # `torchrun` looks up this machine's name; the processes meet on loopback whatever that leads to.
    environment |= {"GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    header, _ = read_model_file(tmp_path / "model.safetensors")
    assert header.provenance["steps"] == 3


def test_the_whole_loop_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--pretrain-steps", "2", "--tune-steps", "2", "--sweeps", "4", "--labelled", "2"]
    assert loop(["--out", str(tmp_path), *sizes]) == 0
    told = capsys.readouterr().out
    assert "fine-tuned from random weights" in told
    assert "fine-tuned from the pre-trained encoder" in told
    for name in ("tuned_from_random", "tuned_from_encoder"):
        with BagReader(tmp_path / f"{name}.mcap") as bag:
            clouds = [cloud for _, cloud in bag.clouds("/segmentation")]
        assert len(clouds) == 8
        assert all((np.asarray(cloud.fields["label"]) < 8).any() for cloud in clouds)
