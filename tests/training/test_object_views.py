# SPDX-License-Identifier: Apache-2.0
"""Views of objects: sizes, normalisation, what augmentation may and may not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pc_perception.cloud import PointCloud
from pc_perception.inference.object_contract import on_unit_sphere
from pc_perception.ops.sampling import farthest_point_sampling
from training.object_views import (
    MODELNET40,
    SCANOBJECTNN_TURNED,
    SHAPENETPART,
    ObjectView,
    fps_subset,
    scaled_and_shifted,
    turned,
)

XYZ = np.random.default_rng(3).normal(2, 1, (3000, 3)).astype(np.float32)
CLOUD = PointCloud(XYZ)


def test_unit_sphere() -> None:
    points = on_unit_sphere(XYZ)
    assert points is not None
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-6)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1)
    again = on_unit_sphere(7 * XYZ + 3)
    assert again is not None
    np.testing.assert_allclose(again, points, atol=1e-5)


def test_the_test_view_is_fps_from_the_first_point() -> None:
    points = MODELNET40(CLOUD)
    xyz = on_unit_sphere(XYZ)
    assert xyz is not None
    rows = farthest_point_sampling(torch.from_numpy(xyz), 1024).numpy()
    np.testing.assert_array_equal(points, xyz[rows])
    np.testing.assert_array_equal(points, MODELNET40(CLOUD))


def test_training_views_draw_from_the_fps_pool() -> None:
    xyz = on_unit_sphere(XYZ)
    assert xyz is not None
    pool = set(farthest_point_sampling(torch.from_numpy(xyz), 1200).tolist())
    drawn = [fps_subset(xyz, 1024, np.random.default_rng(k)) for k in range(2)]
    for rows in drawn:
        assert len(set(rows.tolist())) == 1024
        assert set(rows.tolist()) <= pool
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())
    np.testing.assert_array_equal(
        MODELNET40(CLOUD, np.random.default_rng(5)), MODELNET40(CLOUD, np.random.default_rng(5))
    )


def test_scale_and_shift_keep_within_their_ranges() -> None:
    ends = np.array([[-1, -1, -1], [1, 1, 1]], np.float32)
    drawn = np.stack([scaled_and_shifted(ends, np.random.default_rng(k)) for k in range(500)])
    scale, shift = np.ptp(drawn, axis=1) / 2, drawn.mean(1)
    assert 2 / 3 <= scale.min() < 0.7 < 1.4 < scale.max() <= 1.5
    assert -0.2 <= shift.min() < -0.18 < 0.18 < shift.max() <= 0.2 + 1e-6


def test_turning_keeps_height_and_distances() -> None:
    points = turned(XYZ, np.random.default_rng(0))
    np.testing.assert_array_equal(points[:, 2], XYZ[:, 2])
    np.testing.assert_allclose(
        np.linalg.norm(points[:9] - points[9:18], axis=1),
        np.linalg.norm(XYZ[:9] - XYZ[9:18], axis=1),
        rtol=1e-4,
    )
    assert np.linalg.det(np.linalg.lstsq(XYZ, points, rcond=None)[0]) == pytest.approx(1, abs=1e-3)
    view = SCANOBJECTNN_TURNED(CLOUD, np.random.default_rng(1))
    assert view.shape == (2048, 3)
    assert set(view[:, 2].tolist()) <= set(XYZ[:, 2].tolist())  # neither scaled nor moved


def test_rows_say_which_points_were_taken() -> None:
    bad_first = PointCloud(np.concatenate([np.full((1, 3), np.inf, np.float32), XYZ]))
    points, rows = ObjectView(100, pool=False, unit_sphere=False).with_rows(bad_first)
    np.testing.assert_array_equal(points, bad_first.xyz[rows])
    assert SHAPENETPART(CLOUD).shape == (2048, 3)
    np.testing.assert_array_equal(SHAPENETPART(CLOUD), SHAPENETPART(CLOUD))
