# SPDX-License-Identifier: Apache-2.0
"""Voxels of clouds anywhere and of any size, and the features of their points."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops.radix_sort import sort_codes, sort_floats
from pc_perception.ops.serialize import z_order
from pc_perception.ops.voxelize import ORDERS, Voxels, pool_features, voxelize

BACKENDS = ["torch", "numba"]
FIELDS = ("coords", "codes", "inverse", "first")


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 200),
    st.floats(1e-3, 1e4),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([0.01, 0.05, 1.7]),
)
def test_backends_agree_exactly(n: int, extent: float, at: float, grid: float) -> None:
    xyz = torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).clamp(-3, 3) * extent + at
    if float(xyz.amax() - xyz.amin()) / grid > 2**20 - 32:
        return
    for order in ORDERS:
        a, b = (voxelize(xyz, grid, backend, order=order) for backend in BACKENDS)
        for name in FIELDS:
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert bool((torch.diff(a.codes if order == "z" else a.first) > 0).all())
    cells, first, inverse = np.unique(
        np.floor(xyz.double().numpy() / grid).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    assert len(a) == len(cells)
    assert sorted(first.tolist()) == sorted(a.first.tolist())
    assert torch.equal(a.first[a.inverse], torch.from_numpy(first[inverse.reshape(-1)]))
    assert torch.equal(a.codes, z_order(a.coords))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keys_do_not_wrap_far_from_the_origin(dtype: torch.dtype, backend: str) -> None:
    xyz = torch.tensor([[1e6, -1e6, 1e6], [1e6 + 1, -1e6, 1e6], [1e6, -1e6, 1e6]], dtype=dtype)
    assert voxelize(xyz, 0.01, backend).inverse.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="crop it first"):
        voxelize(torch.cat([xyz, -xyz]), 0.01, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_voxelize_refuses_nan(backend: str) -> None:
    for wrong in (torch.nan, -torch.nan, torch.inf, -torch.inf):
        xyz = torch.ones(5, 3)
        xyz[2, 1] = wrong
        with pytest.raises(ValueError, match="NaN or Inf"):
            voxelize(xyz, 0.1, backend)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 2**60 - 1)), st.integers(1, 60))
def test_sort_codes(codes: list[int], n_bits: int) -> None:
    given_codes = np.array([c >> (60 - n_bits) for c in codes], np.int64)
    before = given_codes.copy()
    found, order = sort_codes(given_codes, n_bits)
    assert np.array_equal(order, np.argsort(before, kind="stable"))
    assert np.array_equal(found, before[order])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=50))
def test_sort_floats(values: list[float]) -> None:
    given_values = np.array(values, np.float32)
    np.testing.assert_array_equal(sort_floats(given_values), np.sort(given_values))
    np.testing.assert_array_equal(given_values, np.array(values, np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes_that_share_a_slot_are_told_apart(backend: str) -> None:
    lattice = torch.cartesian_prod(*[torch.arange(18.0)] * 3) + 0.5
    mixed = lattice[torch.randperm(len(lattice), generator=torch.Generator().manual_seed(0))]
    voxels = voxelize(torch.cat([mixed, mixed]), 1.0, backend, order="first")
    assert torch.equal(voxels.inverse, torch.arange(len(mixed)).repeat(2))
    assert torch.equal(voxels.coords.float() + 0.5, mixed)
    with pytest.raises(ValueError, match="order 'hilbert' is unknown; choose one of z, first"):
        voxelize(mixed, 1.0, backend, order="hilbert")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_room_takes_sweep_after_sweep(backend: str, order: str) -> None:
    room = Voxels.room(400)
    for n in (300, 0, 1, 400):
        xyz = torch.rand(n, 3, generator=torch.Generator().manual_seed(n)) * 5
        expected, found = (voxelize(xyz, 0.7, backend, out, order) for out in (None, room))
        for name in FIELDS:
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
            assert getattr(found, name).data_ptr() == (getattr(room, name).data_ptr() if n else 0), name
    with pytest.raises(ValueError, match="room for 401 points on cpu, it has for 400"):
        voxelize(torch.rand(401, 3), 0.7, backend, out=room)


@pytest.mark.parametrize("order", ORDERS)
def test_a_room_spares_large_allocations(order: str) -> None:
    xyz, room = torch.rand(100_000, 3), Voxels.room(100_000)
    voxelize(xyz, 0.01, out=room, order=order)
    tracemalloc.start()
    try:
        voxelize(xyz, 0.01, out=room, order=order)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("backend", BACKENDS)
def test_pool_features(backend: str) -> None:
    g = torch.Generator().manual_seed(0)
    xyz = torch.rand(300, 6, generator=g)[:, ::2]
    features = torch.randn(300, 4, generator=g).requires_grad_()
    voxels = voxelize(xyz, 0.3, backend)
    for v in range(len(voxels)):
        rows = features[voxels.inverse == v]
        expected = {"first": rows[0], "mean": rows.mean(0), "max": rows.max(0).values}
        for reduce, row in expected.items():
            torch.testing.assert_close(pool_features(features, voxels, reduce, backend)[v], row)
    pool_features(features, voxels, "first", backend).sum().backward()
    assert int(features.grad[:, 0].sum()) == len(voxels)
    with pytest.raises(ValueError, match="choose mean, max or first"):
        pool_features(features, voxels, "last", backend)
    with pytest.raises(ValueError, match="300 points"):
        pool_features(features[:5], voxels, "mean", backend)


def test_concurrent_calls() -> None:
    xyz = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0))
    expected = voxelize(xyz, 0.1, "torch")
    with ThreadPoolExecutor(4) as pool:
        for voxels in pool.map(lambda _: voxelize(xyz, 0.1), range(16)):
            assert torch.equal(voxels.inverse, expected.inverse)
