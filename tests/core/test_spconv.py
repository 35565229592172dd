# SPDX-License-Identifier: Apache-2.0
"""spconv as a backend: refused on the CPU, and equal to the reference where it may run."""

from __future__ import annotations

import pytest
import torch

from pc_perception.ops.backend import available
from pc_perception.ops.kernel_maps import KernelMap, strided_map, submanifold_map
from pc_perception.ops.sparse_convolution import sparse_convolution


def problem(strided: bool, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor, KernelMap]:
    g = torch.Generator().manual_seed(0)
    coords = (torch.rand(9, 9, 9, generator=g) < 0.3).nonzero()
    pairs = strided_map(coords.to(device))[0] if strided else submanifold_map(coords.to(device))
    features = torch.randn(len(coords), 16, generator=g).to(device).requires_grad_()
    weight = torch.randn(len(pairs.starts) - 1, 16, 32, generator=g).to(device).requires_grad_()
    return features, weight, pairs


def check(out: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, pairs: KernelMap) -> None:
    expected = sparse_convolution(features, weight, pairs, "torch")
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    direction = torch.randn_like(out)
    for a, b in zip(
        torch.autograd.grad((out * direction).sum(), (features, weight)),
        torch.autograd.grad((expected * direction).sum(), (features, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_it_is_refused_on_the_cpu() -> None:
    features, weight, pairs = problem(strided=False)
    with pytest.raises(ValueError, match="overwrite each other's sums"):
        sparse_convolution(features, weight, pairs, "spconv")
    assert "spconv" not in available(torch.device("cpu"))


@pytest.mark.parametrize("strided", [False, True])
def test_the_adapter_with_one_thread(strided: bool) -> None:
    """The values alone: spconv's gradients need CUDA."""
    pytest.importorskip("spconv", reason="spconv is not installed")
    from pc_perception.ops.spconv_adapter import sparse_convolution as by_spconv

    features, weight, pairs = problem(strided)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        out = by_spconv(features, weight, pairs)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(
        out, sparse_convolution(features, weight, pairs, "torch"), atol=1e-4, rtol=1e-4
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("strided", [False, True])
def test_equals_the_reference_on_cuda(strided: bool) -> None:
    pytest.importorskip("spconv", reason="spconv is not installed")
    features, weight, pairs = problem(strided, "cuda")
    check(sparse_convolution(features, weight, pairs, "spconv"), features, weight, pairs)
