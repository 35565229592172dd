# SPDX-License-Identifier: Apache-2.0
"""What the sensor check tells and what it leaves untold, and how a live stream reports it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference import live_segmenter
from pc_perception.inference.live_segmenter import LiveSegmenter
from pc_perception.inference.loading import load_model
from pc_perception.inference.sensor_check import describe, findings, mismatches, pool
from pc_perception.inference.vitals import OK, WARN
from pc_perception.io.files import read_cloud
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from ros2_nodes.tables import SEGMENT_NODE
from tests.nodes import tiny_model

from .conftest import make_cloud

DATA = os.environ.get("PC_PERCEPTION_DATA")
N = 3000
SEEN = pool([describe(make_cloud(seed)) for seed in range(4)])


def drawn(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, N).astype(np.float32)


def mostly(value: float, share: float) -> NDArray[np.float32]:
    return np.where(np.arange(N) < share * N, np.float32(value), drawn())


def told(intensity: NDArray, *features: str) -> list[str]:
    return mismatches(make_cloud(5).with_fields(intensity=intensity), SEEN, features or ("intensity",))


@pytest.mark.parametrize(
    "intensity",
    [
        np.full(N, 200.0, np.float32),
        200 + np.random.default_rng(0).normal(0, 1, N).astype(np.float32),
        mostly(3.0, 0.85),
        1000 + drawn() / 20,
    ],
    ids=["constant", "noise", "mostly one", "offset"],
)
@pytest.mark.parametrize("feature", ["intensity", "intensity_255", "intensity_raw"])
def test_intensities_that_hardly_differ_are_told(intensity: NDArray, feature: str) -> None:
    (sentence,) = told(intensity, feature)
    assert "of the intensities are alike, they run from" in sentence
    assert "in training from" in sentence


@pytest.mark.parametrize("factor", [1e6, 1 / 255])
def test_the_scale_of_intensities_is_told_where_it_matters_alone(factor: float) -> None:
    scaled = np.float32(factor) * drawn()
    assert told(scaled) == []
    assert told(scaled, "height", "range") == []
    for feature in ("intensity_255", "intensity_raw"):
        assert told(drawn(), feature) == []
        (sentence,) = told(scaled, feature)
        assert "check their scale" in sentence


def test_models_that_read_no_intensity_miss_none() -> None:
    cloud = make_cloud(5)
    assert mismatches(PointCloud(cloud.xyz), SEEN, ("height", "shape")) == []
    assert list(findings(PointCloud(cloud.xyz), SEEN)) == ["intensity"]
    assert told(mostly(3.0, 0.4)) == []
    assert "zero or less" in told(-drawn())[0]


@pytest.mark.parametrize("seed", [*range(0, 60, 10), 379])  # 379: half of the intensities are alike
def test_simulated_drives_are_like_the_training(seed: int) -> None:
    contract = load_model("street", "cpu").contract
    frame = next(simulate_drive(seed, 1, SpinningLidar(16)))
    assert mismatches(frame.cloud, contract.seen, contract.features) == []


@pytest.mark.skipif(DATA is None, reason="PC_PERCEPTION_DATA does not name the folder of real data")
@pytest.mark.parametrize(
    "pattern", ["nuscenes/**/*LIDAR_TOP*.bin", "**/velodyne/*.bin", "**/mmdet3d_demo/*.bin"]
)
def test_real_sweeps_are_like_the_training(pattern: str) -> None:
    contract = load_model("street", "cpu").contract
    files = sorted(Path(DATA or "").glob(pattern))
    if not files:
        pytest.skip(f"no {pattern} in the folder of real data")
    for file in files:
        assert mismatches(read_cloud(file), contract.seen, contract.features) == [], file.name


class Silent:
    """A transport to nobody, which keeps what was logged."""

    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def test_what_no_longer_fits_is_logged_once_and_old_findings_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(live_segmenter.time, "monotonic", lambda: now[0])
    model = tiny_model.write(tmp_path / "tiny.safetensors", seen=SEEN)
    values = {p.name: p.default for p in SEGMENT_NODE} | {"model": str(model), "device": "cpu"}
    live = LiveSegmenter(transport := Silent(), values)  # type: ignore[arg-type]

    def said() -> tuple[int, str]:
        return live.reports()["sensor check"][:2]

    def check(cloud: PointCloud) -> list[str]:
        now[0] += 6.0
        transport.warned.clear()
        live.check_sensor(live.pipeline, cloud)
        return transport.warned

    assert said() == (OK, "no sweep was labelled yet")
    fits = make_cloud(5)
    assert check(fits) == []
    assert said() == (OK, "nothing unlike the training")
    few = fits.select(np.arange(900))
    assert ["finite points" in text for text in check(few)] == [True]
    assert check(few.select(np.arange(800))) == [], "the same quantity with another number"
    constant = few.with_fields(intensity=np.full(len(few), 7.0, np.float32))
    assert ["alike" in text for text in check(constant)] == [True]
    assert said()[0] == WARN
    now[0] += 30.0  # nothing but malformed messages since
    assert said() == (OK, "no sweep was labelled for 30 s")
    live.apply(values | {"sensor_check": False})
    assert said() == (OK, "off")
