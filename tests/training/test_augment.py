# SPDX-License-Identifier: Apache-2.0
"""Augmentations keep points, fields and labels together, and obey their seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pc_perception.cloud import PointCloud
from training.augment import Augmentation, bend, crop, leave_gaps, move, recolor, thin

STILL = Augmentation(max_points=0, thin=0, flip=0, scale=0, tilt_deg=0, jitter_m=0, full_turn=False)


def numbered(n: int = 3000, rgb: bool = False) -> PointCloud:
    """Points whose intensity, label and position all follow from their number."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-20, 20, (n, 3)).astype(np.float32)
    number = np.arange(n)
    fields = {
        "label": (number % 7).astype(np.uint16),
        "number": number.astype(np.int64),
        "ring": (number % 32).astype(np.uint16),
        "intensity": number.astype(np.float32),
    }
    if rgb:
        fields["rgb"] = rng.integers(0, 255, (n, 3), dtype=np.uint8)
    return PointCloud(xyz, fields)


@pytest.mark.parametrize("seed", range(6))
def test_labels_stay_with_their_points(seed: int) -> None:
    cloud = numbered()
    how = Augmentation(
        max_points=800, jitter_m=0.0, tilt_deg=0.0, scale=0.0, drop_intensity=0.0, thin=1.0, keep=0.5
    )
    out = how(cloud, np.random.default_rng(seed))
    number = out.fields["number"]
    np.testing.assert_array_equal(out.fields["label"], number % 7)
    np.testing.assert_array_equal(out.fields["ring"], number % 32)
    assert len(np.unique(number)) == len(out) == 800
    # Turns and mirrors keep height and horizontal distance of each point.
    before = cloud.xyz[number]
    np.testing.assert_allclose(out.xyz[:, 2], before[:, 2], atol=1e-5)
    np.testing.assert_allclose(np.hypot(*out.xyz[:, :2].T), np.hypot(*before[:, :2].T), rtol=1e-5)


def test_the_seed_decides() -> None:
    cloud, how = numbered(rgb=True), Augmentation(max_points=900)
    a, b, c = (how(cloud, np.random.default_rng(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(a.xyz, b.xyz)
    assert a.fields.keys() == b.fields.keys()
    assert len(a) != len(c) or not np.array_equal(a.xyz, c.xyz)


def test_all_off_changes_nothing_but_intensity() -> None:
    cloud = numbered(rgb=True)
    out = replace(STILL, drop_color=0, color=0)(cloud, np.random.default_rng(0))
    np.testing.assert_allclose(out.xyz, cloud.xyz, atol=1e-6)
    np.testing.assert_array_equal(out.fields["rgb"], cloud.fields["rgb"])


def test_points_that_are_not_finite_are_left_out() -> None:
    cloud = numbered()
    xyz = cloud.xyz.copy()
    xyz[::3] = np.nan
    out = Augmentation(max_points=0)(replace(cloud, xyz=xyz), np.random.default_rng(1))
    assert np.isfinite(out.xyz).all()
    assert not (out.fields["number"] % 3 == 0).any()


def test_a_sector_reaches_all_ranges_and_a_disc_does_not() -> None:
    cloud = numbered(20_000)
    sector = crop(cloud, Augmentation(max_points=2000, whole=0, sector=1), np.random.default_rng(2))
    turn = np.sort(np.arctan2(sector.xyz[:, 1], sector.xyz[:, 0]))
    gap = np.diff(turn, append=turn[0] + 2 * np.pi).max()
    assert 2 * np.pi - gap < 1.5
    assert np.hypot(*sector.xyz[:, :2].T).max() > 15
    disc = crop(cloud, Augmentation(max_points=2000, whole=0, sector=0), np.random.default_rng(2))
    assert np.ptp(disc.xyz[:, :2], axis=0).max() < 20
    assert len(sector) == len(disc) == 2000


def test_thinning_takes_whole_rings_or_a_share() -> None:
    how, cloud = Augmentation(thin=1.0, keep=0.25), numbered(64_000)
    kept = [thin(cloud, how, np.random.default_rng(s)) for s in range(12)]
    rings = {len(np.unique(c.fields["ring"])) for c in kept}
    assert min(rings) <= 16
    assert max(rings) == 32
    assert all(0.2 * len(cloud) < len(c) <= len(cloud) for c in kept)


def test_scale_and_mirror() -> None:
    xyz = numbered().xyz
    moved = move(xyz, replace(STILL, scale=0.1), np.random.default_rng(3))
    factor = np.linalg.norm(moved, axis=1) / np.linalg.norm(xyz, axis=1)
    assert np.ptp(factor) < 1e-4
    assert 0.9 <= factor[0] <= 1.1
    assert abs(factor[0] - 1) > 1e-3
    mirrored = move(xyz, replace(STILL, flip=1.0), np.random.default_rng(0))
    np.testing.assert_allclose(mirrored, xyz * [1, -1, 1], atol=1e-5)


def test_fields_go_missing_as_often_as_asked() -> None:
    cloud, how = numbered(100, rgb=True), Augmentation(drop_intensity=0.3, drop_color=0.6)
    outs = [recolor(cloud, how, np.random.default_rng(s)).fields for s in range(300)]
    assert 0.2 < np.mean(["intensity" not in f for f in outs]) < 0.4
    assert 0.5 < np.mean(["rgb" not in f for f in outs]) < 0.7


def test_intensity_keeps_its_order() -> None:
    cloud = numbered()
    values = recolor(cloud, Augmentation(drop_intensity=0), np.random.default_rng(0)).fields["intensity"]
    assert np.isfinite(values).all()
    assert values.min() >= 0
    assert np.corrcoef(np.argsort(np.argsort(values)), np.arange(len(values)))[0, 1] > 0.95


def test_values_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="thin"):
        Augmentation(thin=1.5).validate()
    with pytest.raises(ValueError, match="scale"):
        Augmentation(scale=1.0).validate()


def test_intensity_keeps_its_scale() -> None:
    """Contracts with ``intensity_255`` or ``intensity_raw`` depend on it."""
    cloud = numbered(256)
    tops = [
        recolor(cloud, Augmentation(drop_intensity=0), np.random.default_rng(s)).fields["intensity"].max()
        for s in range(9)
    ]
    assert 200 < min(tops) <= max(tops) < 400


def test_bending_is_slow_and_of_the_strength_asked_for() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-4, 4, (4000, 3)).astype(np.float32)
    near = xyz + np.float32(0.01)
    strengths, drifts = [], []
    for seed in range(40):
        moved, beside = (bend(p, 0.03, np.random.default_rng(seed)) - p for p in (xyz, near))
        strengths.append(np.square(moved).mean())
        drifts.append(np.abs(moved - beside).max())
    assert np.sqrt(np.mean(strengths)) == pytest.approx(0.03, rel=0.15)
    assert max(drifts) < 0.01  # 17 mm aside: never so steep that a surface folds
    assert np.array_equal(bend(xyz, 0.0, rng), xyz)


def test_gaps_are_whole_parts_and_leave_enough() -> None:
    side = np.arange(0, 6, 0.1, np.float32)
    floor = np.stack(np.meshgrid(side, side, [0.0, 2.5]), -1).reshape(-1, 3).astype(np.float32)
    cloud = PointCloud(floor, {"label": (floor[:, 2] > 1).astype(np.uint16)})
    always = Augmentation(gaps=1.0)
    shares = []
    for seed in range(60):
        left = leave_gaps(cloud, always, np.random.default_rng(seed))
        assert len(left) >= len(cloud) // 4
        assert np.array_equal(left.fields["label"], left.xyz[:, 2] > 1)
        shares.append([np.mean(left.fields["label"] == k) * len(left) / len(cloud) * 2 for k in (0, 1)])
    floor_share, ceiling_share = np.mean(shares, 0)
    assert 0.85 < floor_share < 1
    assert 0.5 < ceiling_share < 0.85
    assert leave_gaps(cloud, Augmentation(gaps=0.0), np.random.default_rng(0)) is cloud
