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


@pytest.fixture(params=["alone", "four warps", "together", "together in four warps", "passes"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from pc_perception.ops.gpu import sampling

    warps = 4 if "four" in request.param else 1

    def forced(xyz, starts, first, ends, largest, most, skip, out):  # type: ignore[no-untyped-def]
        scenes = xyz, starts, first, ends
        if request.param == "passes":
            sampling.sample_in_passes(*scenes, largest, most, skip, out)
        elif "together" in request.param and xyz.dtype == torch.float32:
            # Interpreted programs run one after the other: none may wait.
            tile = 32 * warps if xyz.is_cuda else 128
            sampling.sample_together(*scenes, largest, most, skip, out, tile, warps)
        else:
            sampling.sample_alone(*scenes, skip, out, 128, warps)

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


def test_what_runs_where(monkeypatch: pytest.MonkeyPatch) -> None:
    from pc_perception.ops.gpu import sampling

    monkeypatch.setattr(sampling, "ALONE", 16)
    monkeypatch.setattr(sampling, "ONE_PROGRAM", 64)
    for n in (10, 40, 100):  # one program, and passes: without CUDA programs do not run together
        found, expected = _both(_cloud("ball", n), 9)
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("scenes", "largest", "most", "tile"),
    [
        (1, 34_720, 4096, 2048),
        (1, 120_000, 16_384, 4096),
        (16, 8192, 1024, 1024),
        (17, 8192, 1024, 2048),
        (1, 1_000_000, 512, 8192),
        (1, 1_100_000, 512, None),  # more programs than can run
        (1, 120_000, 1_000_000, None),  # too much to tell
        (200, 5000, 64, None),
    ],
)
def test_programs_that_can_all_run_at_once(
    monkeypatch: pytest.MonkeyPatch, scenes: int, largest: int, most: int, tile: int | None
) -> None:
    from types import SimpleNamespace

    from pc_perception.ops.gpu.sampling import tile_together

    here = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: here)
    xyz = SimpleNamespace(is_cuda=True, dtype=torch.float32, device="cuda")
    assert tile_together(xyz, scenes, largest, most) == tile  # type: ignore[arg-type]
    assert tile_together(torch.zeros(1, 3), scenes, largest, most) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["ball", "lattice", "same"])
def test_large_clouds_in_programs_that_wait_for_each_other(kind: str) -> None:
    from pc_perception.ops.gpu import sampling

    for n, m in ((5000, 300), (34_720, 700), (131_073, 500), (300_000, 200)):
        cloud = _cloud(kind, n).to(DEVICE)
        assert sampling.tile_together(cloud, 1, n, m)
        for skip in (False, True):
            found, expected = _both(cloud, m, start=n - 1, skip_origin=skip)
            assert torch.equal(found, expected)
    cloud = _cloud(kind, 60_000)
    found, expected = _both(cloud, [50, 0, 200, 1], [0, 9000, 9000, 59_000, 60_000], start=[1, 0, 5, 9])
    assert torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_two_large_clouds_on_two_streams() -> None:
    clouds = [_cloud("ball", n).to(DEVICE) for n in (90_000, 100_000)]
    expected = [farthest_point_sampling(c, 400, backend="torch") for c in clouds]
    torch.cuda.synchronize()
    for _ in range(20):  # neither may wait for programs that the other one keeps from running
        found = []
        for cloud in clouds:
            with torch.cuda.stream(torch.cuda.Stream()):
                found.append(farthest_point_sampling(cloud, 400, backend="triton"))
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
