# SPDX-License-Identifier: Apache-2.0
"""The Triton sparse convolution and its gradients against the reference."""

import pytest
import torch

from pc_perception.ops.kernel_maps import KernelMap, strided_map, submanifold_map
from pc_perception.ops.sparse_convolution import sparse_convolution

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _map(n: int, strided: bool) -> KernelMap:
    generator = torch.Generator().manual_seed(n)
    cells = torch.cartesian_prod(*[torch.arange(7)] * 3)
    coords = cells[torch.randperm(len(cells), generator=generator)[:n]].to(DEVICE)
    return strided_map(coords, backend="torch")[0] if strided else submanifold_map(coords, backend="torch")


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize(
    ("n", "width", "dtype"),
    [
        (0, 3, torch.float32),
        (1, 1, torch.float32),
        (120, 5, torch.float32),
        (150, 40, torch.float32),
        (30, 2, torch.float64),
    ],
)
def test_equals_the_reference(n: int, width: int, dtype: torch.dtype, strided: bool) -> None:
    pairs, g = _map(n, strided), torch.Generator().manual_seed(1)
    features = torch.randn(n, 2 * width, generator=g).to(DEVICE, dtype)[:, ::2]
    weight = torch.randn(len(pairs.starts) - 1, width, 6, generator=g).to(DEVICE, dtype)
    leaves = [[t.clone().requires_grad_() for t in (features, weight)] for _ in range(2)]
    out, expected = (
        sparse_convolution(*leaf, pairs, backend)
        for leaf, backend in zip(leaves, ("triton", "torch"), strict=True)
    )
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    if not n:
        return
    direction = torch.randn(out.shape, generator=g).to(DEVICE, dtype)
    for result in (out, expected):
        (result * direction).sum().backward()
    for a, b in zip(*leaves, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=2e-5)


def test_half_precision_is_summed_in_float32() -> None:
    pairs, g = _map(90, False), torch.Generator().manual_seed(2)
    features, weight = torch.randn(90, 20, generator=g).half(), torch.randn(27, 20, 17, generator=g).half()
    features, weight = features.to(DEVICE), weight.to(DEVICE)
    out = sparse_convolution(features, weight, pairs, "triton")
    assert out.dtype == torch.float16
    expected = sparse_convolution(features.float(), weight.float(), pairs, "torch")
    torch.testing.assert_close(out.float(), expected, rtol=1e-3, atol=1e-3)
    with torch.autocast(DEVICE.type, torch.float16):
        again = sparse_convolution(features.float(), weight, pairs, "triton")
        torch.testing.assert_close(again, out)
        assert sparse_convolution(features.float(), weight, pairs, "torch").dtype == torch.float16
    for backend in ("torch", "triton"):
        with pytest.raises(ValueError, match="convert one"):
            sparse_convolution(features.float(), weight, pairs, backend)


def test_pairs_beyond_the_capacity_are_left_out() -> None:
    from pc_perception.ops.gpu.sparse_convolution import convolve_into

    ones = torch.ones(3, 1, device=DEVICE)
    rows, starts = torch.tensor([0, 1], device=DEVICE), torch.tensor([0, 3], device=DEVICE)
    out = torch.zeros(3, 1, device=DEVICE)
    convolve_into(ones, torch.ones(1, 1, 1, device=DEVICE), rows, rows, starts, out)
    assert out[:, 0].tolist() == [1, 1, 0]
