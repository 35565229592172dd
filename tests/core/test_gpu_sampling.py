# SPDX-License-Identifier: Apache-2.0
"""Farthest point sampling in Triton against the reference, index by index."""

import pytest
import torch

from pc_perception.ops.sampling import farthest_point_sampling

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _both(points: torch.Tensor, *arguments: object, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    points = points.to(DEVICE)
    return tuple(  # type: ignore[return-value]
        farthest_point_sampling(points, *arguments, backend=b, **options)  # type: ignore[arg-type]
        for b in ("triton", "torch")
    )


def _cloud(kind: str, n: int) -> torch.Tensor:
    xyz = torch.randn(n, 3, generator=torch.Generator().manual_seed(n))
    return {"ball": xyz, "lattice": (2 * xyz).round(), "same": torch.ones(n, 3)}[kind]


@pytest.fixture(params=["one program", "passes"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "passes":
        from pc_perception.ops.gpu import sampling

        forced = lambda *a, run=sampling.sample_farthest: run(*a, one_program=0)  # noqa: E731
        monkeypatch.setattr(sampling, "sample_farthest", forced)
        monkeypatch.setattr(sampling, "TILE", 32)


@pytest.mark.parametrize("kind", ["ball", "lattice", "same"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_indices_are_the_reference_s(form: None, kind: str, dtype: torch.dtype) -> None:
    cloud = _cloud(kind, 100).to(dtype)
    for skip in (False, True):
        found, expected = _both(cloud, 12, start=7, skip_origin=skip)
        assert found.tolist() == expected.tolist()


def test_points_at_the_origin_are_padding(form: None) -> None:
    cloud = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.03, 0, 0], [2, 0, 0], [0, 0, 0]])
    assert _both(cloud, 4)[0].tolist() == [0, 3, 1, 2]
    assert _both(cloud, 4, skip_origin=True)[0].tolist() == [0, 3, 1, 1]
    assert _both(0 * cloud, 3, start=2, skip_origin=True)[0].tolist() == [2, 0, 0]


def test_dense_and_ragged_scenes(form: None) -> None:
    cloud = _cloud("lattice", 90)
    found, expected = _both(cloud, [4, 0, 9, 1], [0, 10, 10, 80, 90], start=[1, 0, 5, 9])
    assert found.tolist() == expected.tolist()
    found, expected = _both(cloud.reshape(3, 30, 3), 6)
    assert found.shape == (3, 6)
    assert found.tolist() == expected.tolist()


def test_one_point_none_and_layouts(form: None) -> None:
    assert _both(torch.ones(1, 3), 1)[0].tolist() == [0]
    assert _both(torch.zeros(0, 3), 0)[0].shape == (0,)
    assert _both(torch.zeros(0, 8, 3), 2)[0].shape == (0, 2)
    wide = torch.randn(50, 5, generator=torch.Generator().manual_seed(2))
    found, expected = _both(wide[:, 1:4], 8)
    assert found.tolist() == expected.tolist()
    out = torch.empty(8, dtype=torch.int64, device=DEVICE)
    given = wide[:, 1:4].half().to(DEVICE)
    assert farthest_point_sampling(given, 8, backend="triton", out=out) is out
    assert torch.equal(out, farthest_point_sampling(given, 8, backend="torch"))


def test_refuses_more_samples_than_points_and_nan() -> None:
    cloud = torch.zeros(4, 3, device=DEVICE)
    with pytest.raises(ValueError, match="cannot take 5 samples"):
        farthest_point_sampling(cloud, 5, backend="triton")
    with pytest.raises(ValueError, match="hold NaN"):
        farthest_point_sampling(cloud * torch.nan, 2, backend="triton")
