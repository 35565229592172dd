# SPDX-License-Identifier: Apache-2.0
"""The Triton kernel maps against the reference, pair for pair, and into buffers of fixed capacity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_perception.ops.kernel_maps import strided_map, submanifold_map
from pc_perception.ops.serialize import z_order

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NAMES = ("in_row", "out_row", "starts")


def _scenes(sizes: list[int], at: int = 0) -> tuple[torch.Tensor, tuple[int, ...]]:
    g = torch.Generator().manual_seed(sum(sizes))
    cells = torch.cartesian_prod(*[torch.arange(8)] * 3) + at
    scenes = [cells[torch.randperm(len(cells), generator=g)[:size]] for size in sizes]
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return torch.cat(scenes).to(DEVICE), tuple(starts)


CASES = [([0], 0), ([1], 0), ([200], 0), ([150], 2**20 - 8), ([3, 0, 120, 1, 60], 5)]


@pytest.mark.parametrize(("sizes", "at"), CASES)
def test_submanifold_equals_the_reference(sizes: list[int], at: int) -> None:
    coords, scenes = _scenes(sizes, at)
    coords = coords.T.contiguous().T
    a, b = (submanifold_map(coords, scenes, backend) for backend in ("triton", "torch"))
    assert a.n_out == b.n_out
    for name in NAMES:
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize(("sizes", "at"), [*CASES, ([1] * 70, 0)])
def test_strided_equals_the_reference(sizes: list[int], at: int) -> None:
    coords, scenes = _scenes(sizes, at)
    (a, *rest), (b, *expected) = (strided_map(coords, scenes, backend) for backend in ("triton", "torch"))
    assert a.n_out == b.n_out
    assert torch.equal(rest[0], expected[0])
    assert rest[1] == expected[1]
    for name in NAMES:
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@settings(deadline=None, max_examples=4)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=3), st.integers(0, 2**20 - 8))
def test_any_scenes(sizes: list[int], at: int) -> None:
    coords, scenes = _scenes(sizes, at)
    for build in (lambda b: submanifold_map(coords, scenes, b), lambda b: strided_map(coords, scenes, b)[0]):
        a, b = build("triton"), build("torch")
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in NAMES)


@pytest.mark.parametrize("build", [submanifold_map, strided_map])
@pytest.mark.parametrize("wrong", [-1, 2**20])
def test_refuses_coordinates_out_of_range(build, wrong: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="subtract their minimum"):
        build(torch.tensor([[0, 0, 0], [1, wrong, 0]], device=DEVICE), backend="triton")


def test_padded_voxels_into_buffers() -> None:
    from pc_perception.ops.gpu.kernel_maps import children_into, neighbors_into
    from pc_perception.ops.gpu.pairs import count_entries, pairs_into

    coords, scenes = _scenes([60, 40])
    padded = torch.cat([coords, coords.new_full((28, 3), -5)])
    edges, flag = torch.tensor(scenes, device=DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE)
    table = torch.empty(27, 128, dtype=torch.int32, device=DEVICE)
    neighbors_into(padded, edges, table, flag)
    expected = submanifold_map(coords, scenes, "torch")
    for capacity in (1000, 50):
        in_row, out_row, starts = (torch.full((n,), 7, device=DEVICE) for n in (capacity, capacity, 28))
        pairs_into(table, count_entries(table), in_row, out_row, starts)
        n = min(capacity, int(expected.starts[-1]))
        assert torch.equal(starts, expected.starts)
        assert torch.equal(in_row[:n], expected.in_row[:n])
        assert torch.equal(out_row[:n], expected.out_row[:n])
    table = torch.empty(8, 100, dtype=torch.int32, device=DEVICE)
    parents, out_edges = torch.empty(100, 3, dtype=torch.int64, device=DEVICE), torch.empty_like(edges)
    children_into(padded, edges, table, parents, out_edges, flag)
    halved, expected_parents, expected_edges = strided_map(coords, scenes, "torch")
    assert tuple(out_edges.tolist()) == expected_edges
    assert torch.equal(parents[: len(expected_parents)], expected_parents)
    assert int((table >= 0).sum()) == len(halved.in_row)
    assert flag.tolist() == [0]


def test_voxels_in_z_order_need_no_sort() -> None:
    from pc_perception.ops.gpu.kernel_maps import children_into

    coords, scenes = _scenes([90, 33])
    coords = torch.cat([c[z_order(c, backend="torch").argsort()] for c in coords.split([90, 33])])
    padded, edges = torch.cat([coords, coords[:9]]), torch.tensor(scenes, device=DEVICE)
    flag, sizes = torch.zeros(1, dtype=torch.int64, device=DEVICE), (len(padded), 50)
    found = []
    for in_z_order in (False, True):
        table = torch.empty(8, sizes[1], dtype=torch.int32, device=DEVICE)
        parents, out_edges = (
            torch.empty(sizes[1], 3, dtype=torch.int64, device=DEVICE),
            torch.empty_like(edges),
        )
        children_into(padded, edges, table, parents, out_edges, flag, in_z_order)
        found.append((table, parents, out_edges))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert tuple(found[1][2].tolist()) == strided_map(coords, scenes, "torch")[2]
