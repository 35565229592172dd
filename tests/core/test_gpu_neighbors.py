# SPDX-License-Identifier: Apache-2.0
"""Neighbour searches in Triton against the reference, index by index."""

from collections.abc import Callable

import pytest
import torch

from pc_perception.ops.neighbors import ball_query, k_nearest

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _agree(search: Callable, points: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
    """Run both backends; their indices must be identical. Returns the index."""
    arguments = tuple(a.to(DEVICE) if isinstance(a, torch.Tensor) else a for a in arguments)
    index, distance = search(points.to(DEVICE), *arguments, backend="triton", **options)
    expected, metres = search(points.to(DEVICE), *arguments, backend="torch", **options)
    assert index.tolist() == expected.tolist()
    assert distance.dtype == metres.dtype
    torch.testing.assert_close(distance, metres, rtol=1e-6, atol=0)
    return index


def _cloud(kind: str, n: int) -> torch.Tensor:
    xyz = torch.randn(n, 3, generator=torch.Generator().manual_seed(n))
    return {"ball": xyz, "lattice": (2 * xyz).round(), "same": torch.ones(n, 3)}[kind]


@pytest.fixture(params=["all pairs", "buckets"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from pc_perception.ops.gpu import neighbor_buckets, neighbors

    if request.param == "buckets":
        monkeypatch.setattr(neighbors, "ALL_PAIRS", 0)
        monkeypatch.setattr(neighbor_buckets, "POINTS", 16)
        monkeypatch.setattr(neighbor_buckets, "BUCKET", 32)


@pytest.mark.parametrize("kind", ["ball", "lattice", "same"])
def test_nearest(form: None, kind: str) -> None:
    cloud = _cloud(kind, 200)
    for k in (1, 3, 8):
        _agree(k_nearest, cloud, k, cloud[::9] + 0.25)
    _agree(k_nearest, cloud[:40], 5)


@pytest.mark.parametrize("kind", ["ball", "lattice", "same"])
@pytest.mark.parametrize("by_index", [False, True])
def test_ball(form: None, kind: str, by_index: bool) -> None:
    cloud = _cloud(kind, 200)
    for radius in (1.0, 1e30):  # steps of the lattice: points at exactly the radius
        _agree(ball_query, cloud, radius, 5, cloud[::11], by_index=by_index)
    _agree(ball_query, cloud, 0.3, 4, cloud[:9] + 0.3, by_index=by_index, fill_first=True)


def test_dense_and_ragged_scenes(form: None) -> None:
    cloud = _cloud("lattice", 60)
    dense = _agree(k_nearest, cloud.reshape(3, 20, 3), 5)
    assert dense.shape == (3, 20, 5)
    packed = _agree(k_nearest, cloud, 5, offsets=[0, 20, 40, 60])
    assert packed.tolist() == [[20 * (i // 20) + j for j in row] for i, row in enumerate(dense.view(60, 5))]
    _agree(k_nearest, cloud, 3, cloud[:7], [0, 2, 2, 60], [0, 3, 5, 7])
    _agree(ball_query, cloud, 1.0, 3, cloud[:4], [0, 30, 60], [0, 0, 4], by_index=True)


def test_fewer_points_than_neighbors(form: None) -> None:
    assert _agree(k_nearest, torch.zeros(2, 3), 4, torch.ones(1, 3)).tolist() == [[0, 1, -1, -1]]
    assert _agree(k_nearest, torch.zeros(0, 3), 2, torch.ones(3, 3)).tolist() == [[-1, -1]] * 3
    assert _agree(k_nearest, torch.zeros(5, 3), 2, torch.zeros(0, 3)).shape == (0, 2)
    assert _agree(k_nearest, torch.zeros(1, 3), 1).tolist() == [[0]]
    assert _agree(k_nearest, torch.zeros(0, 4, 3), 2).shape == (0, 4, 2)
    _agree(k_nearest, _cloud("ball", 140), 129, torch.zeros(2, 3))  # too many for the kernel


def test_layouts_precisions_and_buffers(form: None) -> None:
    wide = torch.randn(50, 5, generator=torch.Generator().manual_seed(2))
    expected = _agree(k_nearest, wide[:, 1:4], 4)
    assert torch.equal(_agree(k_nearest, wide[:, 1:4].double(), 4), expected)
    _agree(k_nearest, wide[:, 1:4].half(), 4)
    out = torch.empty(50, 4, dtype=torch.int64, device=DEVICE), torch.empty(50, 4, device=DEVICE)
    assert k_nearest(wide[:, 1:4].to(DEVICE), 4, backend="triton", out=out)[0] is out[0]
    assert torch.equal(out[0], expected)


def test_refuses_nan() -> None:
    with pytest.raises(ValueError, match="1 of 1 queries hold NaN"):
        k_nearest(
            torch.zeros(4, 3, device=DEVICE),
            1,
            torch.full((1, 3), torch.nan, device=DEVICE),
            backend="triton",
        )
