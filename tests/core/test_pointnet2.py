# SPDX-License-Identifier: Apache-2.0
"""pointnet2_ops as a backend: refused on the CPU, its filled lists undone, equal to the reference on CUDA."""

from __future__ import annotations

import pytest
import torch

from pc_perception.ops.backend import available
from pc_perception.ops.neighbors import ball_query
from pc_perception.ops.pointnet2_adapter import unfilled
from pc_perception.ops.sampling import farthest_point_sampling

RADIUS, K = 0.2, 8


def clouds(device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    points, queries = torch.rand(3, 300, 3, generator=g), torch.rand(3, 50, 3, generator=g)
    queries[:, 0] = 9.0  # nothing is near
    return points.to(device), queries.to(device)


def test_it_is_refused_on_the_cpu() -> None:
    points, queries = clouds()
    with pytest.raises(ValueError, match=r"pointnet2' (needs the package pointnet2_ops|runs on CUDA)"):
        farthest_point_sampling(points, 4, skip_origin=True, backend="pointnet2")
    with pytest.raises(ValueError, match=r"pointnet2' (needs the package pointnet2_ops|runs on CUDA)"):
        ball_query(points, RADIUS, K, queries, by_index=True, backend="pointnet2")
    assert "pointnet2" not in available(torch.device("cpu"))


def test_lists_filled_as_pointnet2_ops_does_are_undone() -> None:
    points, queries = clouds()
    index, distance = ball_query(points, RADIUS, K, queries, by_index=True, backend="torch")
    filled, _ = ball_query(points, RADIUS, K, queries, by_index=True, fill_first=True, backend="torch")
    counts = (index >= 0).sum(-1)
    assert {0, 1, K} <= set(counts.flatten().tolist())  # empty, nearly empty and full lists
    found = unfilled(filled.clamp(min=0), points, queries, RADIUS)
    assert torch.equal(found[0], index)
    assert torch.equal(found[1], distance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equals_the_reference_on_cuda() -> None:
    pytest.importorskip("pointnet2_ops", reason="pointnet2_ops is not installed")
    points, queries = clouds("cuda")
    chosen = farthest_point_sampling(points, 32, skip_origin=True, backend="pointnet2")
    assert torch.equal(chosen, farthest_point_sampling(points, 32, skip_origin=True, backend="torch"))
    found = ball_query(points, RADIUS, K, queries, by_index=True, backend="pointnet2")
    expected = ball_query(points, RADIUS, K, queries, by_index=True, backend="torch")
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
