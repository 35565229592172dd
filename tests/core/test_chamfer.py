# SPDX-License-Identifier: Apache-2.0
"""Chamfer distance against all pairs, its gradient against differences, the k-d tree against all points."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops import chamfer
from pc_perception.ops.chamfer import chamfer_distance
from pc_perception.ops.kd_tree import build_tree, nearest_in_tree

BACKENDS = ["torch", "numba"]


def _clouds(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    scenes, n, m = shape
    return (
        torch.rand(scenes, n, 3, generator=g, dtype=dtype),
        torch.rand(scenes, m, 3, generator=g, dtype=dtype),
    )


@pytest.fixture(params=["dense", "tree"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tree":
        monkeypatch.setattr(chamfer, "DENSE_PAIRS", 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_all_pairs(search: None, dtype: torch.dtype, backend: str) -> None:
    a, b = _clouds((3, 40, 25), dtype)
    square = (a[:, :, None] - b[:, None]).square().sum(3)
    there, back = square.amin(2), square.amin(1)
    out = chamfer_distance(a.mT.contiguous().mT, b, "l2", backend)
    torch.testing.assert_close(out, there.mean() + back.mean())
    out = chamfer_distance(a, b, "l1", backend)
    torch.testing.assert_close(out, (there.sqrt().mean() + back.sqrt().mean()) / 2)
    torch.testing.assert_close(chamfer_distance(a[0], b[0], "l2", backend), there[0].mean() + back[0].mean())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradient(search: None, norm: str, backend: str) -> None:
    a, b = (t.requires_grad_() for t in _clouds((2, 7, 5), torch.float64))
    assert torch.autograd.gradcheck(lambda p, q: chamfer_distance(p, q, norm, backend), (a, b))
    target = b.detach()
    assert torch.autograd.gradcheck(lambda p: chamfer_distance(p, target, norm, backend), (a,))
    assert torch.autograd.gradcheck(lambda p: chamfer_distance(target, p, norm, backend), (a,))


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_backends_share_values_and_gradients_where_points_coincide(search: None, norm: str) -> None:
    g = torch.Generator().manual_seed(2)
    a, b = (torch.randint(0, 3, (2, 30, 3), generator=g).double().requires_grad_() for _ in "ab")
    values = [chamfer_distance(a, b, norm, backend) for backend in BACKENDS]
    torch.testing.assert_close(*values)
    for x, y in zip(*(torch.autograd.grad(v, (a, b)) for v in values), strict=True):
        torch.testing.assert_close(x, y)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 80), st.integers(1, 20), st.integers(1, 6), st.integers(0, 99))
def test_tree_finds_the_lowest_of_the_nearest(n_points: int, n_queries: int, spread: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, spread, (n_points, 3)).astype(np.float32)
    queries = rng.integers(0, spread, (n_queries, 3)).astype(np.float32)
    square, found = np.empty(n_queries, np.float32), np.empty(n_queries, np.int32)
    nearest_in_tree(build_tree(points), queries, rng.permutation(n_queries), square, found)
    all_pairs = ((queries[:, None] - points) ** 2).sum(2)
    assert np.array_equal(square, all_pairs.min(1))
    assert np.array_equal(found, all_pairs.argmin(1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_refuses_what_has_no_distance(backend: str) -> None:
    a, b = _clouds((2, 4, 3), torch.float32)
    for wrong, message in (
        (b[:1], r"\(B, m, 3\)"),
        (b.double(), "both be float32"),
        (b[:, :0], "empty"),
        (torch.full_like(b, torch.inf), "NaN or Inf"),
    ):
        with pytest.raises(ValueError, match=message):
            chamfer_distance(a, wrong, "l2", backend)
    with pytest.raises(ValueError, match="unknown"):
        chamfer_distance(a, b, "l3", backend)


def test_concurrent_calls() -> None:
    a, b = _clouds((600, 8, 8), torch.float32)
    expected = chamfer_distance(a, b, backend="torch")
    with ThreadPoolExecutor(4) as pool:
        for out in pool.map(lambda _: chamfer_distance(a, b), range(8)):
            torch.testing.assert_close(out, expected)
