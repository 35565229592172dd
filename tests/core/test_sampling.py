# SPDX-License-Identifier: Apache-2.0
"""Farthest point sampling against the plain loop, index by index."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops.sampling import farthest_point_sampling

BACKENDS = ["torch", "numba"]


def brute_force(points: np.ndarray, m: int, start: int, skip_origin: bool) -> list[int]:
    """The definition, one point at a time in the points' own precision."""
    chosen = [start]
    allowed = [not (skip_origin and (p * p).cumsum()[-1] <= points.dtype.type(1e-3)) for p in points]
    nearest = np.where(allowed, np.inf, -1).astype(points.dtype)
    while len(chosen) < m:
        d = points - points[chosen[-1]]
        nearest = np.minimum(nearest, (d[:, 0] ** 2 + d[:, 1] ** 2) + d[:, 2] ** 2)
        chosen.append(int(np.argmax(nearest)))  # the first of equals
    return chosen


@st.composite
def clouds(draw: st.DrawFn) -> torch.Tensor:
    """Clouds with what is hard: lattices full of ties, duplicates, clusters far apart, lines."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 400))
    kind = draw(st.sampled_from(["ball", "lattice", "same", "clusters", "line"]))
    xyz = rng.normal(size=(n, 3))
    if kind == "lattice":
        xyz = np.round(xyz * 2)
    elif kind == "same":
        xyz = np.ones((n, 3))
    elif kind == "clusters":
        xyz = xyz * 1e-4 + rng.integers(0, 3, (n, 1)) * 500.0
    elif kind == "line":
        xyz[:, 1:] = 0
    return torch.from_numpy(xyz.astype(draw(st.sampled_from([np.float32, np.float64]))))


@settings(max_examples=40, deadline=None)
@given(clouds(), st.data())
def test_indices_are_those_of_brute_force(cloud: torch.Tensor, data: st.DataObject) -> None:
    m = data.draw(st.integers(1, len(cloud)), "m")
    start = data.draw(st.integers(0, len(cloud) - 1), "start")
    skip = data.draw(st.booleans(), "skip_origin")
    expected = brute_force(cloud.numpy(), m, start, skip)
    for backend in BACKENDS:
        found = farthest_point_sampling(cloud, m, start=start, skip_origin=skip, backend=backend)
        assert found.tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_larger_cloud(backend: str) -> None:
    cloud = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([20.0, 20, 1])
    found = farthest_point_sampling(cloud, 200, start=7, backend=backend)
    assert found.tolist() == brute_force(cloud.numpy(), 200, 7, False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_corners_of_a_square_come_in_order_of_index(backend: str) -> None:
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 0]])
    assert farthest_point_sampling(square, 5, backend=backend).tolist() == [0, 2, 1, 3, 4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_at_the_origin_are_padding(backend: str) -> None:
    cloud = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.03, 0, 0], [2, 0, 0], [0, 0, 0]])
    plain = farthest_point_sampling(cloud, 4, backend=backend)
    assert plain.tolist() == [0, 3, 1, 2]
    skipping = farthest_point_sampling(cloud, 4, skip_origin=True, backend=backend)
    assert skipping.tolist() == [0, 3, 1, 1]
    only_padding = farthest_point_sampling(0 * cloud, 3, start=2, skip_origin=True, backend=backend)
    assert only_padding.tolist() == [2, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_and_dense_scenes_are_sampled_one_by_one(backend: str) -> None:
    cloud = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    alone = [
        farthest_point_sampling(cloud[a:b], m, start=s, backend=backend)
        for a, b, m, s in ((0, 10, 4, 1), (10, 10, 0, 0), (10, 60, 9, 5))
    ]
    packed = farthest_point_sampling(cloud, [4, 0, 9], [0, 10, 10, 60], start=[1, 0, 5], backend=backend)
    assert packed.tolist() == [*alone[0].tolist(), *(alone[2] + 10).tolist()]
    dense = farthest_point_sampling(cloud.reshape(3, 20, 3), 6, backend=backend)
    assert dense.shape == (3, 6)
    for b in range(3):
        scene = cloud[20 * b : 20 * b + 20]
        assert torch.equal(dense[b], farthest_point_sampling(scene, 6, backend=backend))
    assert farthest_point_sampling(torch.zeros(0, 8, 3), 2, backend=backend).shape == (0, 2)
    assert farthest_point_sampling(torch.zeros(0, 3), 0, backend=backend).shape == (0,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layouts_precisions_and_buffers(backend: str) -> None:
    wide = torch.randn(50, 5, generator=torch.Generator().manual_seed(2))
    expected = farthest_point_sampling(wide[:, 1:4].contiguous(), 8, backend=backend)
    assert torch.equal(farthest_point_sampling(wide[:, 1:4], 8, backend=backend), expected)
    assert torch.equal(farthest_point_sampling(wide[:, 1:4].double(), 8, backend=backend), expected)
    half = wide[:, 1:4].half()
    assert torch.equal(
        farthest_point_sampling(half, 8, backend=backend),
        farthest_point_sampling(half.float(), 8, backend=backend),
    )
    out = torch.empty(8, dtype=torch.int64)
    assert farthest_point_sampling(wide[:, 1:4], 8, backend=backend, out=out) is out
    assert torch.equal(out, expected)
    assert farthest_point_sampling(wide[:1, 1:4], 1, backend=backend).tolist() == [0]


def test_refuses_what_it_cannot_sample() -> None:
    cloud = torch.zeros(4, 3)
    bad = cloud.clone()
    bad[1, 2] = torch.nan
    with pytest.raises(ValueError, match="1 of 4 points hold NaN"):
        farthest_point_sampling(bad, 2)
    with pytest.raises(ValueError, match="cannot take 5 samples"):
        farthest_point_sampling(cloud, 5)
    with pytest.raises(ValueError, match="starting at 4"):
        farthest_point_sampling(cloud, 1, start=4)
    with pytest.raises(ValueError, match="must ascend from 0 to 4"):
        farthest_point_sampling(cloud, 1, [0, 3])
    with pytest.raises(ValueError, match=r"\(N, 3\) or"):
        farthest_point_sampling(cloud[:, :2], 1)
    with pytest.raises(ValueError, match="floating point"):
        farthest_point_sampling(cloud.long(), 1)
    with pytest.raises(ValueError, match="out must be"):
        farthest_point_sampling(cloud, 2, out=torch.empty(3, dtype=torch.int64))


def test_calls_from_several_threads() -> None:
    cloud = torch.randn(8, 500, 3, generator=torch.Generator().manual_seed(3))
    expected = farthest_point_sampling(cloud, 50)
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: farthest_point_sampling(cloud, 50), range(12))
        assert all(torch.equal(r, expected) for r in results)
