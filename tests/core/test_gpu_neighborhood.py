# SPDX-License-Identifier: Apache-2.0
"""The Triton neighbourhood block against the module's own operations."""

from typing import Any

import numpy as np
import pytest
import torch

from pc_perception.models.layers import NeighborhoodBlock, NormLinear
from pc_perception.models.linear import Linear, set_precision
from pc_perception.ops.grouping import Neighborhood, voxel_neighbors

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}


@pytest.fixture(autouse=True)
def _bfloat16_in_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter keeps bfloat16 as its bits, and would multiply those."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle, tl

    multiply = InterpreterBuilder.create_dot

    def wide(t: Any) -> Any:
        if t.dtype.scalar != tl.bfloat16:
            return t
        return TensorHandle((t.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    monkeypatch.setattr(
        InterpreterBuilder, "create_dot", lambda self, a, b, *rest: multiply(self, wide(a), wide(b), *rest)
    )


def _block(width: int) -> NeighborhoodBlock:
    torch.manual_seed(width)
    block = NeighborhoodBlock(width).to(DEVICE).requires_grad_(False)
    for norm in (block.edge_norm, block.mlp[0]):
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
        torch.nn.init.normal_(norm.bias, 0.0, 0.3)
    return block


def _cloud(n: int, width: int) -> tuple[torch.Tensor, torch.Tensor, Neighborhood]:
    generator = torch.Generator().manual_seed(n)
    cells = torch.cartesian_prod(*[torch.arange(6)] * 3)
    coords = cells[torch.randperm(len(cells), generator=generator)[:n]]
    x, inside = (torch.randn(n, c, generator=generator) for c in (width, 3))
    position = 20 + coords + inside / 4
    return x.to(DEVICE), position.to(DEVICE), voxel_neighbors(coords, "torch").to(DEVICE)


def _both(
    monkeypatch: pytest.MonkeyPatch, block: NeighborhoodBlock, *given: object
) -> tuple[torch.Tensor, torch.Tensor]:
    found = []
    for backend in ("triton", "torch"):
        monkeypatch.setenv("PC_PERCEPTION_BACKEND", backend)
        with torch.inference_mode():
            found.append(block(*given))
    return found[0], found[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("width", "n"), [(16, 90), (40, 150), (96, 50), (160, 40), (256, 20), (6, 1)])
def test_block_equals_the_module(monkeypatch: pytest.MonkeyPatch, width: int, n: int, precision: str) -> None:
    block, tolerance = _block(width), TOLERANCES[precision]
    given = _cloud(n, width)
    _, exact = _both(monkeypatch, block, *given)
    set_precision(block, precision, DEVICE)
    found, expected = _both(monkeypatch, block, *given)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    assert torch.equal(expected, exact) == (precision == "float32")


def test_weights_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    block, given = _block(16), _cloud(30, 16)
    before, _ = _both(monkeypatch, block, *given)
    block.load_state_dict({name: 1.5 * t for name, t in block.state_dict().items()})
    found, expected = _both(monkeypatch, block, *given)
    assert not torch.allclose(found, before)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_rows_beyond_those_in_use_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    block = _block(24)
    x, position, lists = _cloud(40, 24)
    expected, _ = _both(monkeypatch, block, x, position, lists)
    pad = torch.full((100, 24), torch.nan, device=DEVICE)
    starts = torch.cat([lists.starts, lists.starts[-1:].expand(100)])
    index = torch.cat([lists.index, torch.full((50,), 2**40, device=DEVICE)])
    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "triton")
    with torch.inference_mode():
        found = block(torch.cat([x, pad]), torch.cat([position, pad[:, :3]]), Neighborhood(starts, index))
    assert torch.equal(found[:40], expected)


def test_nothing_comes_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = _both(monkeypatch, _block(16), *_cloud(0, 16))
    assert found.shape == expected.shape == (0, 16)


def test_what_the_kernels_do_not_take_is_left_to_the_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = _both(monkeypatch, _block(260), *_cloud(8, 260))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    block, given = _block(16).requires_grad_(), _cloud(20, 16)
    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "triton")
    block(*given).sum().backward()
    assert all(p.grad is not None for p in block.parameters())


@pytest.mark.parametrize(("width", "out"), [(32, 8), (40, 80), (96, 64)])
def test_normalised_linear_layers(width: int, out: int) -> None:
    torch.manual_seed(0)
    layer = NormLinear(torch.nn.LayerNorm(width), Linear(width, out)).to(DEVICE)
    torch.nn.init.normal_(layer[0].bias)
    x = 3 * torch.randn(70, width, device=DEVICE) + 1
    from pc_perception.ops.gpu.neighborhood import norm_linear

    with torch.no_grad():
        expected = layer(x)
        found = norm_linear(x, layer[0].weight, layer[0].bias, *layer[1].factors())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
