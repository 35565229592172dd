# SPDX-License-Identifier: Apache-2.0
"""Neighbour searches against brute force, and what is carried along them."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.labels import UNLABELED
from pc_perception.ops.interpolate import gather_groups, propagate_labels, three_interpolate, weighted_sum
from pc_perception.ops.neighbors import ball_query, k_nearest

from .test_sampling import clouds

BACKENDS = ["torch", "numba"]


def brute_force(
    points: np.ndarray, queries: np.ndarray, k: int, radius: float, by_index: bool
) -> tuple[list[list[int]], np.ndarray]:
    """The definition: sort by (distance, index), or by index, what is closer than the radius."""
    indices, distances = [], np.full((len(queries), k), np.inf)
    for row, q in enumerate(queries):
        d = q - points
        squared = (d[:, 0] ** 2 + d[:, 1] ** 2) + d[:, 2] ** 2
        inside = [i for i in range(len(points)) if squared[i] < points.dtype.type(radius) ** 2]
        ranked = inside if by_index else sorted(inside, key=lambda i: (squared[i], i))
        distances[row, : len(ranked[:k])] = np.sqrt(squared[ranked[:k]])
        indices.append(ranked[:k] + [-1] * (k - len(ranked[:k])))
    return indices, distances


@settings(max_examples=30, deadline=None)
@given(clouds(), st.integers(1, 20), st.sampled_from([0.3, 1.0, 1e4]), st.booleans(), st.integers(0, 2**31))
def test_indices_are_those_of_brute_force(
    cloud: torch.Tensor, k: int, radius: float, own: bool, seed: int
) -> None:
    near = cloud[:: max(1, len(cloud) // 30)]
    offset = torch.randn(near.shape, generator=torch.Generator().manual_seed(seed)).to(cloud.dtype)
    queries = cloud[:60] if own else near + offset.round()
    for backend in BACKENDS:
        index, distance = k_nearest(cloud, k, queries, backend=backend)
        expected, metres = brute_force(cloud.numpy(), queries.numpy(), k, 1e9, False)
        assert index.tolist() == expected
        np.testing.assert_allclose(distance.numpy(), metres, rtol=1e-6)
        for by_index in (False, True):
            index, distance = ball_query(cloud, radius, k, queries, by_index=by_index, backend=backend)
            expected, metres = brute_force(cloud.numpy(), queries.numpy(), k, radius, by_index)
            assert index.tolist() == expected
            np.testing.assert_allclose(distance.numpy(), metres, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_point_among_its_own_neighbors(backend: str) -> None:
    cloud = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([20.0, 20, 1])
    index, distance = k_nearest(cloud, 16, backend=backend)
    assert torch.equal(index[:, 0], torch.arange(2000))
    assert bool((distance[:, 0] == 0).all())
    same = k_nearest(cloud, 16, cloud.clone(), backend=backend)
    assert torch.equal(index, same[0])
    expected, _ = brute_force(cloud.numpy(), cloud[:50].numpy(), 16, 1e9, False)
    assert index[:50].tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_missing_neighbors_are_minus_one_at_infinity(backend: str) -> None:
    index, distance = k_nearest(torch.zeros(2, 3), 4, torch.ones(1, 3), backend=backend)
    assert index.tolist() == [[0, 1, -1, -1]]
    assert distance[0, 2:].tolist() == [torch.inf] * 2
    index, distance = k_nearest(torch.zeros(0, 3), 2, torch.ones(3, 3), backend=backend)
    assert index.tolist() == [[-1, -1]] * 3
    assert k_nearest(torch.zeros(5, 3), 2, torch.zeros(0, 3), backend=backend)[0].shape == (0, 2)
    assert k_nearest(torch.zeros(1, 3), 1, backend=backend)[0].tolist() == [[0]]
    assert k_nearest(torch.zeros(0, 4, 3), 2, backend=backend)[0].shape == (0, 4, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ball_as_pointnet2_fills_it(backend: str) -> None:
    points = torch.tensor([[3.0, 0, 0], [0.9, 0, 0], [0.1, 0, 0], [1.0, 0, 0]])
    queries = torch.tensor([[0.0, 0, 0], [50, 0, 0]])
    index, distance = ball_query(points, 1.0, 3, queries, by_index=True, fill_first=True, backend=backend)
    assert index.tolist() == [[1, 2, 1], [-1, -1, -1]]  # a point at exactly the radius is outside
    torch.testing.assert_close(distance[0], torch.tensor([0.9, 0.1, 0.9]))
    assert ball_query(points, 1.0, 3, queries, backend=backend)[0][0].tolist() == [2, 1, -1]
    assert ball_query(points, 1e30, 4, queries, backend=backend)[0][0].tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_scenes_do_not_see_each_other(backend: str) -> None:
    cloud = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    dense = k_nearest(cloud.reshape(3, 20, 3), 5, backend=backend)[0]
    packed = k_nearest(cloud, 5, offsets=[0, 20, 40, 60], backend=backend)[0]
    for b in range(3):
        alone = k_nearest(cloud[20 * b : 20 * b + 20], 5, backend=backend)[0]
        assert torch.equal(dense[b], alone)
        assert torch.equal(packed[20 * b : 20 * b + 20], alone + 20 * b)
    few = k_nearest(cloud, 3, cloud[:4], [0, 2, 60], [0, 3, 4], backend=backend)[0]
    assert few[:3].tolist() == [[0, 1, -1], [1, 0, -1], few[2].tolist()]
    assert sorted(few[2].tolist()) == [-1, 0, 1]
    assert bool((few[3] >= 2).all())


@pytest.mark.parametrize("backend", BACKENDS)
def test_layouts_and_buffers(backend: str) -> None:
    wide = torch.randn(50, 5, generator=torch.Generator().manual_seed(2))
    expected = k_nearest(wide[:, 1:4].contiguous(), 4, backend=backend)
    assert torch.equal(k_nearest(wide[:, 1:4], 4, backend=backend)[0], expected[0])
    double = k_nearest(wide[:, 1:4].double(), 4, backend=backend)
    assert double[1].dtype == torch.float64
    assert torch.equal(double[0], expected[0])
    out = torch.empty(50, 4, dtype=torch.int64), torch.empty(50, 4)
    assert k_nearest(wide[:, 1:4], 4, backend=backend, out=out)[0] is out[0]
    assert torch.equal(out[0], expected[0])


def test_refuses_what_it_cannot_search() -> None:
    cloud = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="1 of 1 queries hold NaN"):
        k_nearest(cloud, 1, torch.full((1, 3), torch.inf))
    with pytest.raises(ValueError, match="k must be at least 1"):
        k_nearest(cloud, 0)
    with pytest.raises(ValueError, match="radius must be positive"):
        ball_query(cloud, 0.0, 1)
    with pytest.raises(ValueError, match="scenes of points"):
        k_nearest(cloud, 1, cloud, [0, 2, 4])
    with pytest.raises(ValueError, match=r"queries torch.float64"):
        k_nearest(cloud, 1, cloud.double())


def _large_scenes() -> dict[str, torch.Tensor]:
    """Clouds above the size that is searched without a tree, each hard in another way."""
    g = torch.Generator().manual_seed(0)
    turn, ring = torch.rand(2500, generator=g) * 6.28, torch.randint(1, 12, (2500,), generator=g) ** 2
    clumps = torch.randn(2500, 3, generator=g) + 1000 * torch.randint(0, 40, (2500, 3), generator=g)
    lattice = torch.randint(0, 9, (2500, 3), generator=g).float()
    return {
        "rings": torch.stack([turn.cos() * ring, turn.sin() * ring, 0 * turn], 1),
        "clumps far apart": clumps,
        "many equally near": lattice,
        "two places": lattice.clamp(0, 1) * torch.tensor([5.0, 0, 0]),
    }


@pytest.mark.parametrize("name", list(_large_scenes()))
@pytest.mark.parametrize("own", [True, False])
def test_large_scenes_match_the_reference(name: str, own: bool) -> None:
    cloud = _large_scenes()[name]
    queries = None if own else cloud[::3] * 1.01 + 0.3
    for k in (1, 16, 17, 40):  # lists in registers, short and long, and in memory
        for search in (partial(k_nearest, cloud, k), partial(ball_query, cloud, 1.5, k)):
            found, expected = search(queries), search(queries, backend="torch")
            assert torch.equal(found[0], expected[0])
            torch.testing.assert_close(found[1], expected[1])


def test_crowded_points_are_not_compared_with_all_others() -> None:
    same = torch.ones(200_000, 3)
    index, _ = k_nearest(same, 4)  # 4e10 comparisons would take a minute
    assert torch.equal(index, torch.arange(4).expand(200_000, 4))
    rng = torch.Generator().manual_seed(0)
    cluster = torch.randn(50_000, 3, generator=rng) * 1e-3
    cluster[::2] += 1000.0
    index, _ = k_nearest(cluster, 2, cluster[:100])
    assert torch.equal(index, k_nearest(cluster, 2, cluster[:100], backend="torch")[0])


def test_calls_from_several_threads() -> None:
    cloud = torch.randn(3000, 3, generator=torch.Generator().manual_seed(3))
    expected = k_nearest(cloud, 8)
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: k_nearest(cloud, 8), range(12))
        assert all(torch.equal(r[0], expected[0]) and torch.equal(r[1], expected[1]) for r in results)


@pytest.mark.parametrize("backend", BACKENDS)
def test_interpolation_weighs_by_inverse_squared_distance(backend: str) -> None:
    points = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 4], [9, 9, 9]])
    features = torch.tensor([[16.0, 1], [4, 1], [1, 1], [99, 1]])
    queries = torch.tensor([[0.0, 0, 0], [0, 2, 0]])
    found = three_interpolate(points, features, queries, backend=backend)
    torch.testing.assert_close(found[0], torch.tensor([(16 + 1 + 1 / 16) / (1 + 1 / 4 + 1 / 16), 1.0]))
    torch.testing.assert_close(found[1], torch.tensor([4.0, 1.0]))
    one = three_interpolate(points[:1], features[:1], queries, backend=backend)
    torch.testing.assert_close(one, features[:1].expand(2, 2))
    with pytest.raises(ValueError, match="nothing to interpolate from"):
        three_interpolate(points[:0], features[:0], queries, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_interpolation(backend: str) -> None:
    rng = torch.Generator().manual_seed(4)
    points, queries = torch.rand(12, 3, generator=rng).double(), torch.rand(7, 3, generator=rng).double()
    features = torch.rand(12, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda f: three_interpolate(points, f, queries, backend=backend), features
    )
    index, weight = torch.randint(0, 12, (7, 3), generator=rng), torch.rand(7, 3, generator=rng).double()
    expected = torch.autograd.grad(weighted_sum(features, index, weight, "torch").sin().sum(), features)
    found = torch.autograd.grad(weighted_sum(features, index, weight, backend).sin().sum(), features)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_come_from_the_nearest_labelled_point(backend: str) -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    labels = torch.tensor([5, UNLABELED, 7])
    queries = torch.tensor([[0.9, 0, 0], [1.0, 0, 0], [1.2, 0, 0], [2.0, 3, 0]])
    found = propagate_labels(points, labels, queries, 1.5, backend=backend)
    assert found.tolist() == [5, 5, 7, UNLABELED]
    apart = propagate_labels(points, labels, queries, 1.5, [0, 2, 3], [0, 3, 4], backend=backend)
    assert apart.tolist() == [5, 5, 5, UNLABELED]
    short = propagate_labels(points, labels.to(torch.uint16), queries, 1.5, backend=backend)
    assert short.dtype == torch.uint16
    assert short.tolist() == found.tolist()


def test_groups_are_gathered_with_gradient() -> None:
    values = torch.arange(6.0).reshape(3, 2).requires_grad_()
    index = torch.tensor([[0, 2], [1, -1]])
    groups = gather_groups(values, index)
    assert groups.tolist() == [[[0, 1], [4, 5]], [[2, 3], [0, 0]]]
    groups.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[1, 1]] * 3
    dense = gather_groups(values.detach().expand(2, 3, 2), index[:1].expand(2, 1, 2))
    assert dense.shape == (2, 1, 2, 2)
    assert gather_groups(values[:0], torch.full((2, 4), -1)).shape == (2, 4, 2)
