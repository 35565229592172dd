# SPDX-License-Identifier: Apache-2.0
"""Clusters and the ground plane in Triton against the reference."""

from math import pi

import pytest
import torch

from pc_perception.ops.clusters import euclidean_clusters
from pc_perception.ops.plane import ground_plane

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BOTH = ("triton", "torch")


def _cluster(xyz: torch.Tensor, distance: float, min_points: int = 1) -> list[int]:
    found, expected = (euclidean_clusters(xyz.to(DEVICE), distance, min_points, b).tolist() for b in BOTH)
    assert found == expected
    return found


@pytest.mark.parametrize("spread", [0.3, 2.0, 6.0])
@pytest.mark.parametrize("n", [1, 60, 200])
def test_components_are_the_reference_s(n: int, spread: float) -> None:
    xyz = torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) * spread
    for min_points in (1, 3):
        _cluster(xyz, 0.8, min_points)


def test_long_chains_in_any_order() -> None:
    line = torch.arange(100.0)[:, None] * torch.tensor([1.0, 0, 0])
    assert _cluster(line, 1.0) == [0] * 100  # steps of exactly the distance join
    assert _cluster(line, 0.999) == list(range(100))
    shuffled = line[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    assert _cluster(shuffled, 1.0) == [0] * 100
    assert _cluster(torch.cat([shuffled, shuffled.flip(0) + 1000]), 1.0) == [0] * 100 + [1] * 100


def test_points_that_are_none_or_all_the_same() -> None:
    row = torch.arange(20.0)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    xyz = torch.cat([row, torch.tensor([[torch.nan, 0.0, 0.0]]), row + 100, row[:2] + 50])
    assert _cluster(xyz.double(), 1.0, 3) == [0] * 20 + [-1] + [1] * 20 + [-1] * 2
    assert _cluster(xyz[:1].expand(100, 3), 0.1) == [0] * 100
    assert _cluster(xyz[:0], 0.1) == []
    assert _cluster(torch.full((3, 3), torch.inf), 0.1) == [-1] * 3
    wide = torch.randn(50, 5, generator=torch.Generator().manual_seed(1))
    _cluster(wide[:, 1:4], 0.7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [3, 130, 1500])
def test_the_plane_is_the_reference_s(n: int, dtype: torch.dtype) -> None:
    xyz = torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) * torch.tensor([9.0, 9.0, 0.1])
    xyz[::5, 2] += 2.0
    if n > 3:
        xyz[7] = torch.nan
    xyz = xyz.mT.contiguous().mT.to(DEVICE, dtype)
    found, expected = (ground_plane(xyz, 0.2, pi / 3, n_trials=33, backend=b) for b in BOTH)
    torch.testing.assert_close(found.normal, expected.normal)
    assert found.offset == pytest.approx(expected.offset)
    assert torch.equal(found.inliers, expected.inliers)


def test_counts_are_the_reference_s() -> None:
    from pc_perception.ops.plane import _count

    g = torch.Generator().manual_seed(0)
    points, normals = torch.randn(300, 3, generator=g).round().to(DEVICE), torch.eye(3, device=DEVICE)
    offsets = torch.tensor([0.0, 1.0, -0.5], device=DEVICE)
    counts = [_count(points, normals, offsets, 0.5, b).tolist() for b in BOTH]  # many at exactly the distance
    assert counts[0] == counts[1]
    assert _count(points[:0], normals, offsets, 0.5, "triton").tolist() == [0] * 3


def test_refuses_too_few_points() -> None:
    with pytest.raises(ValueError, match="three finite points"):
        ground_plane(torch.full((5, 3), torch.nan, device=DEVICE), backend="triton")
