# SPDX-License-Identifier: Apache-2.0
"""Clouds around the size where the search goes over all points instead of a tree: the same answers as ever."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops import small_clouds
from pc_perception.ops.neighbors import ball_query, k_nearest
from pc_perception.ops.sampling import farthest_point_sampling


def _cloud(n: int, kinds: int, seed: int) -> torch.Tensor:
    """Points on a lattice of ``kinds`` steps: many are equally near, few kinds make duplicates."""
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randint(0, kinds, (n, 3), generator=g).float() * 0.37
        if kinds
        else torch.rand(n, 3, generator=g)
    )


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([1, 2, 17, 63, 64, 65, 200, small_clouds.FEW, small_clouds.FEW + 1]),
    st.sampled_from([0, 1, 2, 5, 40]),
    st.integers(1, 65),
    st.integers(0, 9),
)
def test_neighbors(n: int, kinds: int, k: int, seed: int) -> None:
    points, queries = _cloud(n, kinds, seed), _cloud(20, kinds, seed + 1)
    for results in (
        [k_nearest(points, k, queries, backend=b) for b in ("numba", "torch")],
        [ball_query(points, 0.4, k, queries, backend=b) for b in ("numba", "torch")],
    ):
        assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1])


@pytest.mark.parametrize("k", [3, 33])
def test_scenes_of_any_size_together(k: int) -> None:
    sizes = [5, 0, small_clouds.FEW + 40, 700, small_clouds.FEW, 1]
    offsets = [sum(sizes[:b]) for b in range(len(sizes) + 1)]
    query_offsets = [0, 0, 40, 340, 640, 900, 1200]
    points, queries = _cloud(offsets[-1], 0, 1), _cloud(query_offsets[-1], 0, 2)
    results = [k_nearest(points, k, queries, offsets, query_offsets, backend=b) for b in ("numba", "torch")]
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kinds", [0, 1, 3])
@pytest.mark.parametrize("n", [1, 50, small_clouds.FEW, small_clouds.FEW + 1, 3000])
def test_samples(n: int, kinds: int, skip: bool, dtype: torch.dtype) -> None:
    points = (_cloud(n, kinds, 3) - 0.37).to(dtype)
    m = min(n, 80)
    ours, reference = (
        farthest_point_sampling(points, m, start=n // 2, skip_origin=skip, backend=b)
        for b in ("numba", "torch")
    )
    assert torch.equal(ours, reference)
