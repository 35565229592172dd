# SPDX-License-Identifier: Apache-2.0
"""The benchmark's step on sweeps with pictures: its frames, its recipe, and its row at a small size."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import Place
from benchmarks.gpu_frames import FRAMES_A_SECOND, FramesRow, settings, task_of, write_frames
from pc_perception.inference.contract import InputContract
from training.data.dataset import Picker
from training.methods.cmcr import Cmcr
from training.stream import SampleStream


def test_the_small_row_trains() -> None:
    row = FramesRow(Place("cpu", tiny=True), 4)
    record = row.measure(1, np.random.default_rng(0))
    assert record["verdict"] == "not the row's size or device"
    assert record["loss"][-1] < record["loss"][0]  # type: ignore[index]
    assert record["frames_per_s"] == pytest.approx(2e3 / record["ours_ms"])  # type: ignore[operator]
    assert 0 < record["waiting"] < 1  # type: ignore[operator]
    assert record["target"] == 1e3 * 4 / FRAMES_A_SECOND


def test_frames_are_what_training_takes_and_reach_its_processes(tmp_path: Path) -> None:
    run, frames = settings(True, 4), write_frames(tmp_path, np.random.default_rng(0), tiny=True)
    kept = len(list((tmp_path / "cache").iterdir()))
    assert kept == 2 * 6 * len(frames)
    stream = SampleStream(Picker([frames], (), 0), run.method, task_of(run), 0)
    sample = pickle.loads(pickle.dumps(stream))[0]
    assert not sample.bad
    assert sample.rgb.shape == (6, 32, 64, 3)
    assert set(sample.pairs.picture.tolist()) == set(range(6))
    assert 6 * 100 < int(sample.segments.max()) < 6 * 150
    assert not sample.hidden.any()
    assert not len(sample.occupancy.voxel)  # no term asks for rays
    assert len(list((tmp_path / "cache").iterdir())) == kept


def test_the_recipe_is_of_the_published_size() -> None:
    run = settings(False, 16)
    how, contract = run.method, run.contract
    assert isinstance(how, Cmcr)
    assert isinstance(contract, InputContract)
    assert (run.batch_size, contract.grid_m, how.image_trunk) == (16, 0.1, "resnet50")
    assert (how.superpixel, how.nce, how.rec, how.occ, how.codebook) == (1.0, 0.0, 0.0, 0.0, False)
    assert (how.crop.height, how.crop.width, how.pixel_stride) == (224, 416, 1)
    n_parameters = sum(p.numel() for p in task_of(run).build_encoder().parameters())
    assert n_parameters == pytest.approx(37.9e6, rel=0.01)


def test_without_the_trunks_package_the_row_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    record = FramesRow(Place("cpu"), 4).measure(1, np.random.default_rng(0))
    assert record["ours_ms"] is None
    assert record["verdict"] == ">= 150 frames/s open"
    assert "needs transformers" in str(record["note"])
