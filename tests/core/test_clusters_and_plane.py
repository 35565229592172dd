# SPDX-License-Identifier: Apache-2.0
"""Clusters against components of the whole graph; the ground plane against planes that are known."""

from concurrent.futures import ThreadPoolExecutor
from math import pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops.clusters import euclidean_clusters
from pc_perception.ops.plane import ground_plane

BACKENDS = ["torch", "numba"]


def _by_search(xyz: torch.Tensor, distance: float, min_points: int) -> list[int]:
    near = torch.cdist(xyz.double(), xyz.double(), compute_mode="donot_use_mm_for_euclid_dist") <= distance
    labels, number = [-1] * len(xyz), 0
    seen: set[int] = set()
    for start in range(len(xyz)):
        todo, members = [start], set()
        while todo:
            i = todo.pop()
            if i not in members:
                members.add(i)
                todo += torch.nonzero(near[i])[:, 0].tolist()
        if start not in seen and len(members) >= min_points:
            for i in members:
                labels[i] = number
            number += 1
        seen |= members
    return labels


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 60), st.sampled_from([0.3, 1.0, 4.0]), st.integers(1, 4), st.integers(0, 99))
def test_clusters_match_a_search(n: int, spread: float, min_points: int, seed: int) -> None:
    xyz = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) * spread
    expected = _by_search(xyz, 0.7, min_points)
    for backend in BACKENDS:
        assert euclidean_clusters(xyz, 0.7, min_points, backend).tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_clusters_of_a_lattice_and_of_points_that_are_none(backend: str) -> None:
    row = torch.arange(20.0)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    xyz = torch.cat([row, torch.tensor([[torch.nan, 0.0, 0.0]]), row + 100, row[:2] + 50])
    labels = euclidean_clusters(xyz.double(), 1.0, 3, backend)  # steps of exactly the distance join
    assert labels.tolist() == [0] * 20 + [-1] + [1] * 20 + [-1] * 2
    assert euclidean_clusters(xyz, 0.999, 2, backend).tolist() == [-1] * len(xyz)
    assert euclidean_clusters(xyz[:1].expand(5, 3), 0.1, 1, backend).tolist() == [0] * 5
    assert len(euclidean_clusters(xyz[:0], 0.1, 1, backend)) == 0
    with pytest.raises(ValueError, match="must be positive"):
        euclidean_clusters(xyz, 0.0, 1, backend)


def _road(tilt: float, n: int = 2000) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    xyz = torch.rand(n, 3, generator=g, dtype=torch.float64) * torch.tensor([30.0, 30.0, 0.04])
    xyz[:, 2] += torch.tan(torch.tensor(tilt)) * xyz[:, 0] - 1.8
    return xyz


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plane_under_boxes_and_beside_a_wall(dtype: torch.dtype, backend: str) -> None:
    g = torch.Generator().manual_seed(1)
    wall = torch.rand(4000, 3, generator=g, dtype=torch.float64) * torch.tensor([30.0, 0.02, 8.0])
    nothing = torch.full((3, 3), torch.nan, dtype=torch.float64)
    xyz = torch.cat([_road(0.1), wall, nothing])
    plane = ground_plane(xyz.to(dtype), 0.1, backend=backend)
    slope = torch.tensor([-0.1, 0.0, 1.0], dtype=torch.float64)
    slope[0] = -torch.tan(torch.tensor(0.1))
    torch.testing.assert_close(plane.normal, slope / slope.norm(), atol=2e-3, rtol=0)
    assert plane.offset == pytest.approx(1.78 * float(plane.normal[2]), abs=0.02)
    assert bool(plane.inliers[:2000].all())
    assert int(plane.inliers[2000:].sum()) < 200
    # Far away in map coordinates, and with up along another axis.
    moved = ground_plane(xyz[:6000].flip(1) + 1e6, 0.1, up=(2.0, 0.0, 0.0), backend=backend)
    torch.testing.assert_close(moved.normal.flip(0), plane.normal, atol=2e-3, rtol=0)


def test_plane_backends_agree_and_the_seed_decides() -> None:
    xyz = torch.randn(500, 3, generator=torch.Generator().manual_seed(3))
    a, b = (ground_plane(xyz, 0.3, 1.0, seed=5, backend=backend) for backend in BACKENDS)
    torch.testing.assert_close(a.normal, b.normal, atol=1e-5, rtol=0)
    assert torch.equal(a.inliers, b.inliers)
    assert not torch.equal(a.normal, ground_plane(xyz, 0.3, 1.0, n_trials=1, seed=6).normal)


def test_plane_refuses_what_has_none() -> None:
    with pytest.raises(ValueError, match="three finite points"):
        ground_plane(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [torch.nan, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="no plane within"):
        ground_plane(torch.arange(30.0)[:, None].expand(30, 3))  # all on one line
    with pytest.raises(ValueError, match="no plane within"):
        ground_plane(_road(0.5), max_tilt=0.2)
    with pytest.raises(ValueError, match="must be positive"):
        ground_plane(_road(0.0), max_tilt=pi)


def test_concurrent_calls() -> None:
    xyz = torch.randn(800, 3, generator=torch.Generator().manual_seed(0))
    clusters, plane = euclidean_clusters(xyz, 0.2, 2, "torch"), ground_plane(xyz, backend="torch")

    def call(_: int) -> bool:
        same = torch.equal(ground_plane(xyz).inliers, plane.inliers)
        return same and torch.equal(euclidean_clusters(xyz, 0.2, 2), clusters)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(8)))
