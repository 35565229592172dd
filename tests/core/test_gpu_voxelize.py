# SPDX-License-Identifier: Apache-2.0
"""The Triton voxels against the reference, index for index, and into buffers of fixed capacity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops.voxelize import ORDERS, Voxels, voxelize

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FIELDS = ("coords", "codes", "inverse", "first")


def _cloud(n: int, extent: float, at: float) -> torch.Tensor:
    return (torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).clamp(-3, 3) * extent + at).to(
        DEVICE
    )


def _assert_same(a: Voxels, b: Voxels) -> None:
    for name in FIELDS:
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "extent", "at", "grid"),
    [
        (1, 1.0, 0.0, 0.1),
        (700, 1.0, -5.0, 0.3),
        (1500, 10.0, 1e6, 0.05),
        (600, 1e3, 0.0, 0.01),
        (50, 0, 7, 1.7),
    ],
)
def test_equals_the_reference(n: int, extent: float, at: float, grid: float, dtype: torch.dtype) -> None:
    xyz = _cloud(n, extent, at).to(dtype)
    xyz = torch.cat([xyz, xyz], 1)[:, ::2][:, [0, 2, 1]] if n == 700 else xyz
    for order in ORDERS:
        _assert_same(voxelize(xyz, grid, "triton", order=order), voxelize(xyz, grid, "torch", order=order))


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 600),
    st.floats(1e-3, 1e4),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([0.01, 0.05, 1.7]),
)
def test_any_cloud(n: int, extent: float, at: float, grid: float) -> None:
    xyz = _cloud(n, extent, at)
    if float(xyz.amax() - xyz.amin()) / grid <= 2**20 - 32:
        _assert_same(voxelize(xyz, grid, "triton"), voxelize(xyz, grid, "torch"))


def test_none_at_all() -> None:
    assert len(voxelize(torch.zeros(0, 3, device=DEVICE), 0.1, "triton")) == 0


def test_refuses_what_it_cannot_index() -> None:
    for wrong in (torch.nan, torch.inf, -torch.inf):
        xyz = torch.ones(5, 3, device=DEVICE)
        xyz[2, 1] = wrong
        with pytest.raises(ValueError, match="NaN or Inf"):
            voxelize(xyz, 0.1, "triton")
    with pytest.raises(ValueError, match="crop it first"):
        voxelize(torch.tensor([[1e6, 0, 0], [-1e6, 0, 0]], device=DEVICE), 0.01, "triton")
    far = torch.full((2, 3), 1e30, device=DEVICE)
    _assert_same(voxelize(far, 0.1, "triton"), voxelize(far, 0.1, "torch"))


@pytest.mark.parametrize("capacity", [300, 40])
def test_padded_points_into_buffers(capacity: int) -> None:
    from pc_perception.ops.gpu.voxelize import voxelize_into

    xyz = _cloud(400, 1.0, 3.0)
    expected = voxelize(xyz[:250], 0.5, "torch")
    xyz[250:] = torch.nan
    coords, codes, inverse, first = (
        torch.full(s, 77, device=DEVICE) for s in ((capacity, 3), (capacity,), (400,), (capacity,))
    )
    status = torch.full((2,), 77, device=DEVICE)
    n_points = torch.tensor([250], device=DEVICE)
    voxelize_into(xyz, 0.5, coords, codes, inverse, first, status, n_points)
    assert status.tolist() == [len(expected), 0]
    m = min(len(expected), capacity)
    assert torch.equal(coords[:m], expected.coords[:m])
    assert torch.equal(codes[:m], expected.codes[:m])
    assert torch.equal(first[:m], expected.first[:m])
    assert bool((codes[m:] == torch.iinfo(torch.int64).max).all() & (coords[m:] == 0).all())
    kept = torch.where(expected.inverse < capacity, expected.inverse, -1)
    assert torch.equal(inverse, torch.cat([kept, kept.new_full((150,), -1)]))
