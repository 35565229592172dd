# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels of heights and column tops against the references, and where there is no room."""

from __future__ import annotations

import pytest
import torch

from pc_perception.ops import ground, shape

pytest.importorskip("triton")

from pc_perception.ops.gpu import ground as gpu

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SLOPES = (0.25, 0.03)


def _hills(n: int, size: tuple[float, float], seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    xy = torch.rand(n, 2, generator=g) * torch.tensor(size) - 10
    z = torch.sin(xy[:, 0] / 5) + torch.cos(xy[:, 1] / 7) + torch.rand(n, generator=g) ** 3 * 4
    return torch.cat([xy, z[:, None]], 1)


def _clouds() -> dict[str, torch.Tensor]:
    hills = _hills(1500, (30.0, 21.0))
    digs = torch.tensor([[0.0, 0.0, -9.0], [3.5, 3.5, -8.0], [3.5, 3.5, -7.9], [-7.0, 5.0, -6.0]])
    x, y, z = (torch.linspace(0, 12, 300), torch.full((300,), 4.0), torch.rand(300))
    return {
        "hills": hills,
        "holes": torch.cat([hills[(hills[:, :2] - 3).norm(dim=1) > 6], digs]),
        "far from the origin": hills + torch.tensor([5e5, -3e5, 5.0]),
        "random": torch.randn(500, 3, generator=torch.Generator().manual_seed(1)) * 8,
        "longer than a short side": _hills(400, (3.0, 140.0)),
        "cells of one point": _hills(40, (80.0, 80.0)),
        "one cell of two": torch.cat([_hills(40, (80.0, 80.0)), torch.tensor([[2.0, 2.0, 1.0]] * 2)]),
        "along x": torch.stack([x, y, z], 1),
        "along y": torch.stack([y, x, z], 1),
        "one point": torch.tensor([[3.0, -4.0, 5.0]]),
        "all equal": torch.tensor([[3.0, -4.0, -5.0]]).repeat(50, 1),
        "lowest twice": torch.cat([hills, hills[hills[:, 2] < 0]]),
        "on the edges of cells": hills.round(),
        "signed zeros": torch.tensor(
            [[0.0, -0.0, -0.0], [-0.0, 0.0, 0.0], [1.0, 0.0, 0.2], [1.2, 0.0, -0.0]]
        ),
    }


CLOUDS = _clouds()


@pytest.mark.parametrize("name", CLOUDS)
def test_equals_the_reference(name: str) -> None:
    xyz = CLOUDS[name].to(DEVICE)
    expected = ground.height_above_ground(xyz, 1.0, SLOPES, "torch")
    found = ground.height_above_ground(xyz, 1.0, SLOPES, "triton")
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    for height in (xyz[:, 2], expected[:, 0], -expected[:, 1].contiguous()):
        top = shape.column_top(xyz, height, 0.7, "triton")
        assert torch.equal(top, shape.column_top(xyz, height, 0.7, "torch"))


@pytest.mark.parametrize("cell", [0.3, 0.1, 2.5])
def test_columns_are_numbered_as_by_the_reference(cell: float) -> None:
    """Points on a lattice of the edge itself: the last bit of the division decides."""
    i = torch.arange(600, dtype=torch.float32)
    xyz = torch.stack([i % 25 * cell, i // 25 * cell, torch.sin(i)], 1).to(DEVICE)
    rank = torch.arange(600, dtype=torch.float32, device=DEVICE)
    assert torch.equal(
        shape.column_top(xyz, rank, cell, "triton"), shape.column_top(xyz, rank, cell, "torch")
    )
    a, b = (ground.height_above_ground(xyz, cell, (0.25,), backend) for backend in ("triton", "torch"))
    torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def _run(
    xyz: torch.Tensor, used: torch.Tensor, n_cells: int, cell: float = 1.0, side: int = 128
) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """Heights and tops in buffers full of something else, and both statuses."""
    work, n = gpu.new_grid(n_cells, 2, DEVICE, side), len(xyz)
    for buffer in work[:-1]:
        buffer.fill_(77)
    heights, tops = torch.full((n, 2), 7.0, device=DEVICE), torch.full((n,), 7.0, device=DEVICE)
    status = torch.zeros(2, dtype=torch.int64, device=DEVICE)
    gpu.heights_into(xyz, used, cell, SLOPES, work, heights, status[:1])
    gpu.column_top_into(xyz, used, xyz[:, 2], cell, work, tops, status[1:])
    return heights, tops, *status.tolist()


def test_unused_rows_are_left_out() -> None:
    cloud = _hills(800, (30.0, 21.0), 3)
    used = torch.rand(800, generator=torch.Generator().manual_seed(0)) < 0.6
    xyz = torch.where(used[:, None], cloud, torch.nan)
    xyz[~used & (torch.arange(800) % 2 == 0)] = torch.tensor([1e9, -1e9, -50.0])
    xyz, used = xyz.to(DEVICE), used.to(DEVICE)
    heights, tops, *status = _run(xyz, used, 1000)
    assert status == [0, 0]
    expected = ground.height_above_ground(xyz[used], 1.0, SLOPES, "torch")
    torch.testing.assert_close(heights[used], expected, atol=2e-5, rtol=0)
    assert torch.equal(tops[used], shape.column_top(xyz[used], xyz[used][:, 2], 1.0, "torch"))
    assert not heights[~used].any()
    assert not tops[~used].any()


def test_nothing_is_used() -> None:
    xyz = torch.full((20, 3), torch.nan, device=DEVICE)
    for n in (20, 0):
        used = torch.zeros(n, dtype=torch.bool, device=DEVICE)
        heights, tops, *status = _run(xyz[:n], used, 1000)
        assert status == [0, 0]
        assert not heights.any()
        assert not tops.any()


@pytest.mark.parametrize(
    ("x", "y", "n_cells", "status"),
    [
        (9.5, 9.5, 100, [0, 0]),
        (9.5, 9.5, 99, [1, 1]),
        (127.5, 0.0, 200, [0, 0]),
        (128.5, 0.0, 200, [1, 0]),  # too long a line
        (0.0, 128.5, 200, [1, 0]),
        (20_100.0, 0.0, 30_000, [1, 1]),  # the edge would have to grow
        (3000.0, 1400.0, 5_000_000, [1, 1]),
    ],
)
def test_says_where_there_is_no_room(x: float, y: float, n_cells: int, status: list[int]) -> None:
    xyz = torch.tensor([[0.0, 0.0, 1.0], [x, y, 1.1]], device=DEVICE)
    heights, tops, *found = _run(xyz, torch.ones(2, dtype=torch.bool, device=DEVICE), n_cells)
    assert found == status
    assert not heights.any()  # single points are their own ground; without room nothing is told
    assert tops.tolist() == ([0.0, 0.0] if status[1] else xyz[:, 2].tolist())


def test_without_room_the_ordinary_way_is_taken() -> None:
    xyz = torch.cat([_hills(200, (30.0, 20.0)), torch.tensor([[1500.0, 0.0, 1.0]])]).to(DEVICE)
    assert gpu.heights(xyz, 1.0, SLOPES) is None
    a, b = (ground.height_above_ground(xyz, 1.0, (0.25,), backend) for backend in ("triton", "torch"))
    torch.testing.assert_close(a, b, atol=2e-5, rtol=0)
    wide = xyz * torch.tensor([100.0, 100.0, 1.0], device=DEVICE)
    assert gpu.column_top(wide, wide[:, 2], 1.0) is None
    a, b = (shape.column_top(wide, wide[:, 2], 1.0, backend) for backend in ("triton", "torch"))
    assert torch.equal(a, b)
    assert gpu.heights(xyz.double(), 1.0, SLOPES) is None
