# SPDX-License-Identifier: Apache-2.0
"""Every operation against brute force and against its other backend."""

import itertools

import numpy as np
import pytest
import torch

from pc_perception.ops import ground, grouping, serialize, shape, voxelize

BACKENDS = ["torch", "numba"]


@pytest.fixture
def cloud() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(500, 3, generator=generator) * torch.tensor([8.0, 6.0, 2.0]) - 3.0


def test_z_order_interleaves_bits() -> None:
    coords = torch.tensor([[0b101, 0b011, 0b110]])
    # x0 y0 z0 x1 y1 z1 x2 y2 z2 from the lowest place up: 1 1 0, 0 1 1, 1 0 1
    assert int(serialize.z_order(coords)) == 0b101_110_011
    assert int(serialize.z_order(coords, axes=(1, 0, 2))) == int(serialize.z_order(coords[:, [1, 0, 2]]))


def test_z_order_of_the_largest_coordinate_is_positive() -> None:
    edge = 2**serialize.BITS - 1
    assert int(serialize.z_order(torch.tensor([[edge, edge, edge]]))) == 2 ** (3 * serialize.BITS) - 1


def test_parent_is_code_shifted_by_three(cloud: torch.Tensor) -> None:
    voxels = voxelize.voxelize(cloud, 0.3)
    assert torch.equal(voxels.codes >> 3, serialize.z_order(voxels.coords >> 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_voxelize_matches_brute_force(cloud: torch.Tensor, backend: str) -> None:
    voxels = voxelize.voxelize(cloud, 0.5, backend)
    cells = [tuple(c) for c in np.floor(cloud.double().numpy() / 0.5).astype(int)]
    assert len(voxels) == len(set(cells))
    assert bool((voxels.codes.diff() > 0).all())
    groups = {
        v: {cells[i] for i in torch.nonzero(voxels.inverse == v)[:, 0].tolist()} for v in range(len(voxels))
    }
    assert all(len(members) == 1 for members in groups.values())


def test_voxelize_backends_agree_exactly(cloud: torch.Tensor) -> None:
    a, b = (voxelize.voxelize(cloud, 0.4, backend) for backend in BACKENDS)
    assert torch.equal(a.codes, b.codes)
    assert torch.equal(a.coords, b.coords)
    assert torch.equal(a.inverse, b.inverse)


def test_voxelize_refuses_what_it_cannot_index() -> None:
    far = torch.tensor([[0.0, 0.0, 0.0], [1e9, 0.0, 0.0]])
    with pytest.raises(ValueError, match="crop it first"):
        voxelize.voxelize(far, 0.1)
    with pytest.raises(ValueError, match="must be positive"):
        voxelize.voxelize(far, 0.0)
    assert len(voxelize.voxelize(torch.zeros(0, 3), 0.1)) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_voxel_neighbors_match_brute_force(cloud: torch.Tensor, backend: str) -> None:
    coords = voxelize.voxelize(cloud, 0.5).coords
    lists = grouping.voxel_neighbors(coords, backend)
    row_of = {tuple(c): i for i, c in enumerate(coords.tolist())}
    for i, (x, y, z) in enumerate(coords.tolist()):
        offsets = itertools.product((-1, 0, 1), repeat=3)
        expected = [row_of.get((x + dx, y + dy, z + dz)) for dz, dy, dx in offsets]
        found = lists.index[lists.starts[i] : lists.starts[i + 1]].tolist()
        assert found == [r for r in expected if r is not None]


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbor_max_value_and_gradient(cloud: torch.Tensor, backend: str) -> None:
    lists = grouping.voxel_neighbors(voxelize.voxelize(cloud, 0.5).coords)
    features = torch.randn(len(lists), 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    out = grouping.neighbor_max(features, lists, backend)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weight).sum().backward()
    expected_grad = torch.zeros_like(features)
    for i in range(len(lists)):
        rows = lists.index[lists.starts[i] : lists.starts[i + 1]]
        value, winner = features.detach()[rows].max(0)
        assert torch.equal(out[i].detach(), value)
        expected_grad[rows[winner], torch.arange(5)] += weight[i]
    torch.testing.assert_close(features.grad, expected_grad)
    with torch.no_grad():
        assert torch.equal(grouping.neighbor_max(features, lists, backend), out)


@pytest.mark.parametrize("backend", BACKENDS)
def test_height_above_ground_on_a_slope(backend: str) -> None:
    generator = torch.Generator().manual_seed(1)
    plane = torch.rand(20_000, 3, generator=generator) * torch.tensor([40.0, 40.0, 0.0])
    plane[:, 2] = 0.1 * plane[:, 0] - 1.8
    post = torch.stack([torch.full((30,), 20.0), torch.full((30,), 20.0), torch.linspace(0.2, 3.0, 30)], 1)
    stray = torch.tensor([[10.0, 10.0, -9.0]])  # a reflection far below the road
    height = ground.height_above_ground(torch.cat([plane, post, stray]), backend=backend)[:, 0]
    assert float(height[:20_000].abs().max()) < 0.35
    torch.testing.assert_close(height[20_000:-1], post[:, 2] - 0.2, atol=0.15, rtol=0)


def test_height_above_ground_backends_agree(cloud: torch.Tensor) -> None:
    a, b = (ground.height_above_ground(cloud, 1.0, (0.25, 0.03), backend) for backend in BACKENDS)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    lonely = torch.tensor([[0.0, 0.0, 1.0], [50.0, 0.0, 2.0]])
    for backend in BACKENDS:
        assert ground.height_above_ground(lonely, backend=backend).tolist() == [[0.0], [0.0]]
        assert len(ground.height_above_ground(torch.zeros(0, 3), backend=backend)) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_shape_features_tell_plane_line_and_ball(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 4000, 3, generator=generator)
    scales = torch.tensor([[1.0, 1.0, 0.02], [0.02, 0.02, 1.0], [1.0, 1.0, 1.0]])
    xyz = (noise * scales[:, None] + 70.0).reshape(-1, 3)
    row = torch.arange(3).repeat_interleave(4000)
    alone = grouping.Neighborhood(torch.arange(4), torch.arange(3))
    plane, post, ball = shape.shape_features(shape.moments(xyz, row, 3), alone, 0.5, backend).tolist()
    assert plane == pytest.approx([0.0, 1.0, 0.16, 1.0, 0.16], abs=0.06)
    assert post[0] == pytest.approx(1.0, abs=0.01)
    assert post[4] == pytest.approx(8.0, rel=0.05)
    assert max(ball[:2]) < 0.1
    one_row = grouping.Neighborhood(torch.arange(2), torch.zeros(1, dtype=torch.int64))
    two_points = shape.moments(xyz[:2], row[:2], 1)
    assert shape.shape_features(two_points, one_row, 0.5, backend).tolist() == [[0.0] * 5]


def test_shape_features_backends_agree(cloud: torch.Tensor) -> None:
    voxels = voxelize.voxelize(cloud, 0.5)
    lists = grouping.voxel_neighbors(voxels.coords)
    sums = shape.moments(cloud, voxels.inverse, len(voxels))
    a, b = (shape.shape_features(sums, lists, 0.5, backend) for backend in BACKENDS)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_column_top() -> None:
    xyz = torch.tensor([[0.1, 0.1, 0.0], [0.2, 0.3, 5.0], [3.0, 0.1, 1.0]])
    assert shape.column_top(xyz, xyz[:, 2] + 1, 0.8).tolist() == [6.0, 6.0, 2.0]


def test_backend_can_be_forced_and_refuses_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    from pc_perception.ops import backend

    cpu = torch.device("cpu")
    assert backend.resolve(cpu) == "numba"
    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "torch")
    assert backend.resolve(cpu) == "torch"
    assert backend.resolve(cpu, "numba") == "numba"
    with pytest.raises(ValueError, match="unknown"):
        backend.resolve(cpu, "fast")
    with pytest.raises(ValueError, match="runs on the CPU"):
        backend.resolve(torch.device("meta"), "numba")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="triton"):
        backend.resolve(cpu, "triton")
    monkeypatch.delenv("PC_PERCEPTION_BACKEND")
    assert backend.available(cpu) == ("numba", "torch")


@pytest.mark.parametrize(("found", "usable"), [("3.1.0", False), ("3.3.1", True), ("4.0", True)])
def test_an_old_triton_leaves_cuda_to_the_reference(
    found: str, usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pc_perception.ops import backend

    monkeypatch.setattr(backend, "find_spec", lambda name: name)
    monkeypatch.setattr(backend, "version", lambda name: found)
    backend._has_triton.cache_clear()
    try:
        assert backend.resolve(torch.device("cuda")) == ("triton" if usable else "torch")
        if not usable:
            with pytest.raises(ValueError, match=r"triton, 3\.3 or newer"):
                backend.resolve(torch.device("cuda"), "triton")
    finally:
        backend._has_triton.cache_clear()
