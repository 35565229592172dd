# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution over kernel maps against torch's dense one."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv3d

from pc_perception.ops.kernel_maps import KernelMap, strided_map, submanifold_map
from pc_perception.ops.sparse_convolution import sparse_convolution

BACKENDS = ["torch", "numba"]
SIDE = 6


def _scenes(seed: int, n_scenes: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    g = torch.Generator().manual_seed(seed)
    scenes = [(torch.rand(SIDE, SIDE, SIDE, generator=g) < 0.2).nonzero() for _ in range(n_scenes)]
    scenes = [s[torch.randperm(len(s), generator=g)] for s in scenes]
    starts = [0]
    for scene in scenes:
        starts.append(starts[-1] + len(scene))
    return torch.cat(scenes) if scenes else torch.zeros(0, 3, dtype=torch.int64), tuple(starts)


def _dense(features: torch.Tensor, coords: torch.Tensor, starts: tuple[int, ...], side: int) -> torch.Tensor:
    grid = features.new_zeros(len(starts) - 1, features.shape[1], side, side, side)
    for s, (a, b) in enumerate(pairwise(starts)):
        x, y, z = coords[a:b].unbind(1)
        grid[s, :, z, y, x] = features[a:b].T
    return grid


def _sparse(grid: torch.Tensor, coords: torch.Tensor, starts: tuple[int, ...]) -> torch.Tensor:
    rows = []
    for s, (a, b) in enumerate(pairwise(starts)):
        x, y, z = coords[a:b].unbind(1)
        rows.append(grid[s, :, z, y, x].T)
    return torch.cat(rows)


@pytest.mark.parametrize("backend", BACKENDS)
def test_submanifold_equals_dense(backend: str) -> None:
    coords, starts = _scenes(0, 3)
    g = torch.Generator().manual_seed(1)
    features = torch.randn(len(coords), 3, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(27, 3, 4, generator=g, dtype=torch.float64, requires_grad=True)
    out = sparse_convolution(features, weight, submanifold_map(coords, starts, backend))
    kernel = weight.permute(2, 1, 0).reshape(4, 3, 3, 3, 3)
    grid = conv3d(_dense(features, coords, starts, SIDE), kernel, padding=1)
    expected = _sparse(grid, coords, starts)
    torch.testing.assert_close(out, expected)
    for a, b in zip(
        torch.autograd.grad(out.square().sum(), (features, weight)),
        torch.autograd.grad(expected.square().sum(), (features, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_equals_dense(backend: str) -> None:
    coords, starts = _scenes(2, 3)
    g = torch.Generator().manual_seed(3)
    features = torch.randn(len(coords), 3, generator=g, dtype=torch.float64)
    weight = torch.randn(8, 3, 4, generator=g, dtype=torch.float64)
    kernel_map, parents, out_starts = strided_map(coords, starts, backend)
    grid = conv3d(
        _dense(features, coords, starts, SIDE), weight.permute(2, 1, 0).reshape(4, 3, 2, 2, 2), stride=2
    )
    out = sparse_convolution(features, weight, kernel_map)
    torch.testing.assert_close(out, _sparse(grid, parents, out_starts))
    assert int((grid.abs().amax(1) > 0).sum()) == len(parents) == out_starts[-1]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3), st.integers(0, 99))
def test_backends_agree_exactly(n_scenes: int, seed: int) -> None:
    coords, starts = _scenes(seed, n_scenes)
    a, b = (submanifold_map(coords, starts, backend) for backend in BACKENDS)
    for name in ("in_row", "out_row", "starts", "offset"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    lattice = torch.tensor([1, 3, 9])
    (halved, *parents), (also_halved, *also) = (strided_map(coords, starts, backend) for backend in BACKENDS)
    assert torch.equal(parents[0], also[0])
    assert parents[1] == also[1]
    assert torch.equal(halved.out_row, also_halved.out_row)
    assert torch.equal(halved.in_row, also_halved.in_row)
    assert torch.equal(((coords[a.in_row] - coords[a.out_row] + 1) * lattice).sum(1), a.offset)
    assert bool((a.offset * len(coords) + a.out_row).diff().gt(0).all())


def test_edges_of_the_lattice_and_what_is_refused() -> None:
    corners = torch.tensor([[0, 0, 0], [2**20 - 1, 0, 0], [0, 1, 0], [0, 2**20 - 1, 2**20 - 1]])
    for backend in BACKENDS:
        pairs = submanifold_map(corners, backend=backend)
        assert sorted(zip(pairs.in_row.tolist(), pairs.out_row.tolist(), strict=True)) == [
            (0, 0), (0, 2), (1, 1), (2, 0), (2, 2), (3, 3)
        ]  # fmt: skip
    with pytest.raises(ValueError, match="subtract their minimum"):
        submanifold_map(corners - 1)
    with pytest.raises(ValueError, match="int64"):
        strided_map(corners.float())
    with pytest.raises(ValueError, match="scenes must rise"):
        submanifold_map(corners, (0, 3))
    one = KernelMap(*(torch.zeros(1, dtype=torch.int64),) * 2, torch.tensor([0, 1]), 1)
    with pytest.raises(ValueError, match="the weight must be"):
        sparse_convolution(torch.zeros(1, 2), torch.zeros(1, 3, 4), one)


def test_concurrent_calls() -> None:
    coords, starts = _scenes(7, 4)
    expected = submanifold_map(coords, starts, "torch")
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: submanifold_map(coords, starts), range(16)):
            assert torch.equal(found.in_row, expected.in_row)
