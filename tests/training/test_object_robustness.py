# SPDX-License-Identifier: Apache-2.0
"""Worsened objects, dense arrays and block scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pc_perception.cloud import PointCloud
from training.data.dense_objects import dense_objects
from training.data.objects import StoredObjects
from training.data.s3dis import S3DISClouds
from training.data.s3dis_blocks import S3DISBlocks
from training.evaluate.blocks import evaluate_blocks
from training.evaluate.features import describe_all, shape_statistics
from training.evaluate.probes import Probe, run_probe
from training.evaluate.robustness import LEVELS, Worsened
from training.object_views import ObjectView


def shapes(sizes: list[int], bad: int = -1) -> StoredObjects:
    rng = np.random.default_rng(0)
    xyz = np.concatenate([rng.normal(size=(n, 3)) for n in sizes]).astype(np.float32)
    ends = np.cumsum([0, *sizes])
    if bad >= 0:
        xyz[ends[bad] : ends[bad + 1]] = np.nan
    cloud = PointCloud(xyz, {"intensity": np.zeros(len(xyz), np.float32)})
    n = len(sizes)
    return StoredObjects(cloud, ends, np.arange(n) % 3, ("a", "b", "c"), [f"o{i}" for i in range(n)])


@pytest.mark.parametrize("kind", list(LEVELS))
def test_objects_get_worse_in_the_way_named(kind: str) -> None:
    data = shapes([400, 300])
    for level in LEVELS[kind][1]:
        worse = Worsened(data, kind, level)
        before, after = data[0], worse[0]
        assert (after.category, worse.label(1), worse.name(0)) == (0, 1, "o0")
        assert not after.fields
        np.testing.assert_array_equal(after.xyz, Worsened(data, kind, level)[0].xyz)
        middle, radius = before.xyz.mean(0), np.linalg.norm(before.xyz - before.xyz.mean(0), axis=1)
        if kind == "noise":
            assert np.std(after.xyz - before.xyz) / radius.max() == pytest.approx(level, rel=0.1)
        elif kind == "rotation":
            np.testing.assert_allclose(np.linalg.norm(after.xyz - middle, axis=1), radius, rtol=1e-4)
            R = np.linalg.lstsq(before.xyz - middle, after.xyz - middle, rcond=None)[0]
            assert np.rad2deg(np.arccos((np.trace(R) - 1) / 2)) == pytest.approx(level, rel=1e-3)
        elif kind == "scaling":
            factor = (after.xyz / before.xyz).mean(0)
            assert (factor >= 1 / level - 1e-4).all()
            assert (factor <= level + 1e-4).all()
        else:
            assert len(after) == max(round(400 * (1 - level)), 8)
            assert {tuple(p) for p in after.xyz} <= {tuple(p) for p in before.xyz}
    assert not np.array_equal(Worsened(data, kind, level, seed=1)[0].xyz, after.xyz)


def test_density_falls_to_one_side_and_dropout_does_not() -> None:
    data = shapes([4000])
    shift = {k: np.linalg.norm(Worsened(data, k, 0.75)[0].xyz.mean(0)) for k in ("density", "dropout")}
    assert shift["density"] > 0.4 > 0.2 > shift["dropout"]
    assert len(Worsened(shapes([5]), "dropout", 0.95)[0]) == 5
    with pytest.raises(ValueError, match="'fog'; there are noise"):
        Worsened(data, "fog", 1)


def stretched(n: int, prefix: str, seed: int) -> StoredObjects:
    """Objects of class k are 1 + 4k times as tall as wide."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % 3
    xyz = rng.normal(size=(n, 40, 3)) * np.stack([np.ones(n), np.ones(n), 1 + 4 * labels], 1)[:, None]
    cloud = PointCloud(xyz.reshape(-1, 3).astype(np.float32))
    names = [f"{prefix}{i}" for i in range(n)]
    return StoredObjects(cloud, np.arange(n + 1) * 40, labels, ("a", "b", "c"), names)


def test_a_probe_suffers_from_noise() -> None:
    """Fitted on clean objects, tested on the same test objects made worse."""
    train, test, view = stretched(60, "train", 0), stretched(90, "test", 1), ObjectView(32)
    fitted = describe_all(shape_statistics, train, view)
    scores = [
        run_probe(Probe(standardise=True), fitted, describe_all(shape_statistics, d, view)).accuracy
        for d in (test, Worsened(test, "noise", 0.5))
    ]
    assert scores[0] > scores[1] + 0.1


def test_dense_arrays_are_laid_out_once(tmp_path: Path) -> None:
    data = shapes([100, 10, 64, 3, *[20] * 200], bad=3)
    found = dense_objects(data, 64, str(tmp_path))
    assert found.points.shape == (203, 64, 3)
    assert found.rows.tolist()[:4] == [0, 1, 2, 4]
    assert found.labels.tolist()[:4] == [0, 1, 2, 1]
    assert found.bad == ("o3: 3 of 3 points are NaN or infinite; at most 1 % may be",)
    np.testing.assert_array_equal(found.points[2], data[2].xyz)
    np.testing.assert_array_equal(found.points[1][:10], data[1].xyz)
    assert len(np.unique(found.points[0], axis=0)) == 64
    (file,) = (tmp_path / "objects").glob("*.npy")
    before = file.stat().st_mtime_ns
    assert len(dense_objects(data, 64, str(tmp_path)).points) == 203
    assert file.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="samples cannot be used"):
        dense_objects(shapes([3], bad=0), 8, str(tmp_path))


def test_blocks_are_scored_by_their_points(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(0, 2, (9000, 2)), rng.choice([0.0, 1.0], 9000)]
    label = np.where(xyz[:, 2] > 0.5, 7, 1)
    np.save(tmp_path / "Area_5_office_1.npy", np.c_[xyz, np.zeros((9000, 3)), label].astype(np.float32))
    data = S3DISBlocks(S3DISClouds(tmp_path, "s3dis13"), "s3dis13", n_blocks=5)
    sizes = []

    def segment(points: Tensor) -> Tensor:
        sizes.append(len(points))
        out = torch.zeros(*points.shape[:2], 13)
        out[..., 1] = 0.5
        out[..., 7] = (points[..., 2] > 0.5) & (points[..., 0] > 0)  # half of the tables are missed
        return out

    confusion, bad = evaluate_blocks(segment, data, batch_size=2)
    assert (sizes, bad, confusion.matrix.sum()) == ([2, 2, 1], [], 5 * 2048)
    assert 0.4 < confusion.iou[7] < 0.6
    assert confusion.matrix[1, 1] == confusion.matrix[1].sum()
    with pytest.raises(ValueError, match="no classes"):
        evaluate_blocks(segment, S3DISBlocks(S3DISClouds(tmp_path, None), None))
