# SPDX-License-Identifier: Apache-2.0
"""Occupancy along rays: queries, pairs of queries and voxels, the decoder, losses by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.methods.occupancy import (
    BEHIND,
    FAR,
    FRONT,
    OccupancyDecoder,
    OccupancyPairs,
    draw_queries,
    occupancy_iou,
    occupancy_losses,
    pair_queries,
)


def wall(n: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.c_[np.full(n, 10.0), rng.uniform(-8, 8, n), rng.uniform(-2, 3, n)].astype(np.float32)


def test_queries() -> None:
    xyz = wall()
    q = draw_queries(xyz, 2048, np.random.default_rng(1))
    assert [int((q.kind == k).sum()) for k in (BEHIND, FRONT, FAR)] == [684, 682, 682]
    assert np.array_equal(q.full, q.kind == BEHIND)
    source = xyz[q.source]
    distance = np.linalg.norm(q.place - source, axis=1)
    assert distance[q.kind != FAR].max() <= 0.1 + 1e-5
    assert distance[q.kind == FAR].max() > 5
    # Free before the wall at x = 10, full behind it.
    assert (q.place[q.full == 0][:, 0] <= 10 + 1e-5).all()
    assert (q.place[q.full == 1][:, 0] >= 10 - 1e-5).all()
    # On the ray, on the return's side of the sensor.
    along = (q.place * source).sum(1) / np.linalg.norm(source, axis=1)
    assert (along >= 0).all()
    np.testing.assert_allclose(along, np.linalg.norm(q.place, axis=1), atol=1e-4)


def test_a_return_at_the_sensor_pushes_nothing_through_it() -> None:
    near = np.array([[0.03, 0, 0]], np.float32)
    q = draw_queries(near, 300, np.random.default_rng(0))
    assert q.place[:, 0].min() >= 0


def test_pairs_are_those_within_the_radius() -> None:
    xyz, rng = wall(500), np.random.default_rng(0)
    voxels = torch.from_numpy(xyz[::2] + np.float32(0.05))
    q = draw_queries(xyz, 90, rng)
    intensity = np.linspace(0, 1, 500, dtype=np.float32)
    pairs = pair_queries(q, intensity, voxels, 1.0, 10_000)
    distance = torch.cdist(torch.from_numpy(q.place).double(), voxels.double())
    row, voxel = (distance < 1.0).nonzero().unbind(1)
    found = sorted(zip(pairs.voxel.tolist(), pairs.offset[:, 1].tolist(), strict=True))
    offset = torch.from_numpy(q.place)[row] - voxels[voxel]
    expected = sorted(zip(voxel.tolist(), offset[:, 1].tolist(), strict=True))
    assert len(found) == len(expected) > 100
    np.testing.assert_allclose(found, expected, atol=1e-6)
    known = ~pairs.intensity.isnan()
    assert known.any()
    assert not known.all()
    assert (~known[pairs.full == 1]).sum() == 0
    assert pair_queries(q, None, voxels, 1.0, 4).intensity.isnan().all()
    counts = torch.bincount(row, minlength=90).clamp(max=4)
    assert len(pair_queries(q, None, voxels, 1.0, 4).voxel) == int(counts.sum())


def test_the_decoder_knows_relative_places_only() -> None:
    """Moving the scene and its queries together changes nothing."""
    xyz = wall(300)
    found = []
    for shift in (0.0, 64.0):  # whole powers of two: exact in float32
        q = draw_queries(xyz, 60, np.random.default_rng(3))
        voxels = torch.from_numpy(xyz[::3]) + shift
        moved = type(q)(q.place + np.float32(shift), q.full, q.kind, q.source)
        found.append(pair_queries(moved, None, voxels, 1.0, 32))
    assert torch.equal(found[0].voxel, found[1].voxel)
    torch.manual_seed(0)
    decoder, features = OccupancyDecoder(8), torch.randn(100, 8)
    logits = [decoder(features[p.voxel], p.offset)[0] for p in found]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)


def test_losses_by_hand() -> None:
    nan = float("nan")
    pairs = OccupancyPairs(
        torch.zeros(4, dtype=torch.int64),
        torch.zeros(4, 3),
        torch.tensor([1.0, 0, 1, 0]),
        torch.tensor([0.5, nan, 0.1, nan]),
    )
    bce, l1 = occupancy_losses(torch.zeros(4), torch.tensor([0.7, 9.0, 0.1, -9.0]), pairs)
    assert float(bce) == pytest.approx(np.log(2))
    assert float(l1) == pytest.approx(0.1)
    assert float(occupancy_iou(torch.tensor([1.0, 1, -1, -1]), pairs.full)) == pytest.approx(1 / 3)
    empty = OccupancyPairs(*(t[:0] for t in (pairs.voxel, pairs.offset, pairs.full, pairs.intensity)))
    assert [float(v) for v in occupancy_losses(torch.zeros(0), torch.zeros(0), empty)] == [0, 0]
