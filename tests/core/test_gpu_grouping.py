# SPDX-License-Identifier: Apache-2.0
"""The Triton neighbour lists and the maximum over them against the reference."""

import pytest
import torch

from pc_perception.ops.grouping import Neighborhood, neighbor_max, voxel_neighbors

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _coords(n: int, at: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    cells = torch.cartesian_prod(*[torch.arange(9)] * 3)
    return (cells[torch.randperm(len(cells), generator=generator)[:n]] + at).to(DEVICE)


@pytest.mark.parametrize("n", [0, 1, 5, 90])
def test_voxel_neighbors_equal_the_reference(n: int) -> None:
    for coords in (_coords(n), _coords(n, 2**20 - 9), _coords(n).T.contiguous().T):
        a, b = (voxel_neighbors(coords, backend) for backend in ("triton", "torch"))
        assert torch.equal(a.starts, b.starts)
        assert torch.equal(a.index, b.index)


@pytest.mark.parametrize(
    ("n", "width", "dtype"),
    [(1, 1, torch.float32), (60, 5, torch.float64), (80, 130, torch.float32), (40, 8, torch.float16)],
)
def test_neighbor_max_equals_the_reference(n: int, width: int, dtype: torch.dtype) -> None:
    lists = voxel_neighbors(_coords(n), "torch")
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(n, 2 * width, generator=generator).to(DEVICE, dtype)[:, ::2]
    a, b = (values.clone().requires_grad_() for _ in range(2))
    out, expected = neighbor_max(a, lists, "triton"), neighbor_max(b, lists, "torch")
    assert torch.equal(out, expected)
    assert torch.equal(neighbor_max(values, lists, "triton"), expected)
    weight = torch.randn(out.shape, generator=generator).to(DEVICE, dtype)
    for result in (out, expected):
        (result * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_the_first_of_equals_wins_and_nan_is_the_greatest() -> None:
    lists = Neighborhood(
        torch.tensor([0, 3, 5, 8, 8], device=DEVICE), torch.tensor([2, 1, 0, 0, 3, 4, 5, 0], device=DEVICE)
    )
    values = torch.tensor([[1.0], [1.0], [1.0], [-torch.inf], [2.0], [torch.nan]], device=DEVICE)
    values.requires_grad_()
    out = neighbor_max(values, lists, "triton")
    assert str(out[:, 0].tolist()) == "[1.0, 1.0, nan, -inf]"
    (out * torch.tensor([[1.0], [2.0], [4.0], [8.0]], device=DEVICE)).sum().backward()
    assert values.grad[:, 0].tolist() == [2, 0, 1, 0, 0, 4]


def test_no_lists_at_all() -> None:
    lists = Neighborhood(torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)).to(DEVICE)
    values = torch.zeros(0, 3, device=DEVICE, requires_grad=True)
    out = neighbor_max(values, lists, "triton")
    out.sum().backward()
    assert out.shape == values.grad.shape == (0, 3)


def test_lists_beyond_the_capacity_are_left_out() -> None:
    from pc_perception.ops.gpu.grouping import lists_into

    table = torch.tensor([[0, -1, 2], [1, 1, -1]], dtype=torch.int32, device=DEVICE)
    starts, index = torch.full((4,), 9, device=DEVICE), torch.full((3,), 9, device=DEVICE)
    lists_into(table, starts, index)
    assert starts.tolist() == [0, 2, 3, 4]
    assert index.tolist() == [0, 1, 1]
