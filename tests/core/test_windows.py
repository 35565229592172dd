# SPDX-License-Identifier: Apache-2.0
"""Scenes in windows: against the whole scene, and against the nearest centre found the long way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pc_perception.cli import main
from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import Segmenter
from pc_perception.inference.windows import WindowedSegmenter, Windows
from pc_perception.io.files import read_cloud, write_cloud
from pc_perception.labels import UNLABELED

from .conftest import TINY, make_cloud, make_segmenter

LOCAL = ("offset", "height", "column", "intensity")


@pytest.fixture
def still() -> Segmenter:
    """A segmenter whose contract does not ask where the sensor was."""
    model = make_segmenter(TINY, LOCAL)
    model.contract = replace(model.contract, max_range_m=0.0)
    return model


def test_one_window_is_the_whole_scene(segmenter: Segmenter, cloud: PointCloud) -> None:
    whole = segmenter(cloud)
    windowed = WindowedSegmenter(segmenter, Windows(41.0, 3.0))(cloud)
    np.testing.assert_array_equal(windowed.labels, whole.labels)
    np.testing.assert_array_equal(windowed.confidence, whole.confidence)


def test_the_nearest_centre_decides(still: Segmenter, cloud: PointCloud) -> None:
    windows = Windows(18.0, 4.0)
    found = WindowedSegmenter(still, windows)(cloud)
    xy = cloud.xyz[:, :2].astype(np.float64)
    rows = [windows.along(low, high) for low, high in zip(xy.min(0), xy.max(0), strict=True)]
    axes = [[row.center(k) for k in range(int(row.n))] for row in rows]
    centers = np.array([(x, y) for x in axes[0] for y in axes[1]])
    assert len(centers) == 9
    nearest = np.linalg.norm(xy[:, None] - centers, axis=2).argmin(1)
    expected = np.full(len(cloud), UNLABELED, np.uint16)
    for k, center in enumerate(centers):
        inside = np.flatnonzero((np.abs(xy - center) <= 9.0).all(1))
        own = nearest[inside] == k
        expected[inside[own]] = still(cloud.select(inside)).labels[own]
    np.testing.assert_array_equal(found.labels, expected)
    whole = still(cloud).labels
    assert 0.5 < (found.labels == whole).mean() < 1.0  # it is cut, and random weights still agree mostly
    assert set(found.milliseconds) == {"prepare", "network", "finish"}


@pytest.mark.parametrize(
    ("size", "overlap"), [(18.0, 4.0), (10.0, 0.0), (7.3, 2.9), (39.9, 39.0), (100.0, 1.0)]
)
def test_windows_cover_the_scene_and_overlap(size: float, overlap: float) -> None:
    row = Windows(size, overlap).along(-20.0, 20.0)
    if row.n > 1:
        assert row.center(0) - size / 2 == pytest.approx(-20.0)
        assert row.center(row.n - 1) + size / 2 == pytest.approx(20.0)
        assert row.step <= size - overlap + 1e-9
    else:
        assert size >= 40.0


def test_every_point_gets_a_label_but_what_no_one_sees(segmenter: Segmenter, cloud: PointCloud) -> None:
    xyz = cloud.xyz.copy()
    xyz[5], xyz[6] = np.nan, (np.inf, 0, 0)
    xyz[7] = (9000.0, 1e30, 0.0)  # far out of the contract's 60 m, but not of the window around it
    found = WindowedSegmenter(segmenter, Windows(15.0))(replace(cloud, xyz=xyz))
    assert np.flatnonzero(found.labels == UNLABELED).tolist() == [5, 6]
    assert segmenter(replace(cloud, xyz=xyz)).labels[7] == UNLABELED
    nothing = PointCloud(np.full((3, 3), np.nan, np.float32))
    assert (WindowedSegmenter(segmenter, Windows(15.0))(nothing).labels == UNLABELED).all()
    assert len(WindowedSegmenter(segmenter, Windows(15.0))(cloud.select(np.arange(0))).labels) == 0


def test_a_scene_that_the_voxel_grid_cannot_hold(still: Segmenter) -> None:
    parts = [make_cloud(k, 500).xyz + np.float32([k * 1_000_000, 0, 0]) for k in range(3)]
    scene = PointCloud(np.concatenate(parts))
    with pytest.raises(ValueError, match="span"):
        still(scene)
    assert (WindowedSegmenter(still, Windows(50.0))(scene).labels < 8).all()


def test_windows_that_make_no_sense(still: Segmenter, segmenter: Segmenter) -> None:
    scene = PointCloud(np.float32([[0, 0, 0], [100, 0, 0]]))
    with pytest.raises(ValueError, match=r"range of 60\.0 m; use windows of at most 84 m"):
        WindowedSegmenter(segmenter, Windows(90.0))(scene)
    assert (WindowedSegmenter(segmenter, Windows(84.0))(scene).labels < 8).all()
    for size, overlap in ((2.0, 2.0), (-1.0, 0.0), (5.0, -1.0), (float("nan"), 0.0)):
        with pytest.raises(ValueError, match="larger than the overlap"):
            Windows(size, overlap)
    still.contract = replace(still.contract, level_camera=True)
    view = replace(make_cloud(0), frame="camera_optical_frame")
    with pytest.raises(ValueError, match="camera's view"):
        WindowedSegmenter(still, Windows(10.0))(view)


def test_the_command(model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cloud(tmp_path / "scene.npz", make_cloud(1))
    command = [
        "segment",
        str(tmp_path / "scene.npz"),
        "--model",
        str(model_path),
        "--device",
        "cpu",
        "--json",
    ]
    labels = []
    for k, extra in enumerate(([], ["--window", "50"], ["--window", "15", "--overlap", "3"])):
        assert main([*command, "--out", str(tmp_path / f"{k}.npz"), *extra]) == 0
        assert json.loads(capsys.readouterr().out)["points"] == 3000
        labels.append(read_cloud(tmp_path / f"{k}.npz").fields["label"])
    np.testing.assert_array_equal(labels[0], labels[1])
    assert (labels[0] != labels[2]).any()
    assert main([*command, "--window", "1"]) == 1
    assert "larger than the overlap" in capsys.readouterr().err
