# SPDX-License-Identifier: Apache-2.0
"""The CPU's sparse convolution and its gradients against the reference."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pc_perception.ops.kernel_maps import KernelMap, strided_map, submanifold_map
from pc_perception.ops.sparse_convolution import sparse_convolution


def _map(n: int, strided: bool) -> KernelMap:
    cells = torch.cartesian_prod(*[torch.arange(9)] * 3)
    coords = cells[torch.randperm(len(cells), generator=torch.Generator().manual_seed(n))[:n]]
    return strided_map(coords)[0] if strided else submanifold_map(coords)


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize(
    ("n", "width", "n_out", "dtype"),
    [
        (0, 3, 4, torch.float32),
        (1, 1, 1, torch.float32),
        (13, 5, 17, torch.float32),
        (200, 40, 48, torch.float32),
        (400, 64, 64, torch.float32),  # enough for two threads
        (30, 2, 9, torch.float64),
    ],
)
def test_equals_the_reference(n: int, width: int, n_out: int, dtype: torch.dtype, strided: bool) -> None:
    pairs, g = _map(n, strided), torch.Generator().manual_seed(1)
    features = torch.randn(n, 2 * width, generator=g, dtype=dtype)[:, ::2]
    weight = torch.randn(len(pairs.starts) - 1, width, n_out, generator=g, dtype=dtype) / width
    leaves = [[t.clone().requires_grad_() for t in (features, weight)] for _ in range(2)]
    out, expected = (
        sparse_convolution(*leaf, pairs, backend)
        for leaf, backend in zip(leaves, ("numba", "torch"), strict=True)
    )
    assert out.is_contiguous()
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn(out.shape, generator=g, dtype=dtype)
    for result in (out, expected):
        (result * direction).sum().backward()
    for a, b in zip(*leaves, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=2e-5)


def test_gradients_against_differences() -> None:
    pairs, g = _map(12, False), torch.Generator().manual_seed(2)
    features = torch.randn(12, 3, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(27, 3, 10, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: sparse_convolution(x, w, pairs, "numba"), (features, weight))


def test_concurrent_calls() -> None:
    pairs, g = _map(500, False), torch.Generator().manual_seed(3)
    features, weight = torch.randn(500, 64, generator=g), torch.randn(27, 64, 64, generator=g) / 64
    expected = sparse_convolution(features, weight, pairs, "torch")
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: sparse_convolution(features, weight, pairs), range(16)):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
