# SPDX-License-Identifier: Apache-2.0
"""The Triton kernel of shape features against the reference: planes, posts, balls, and places where roots meet."""

import pytest
import torch

from pc_perception.ops.grouping import Neighborhood
from pc_perception.ops.shape import moments, shape_features

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
AXES = [
    [1.0, 1.0, 0.0], [1.0, 1.0, 0.02], [0.02, 0.02, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0],
    [1.0, 0.5, 0.25], [0.0, 0.0, 0.0], [1e-3, 1e-3, 1e-4],
]  # fmt: skip


def _lists(lengths: list[int], n_rows: int) -> Neighborhood:
    starts = torch.tensor([0, *lengths]).cumsum(0)
    index = torch.randint(n_rows, (int(starts[-1]),), generator=torch.Generator().manual_seed(1))
    return Neighborhood(starts.to(DEVICE), index.to(DEVICE))


@pytest.mark.parametrize("at", [0.0, 70.0])
def test_equals_the_reference(at: float) -> None:
    g = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64)).Q
    parts = [
        torch.randn(n, 3, generator=g, dtype=torch.float64) * torch.tensor(a) for n in (3, 40) for a in AXES
    ]
    parts += [part @ turn for part in parts]
    row = torch.cat([torch.full((len(p),), i) for i, p in enumerate(parts)])
    sums = moments((torch.cat(parts) + at).to(DEVICE), row.to(DEVICE), len(parts), "torch")
    alone = Neighborhood(torch.arange(len(parts) + 1).to(DEVICE), torch.arange(len(parts)).to(DEVICE))
    for lists in (alone, _lists([0, 1, 27, 5] * 9, len(parts))):
        a, b = (shape_features(sums, lists, 0.5, backend) for backend in ("triton", "torch"))
        told = [0, 1, 2, 4]
        torch.testing.assert_close(a[:, told], b[:, told], atol=2e-3, rtol=0)
        flat = b[:, 1] > 0.05  # a normal is told only where one eigenvalue is the least
        torch.testing.assert_close(a[flat, 3], b[flat, 3], atol=2e-3, rtol=0)


def test_moments_and_few_points() -> None:
    xyz = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    row = (torch.arange(50) % 7).to(DEVICE)
    torch.testing.assert_close(moments(xyz, row, 9, "triton"), moments(xyz, row, 9, "torch"))
    alone = Neighborhood(torch.arange(2).to(DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE))
    two = moments(xyz[:2], row[:2] * 0, 1, "triton")
    assert shape_features(two, alone, 0.5, "triton").tolist() == [[0.0] * 5]
    nothing = Neighborhood(torch.zeros(1, dtype=torch.int64, device=DEVICE), row[:0])
    assert shape_features(two[:0], nothing, 0.5, "triton").shape == (0, 5)
