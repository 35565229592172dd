# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels of the space-filling curves against the reference, bit for bit."""

import pytest
import torch

from pc_perception.ops.serialize import BITS, hilbert, z_order

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("curve", [z_order, hilbert])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("n", [0, 1, 600])
def test_equals_the_reference(curve, axes: tuple[int, int, int], n: int) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(n)
    coords = torch.randint(0, 2**BITS, (n, 6), generator=generator)[:, ::2].to(DEVICE)
    coords[: n // 3] >>= 12
    for lattice in (coords, coords.int(), coords.flip(0).T.contiguous().T):
        assert torch.equal(curve(lattice, axes, "triton"), curve(lattice, axes, "torch"))


def test_the_largest_coordinate() -> None:
    edge = torch.full((2, 3), 2**BITS - 1, device=DEVICE)
    assert z_order(edge, backend="triton").tolist() == [2 ** (3 * BITS) - 1] * 2
    assert torch.equal(hilbert(edge, backend="triton"), hilbert(edge, backend="torch"))


@pytest.mark.parametrize("wrong", [-1, 2**BITS])
def test_hilbert_refuses_what_would_fold(wrong: int) -> None:
    with pytest.raises(ValueError, match="subtract their minimum"):
        hilbert(torch.tensor([[0, wrong, 0]], device=DEVICE), backend="triton")


def test_four_curves_at_once() -> None:
    from pc_perception.ops.gpu.serialize import curves_into

    coords = torch.randint(0, 2**BITS, (300, 3), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    out = torch.empty(4, 300, dtype=torch.int64, device=DEVICE)
    flag = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    curves_into(coords, out, flag)
    expected = [
        curve(coords, axes, "torch") for curve in (z_order, hilbert) for axes in ((0, 1, 2), (1, 0, 2))
    ]
    assert torch.equal(out, torch.stack(expected))
    assert flag.tolist() == [0]
