# SPDX-License-Identifier: Apache-2.0
"""Products and maxima within kernels, against torch: any widths, both precisions, no row but its own."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pc_perception.models.layers import NeighborhoodBlock, NormLinear
from pc_perception.models.linear import Linear, set_precision
from pc_perception.ops.dense_rows import HAS_PAIRS, dense, norm_dense, pack
from pc_perception.ops.grouping import Neighborhood, neighbor_max

SHAPES = [(1, 1, 1), (7, 3, 2), (64, 32, 32), (65, 33, 31), (130, 96, 192), (200, 160, 9), (3, 5, 100)]


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("n", "n_in", "n_out"), SHAPES)
@pytest.mark.parametrize("low", [False, True])
def test_linear_layers(n: int, n_in: int, n_out: int, low: bool) -> None:
    x, weight, bias = _random(n, n_in), _random(n_out, n_in), _random(n_out)
    low = low and HAS_PAIRS
    rounded = (t.bfloat16().double() if low else t.double() for t in (x, weight))
    expected = functional.linear(*rounded, bias.double())
    torch.testing.assert_close(dense(x, pack(weight, bias, low)).double(), expected, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(
        dense(x, pack(weight, None, low)).double(), expected - bias.double(), rtol=1e-5, atol=2e-5
    )
    gain, offset = _random(n_in).numpy(), _random(n_in + 1)[1:].numpy()
    found = norm_dense(x, (gain, offset), pack(weight, bias, low))
    normal = functional.layer_norm(x, (n_in,), torch.from_numpy(gain), torch.from_numpy(offset))
    if low:
        normal, weight = normal.bfloat16().float(), weight.bfloat16().float()
    limits = (
        {"rtol": 0.02, "atol": 0.05} if low else {"rtol": 1e-4, "atol": 1e-4}
    )  # a norm may round either way
    torch.testing.assert_close(found, functional.linear(normal, weight, bias), **limits)


def test_rows_do_not_depend_on_others() -> None:
    x, layer = _random(150, 40), pack(_random(50, 40), _random(50), low=True)
    together = dense(x, layer)
    assert torch.equal(torch.cat([dense(x[a:b], layer) for a, b in ((0, 1), (1, 70), (70, 150))]), together)
    x[3] = torch.nan
    assert torch.equal(dense(x, layer)[[0, 1, 2, 4, 149]], together[[0, 1, 2, 4, 149]])


@pytest.mark.parametrize("width", [1, 20, 32, 75])
def test_maxima(width: int) -> None:
    x = _random(90, width)
    starts, index = torch.tensor([0, 1, 5, 40, 47]), torch.randint(0, 90, (47,), generator=torch.Generator())
    lists = Neighborhood(starts, index)
    assert torch.equal(neighbor_max(x, lists), neighbor_max(x, lists, "torch"))


@pytest.mark.parametrize("width", [8, 24, 64])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_blocks(width: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 150
    block = NeighborhoodBlock(width).eval()
    step = NormLinear(torch.nn.LayerNorm(width), Linear(width, 2 * width)).eval()
    x, place = _random(n, width), _random(n, 3)
    starts = torch.arange(n + 1) * 4
    index = torch.randint(0, n, (4 * n,), generator=torch.Generator().manual_seed(0))
    for module in (block, step):
        set_precision(module, precision, torch.device("cpu"))
    with torch.inference_mode():
        found = block(x, place, Neighborhood(starts, index)), step(x)
        monkeypatch.setenv("PC_PERCEPTION_BACKEND", "torch")
        expected = block(x, place, Neighborhood(starts, index)), step(x)
    limits = {"rtol": 1e-4, "atol": 1e-4} if precision == "float32" else {"rtol": 0.05, "atol": 0.1}
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **limits)


def test_weights_that_are_still_trained_are_followed() -> None:
    block, x, place = NeighborhoodBlock(16).eval(), _random(20, 16), _random(20, 3)
    lists = Neighborhood(torch.arange(21), torch.arange(20))
    with torch.inference_mode():
        before = block(x, place, lists)
    with torch.no_grad():
        block.mix.weight.data.mul_(2)
    with torch.inference_mode():
        assert not torch.equal(block(x, place, lists), before)
    set_precision(block, "float32", torch.device("cpu"))
    with torch.inference_mode():
        assert torch.equal(block(x, place, lists), block(x, place, lists))


@pytest.mark.slow
def test_machines_with_shorter_vectors_and_without_bfloat16(tmp_path: os.PathLike[str]) -> None:
    """As on a CPU that knows AVX2 alone: the same results from the other shape of registers."""
    x, weight = _random(130, 70), _random(100, 70)
    np.savez(f"{tmp_path}/given.npz", x=x.numpy(), weight=weight.numpy())
    script = (
        "import numpy as np, torch; from pc_perception.ops import dense_rows as d;"
        "assert (d.ROWS, d.VECTORS, d.HAS_PAIRS) == (4, 1, False);"
        f"g = np.load('{tmp_path}/given.npz'); x, w = (torch.from_numpy(g[k]) for k in ('x', 'weight'));"
        f"np.save('{tmp_path}/found.npy', np.stack([d.dense(x, d.pack(w, None, low)) for low in (False, True)]))"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    environment["NUMBA_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(f"{tmp_path}/found.npy")
    for own in found:
        np.testing.assert_allclose(own, dense(x, pack(weight, None, low=False)).numpy(), rtol=1e-5, atol=2e-5)
