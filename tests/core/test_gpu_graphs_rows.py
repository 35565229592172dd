# SPDX-License-Identifier: Apache-2.0
"""The forms with caller-supplied buffers can be captured in CUDA graphs: they never wait for the device.

Without a GPU, the operations of torch that would wait or bring data from the host are refused; with one, the calls are
captured and replayed on other data.
"""

from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pc_perception.models.layers import NeighborhoodBlock, SequenceBlock
from pc_perception.models.walks import backwards
from pc_perception.ops.grouping import Neighborhood, voxel_neighbors
from pc_perception.ops.kernel_maps import strided_map, submanifold_map
from pc_perception.ops.voxelize import voxelize

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WAITING = ("_local_scalar_dense", "nonzero", "_unique", "unique_", "repeat_interleave", "lift_fresh", "equal")
WAITING += ("masked_select", "_to_copy", "index_put")
N, VOXELS, PAIRS = 96, 80, 1000


class NeverWait(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.__name__.split(".")[0]
        assert not name.startswith(WAITING), f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def _integers(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=DEVICE)


class _Chain:
    """Points to voxels, means, neighbours, pairs, parents and one convolution, all in buffers."""

    def __init__(self) -> None:
        self.xyz, self.n_points = torch.zeros(N, 3, device=DEVICE), _integers(1)
        self.voxels = _integers(VOXELS, 3), _integers(VOXELS), _integers(N), _integers(VOXELS)
        self.status, self.flag, self.edges = _integers(2), _integers(1), _integers(2)
        self.bad, self.sums = _integers(1, dtype=torch.int32), torch.zeros(VOXELS, 3, device=DEVICE)
        self.table = _integers(27, VOXELS, dtype=torch.int32)
        self.lists = _integers(VOXELS + 1), _integers(PAIRS)
        self.pairs = _integers(PAIRS), _integers(PAIRS), _integers(28)
        self.children = _integers(8, VOXELS, dtype=torch.int32), _integers(VOXELS, 3), _integers(2)
        self.codes, self.greatest = _integers(VOXELS), torch.zeros(VOXELS, 3, device=DEVICE)
        self.weight, self.out = torch.ones(27, 3, 2, device=DEVICE), torch.zeros(VOXELS, 2, device=DEVICE)
        self.image = _integers(4, 9), _integers(4, 9), torch.zeros(4, 9, device=DEVICE)

    def run(self) -> None:
        from pc_perception.ops.gpu import grouping, kernel_maps, pairs, range_image, scatter, serialize
        from pc_perception.ops.gpu.sparse_convolution import convolve_into
        from pc_perception.ops.gpu.voxelize import voxelize_into

        coords, _, inverse, _ = self.voxels
        voxelize_into(self.xyz, 0.5, *self.voxels, self.status, self.n_points)
        self.edges[1:].copy_(self.status[:1])
        self.sums.zero_()
        scatter.scatter_sum_into(self.xyz, inverse, self.sums, self.bad)
        kernel_maps.neighbors_into(coords, self.edges, self.table, self.flag)
        grouping.lists_into(self.table, *self.lists)
        grouping.neighbor_max_into(self.sums, *self.lists, self.greatest)
        pairs.pairs_into(self.table, pairs.count_entries(self.table), *self.pairs)
        kernel_maps.children_into(coords, self.edges, *self.children, self.flag)
        serialize.hilbert_into(coords, (0, 1, 2), self.codes, self.bad)
        convolve_into(self.sums, self.weight, *self.pairs, self.out.zero_())
        range_image.range_image_into(self.xyz, None, 1.0, 2.0, 1.4, *self.image)

    def check(self, xyz: torch.Tensor) -> None:
        voxels = voxelize(xyz, 0.5, "torch")
        m, expected = len(voxels), submanifold_map(voxels.coords, backend="torch")
        assert self.status.tolist() == [m, 0]
        assert torch.equal(self.voxels[0][:m], voxels.coords)
        assert torch.equal(self.pairs[2], expected.starts)
        assert torch.equal(self.pairs[0][: len(expected.in_row)], expected.in_row)
        _, parents, scenes = strided_map(voxels.coords, backend="torch")
        assert self.children[2].tolist() == list(scenes)
        assert torch.equal(self.children[1][: len(parents)], parents)
        total = torch.zeros(m, 3, device=DEVICE).index_add(0, voxels.inverse, xyz)
        torch.testing.assert_close(self.sums[:m], total)

    def load(self, n: int) -> torch.Tensor:
        xyz = torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).to(DEVICE)
        self.xyz.fill_(torch.nan)
        self.xyz[:n] = xyz
        self.n_points.fill_(n)
        return xyz


def _repeatable(run: Callable[[], object]) -> Callable[[], object]:
    if DEVICE.type == "cpu":
        return run
    run()  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def test_the_chain_never_waits_and_can_be_repeated() -> None:
    with NeverWait(), pytest.raises(AssertionError, match="waits"):
        torch.zeros(1).item()
    chain = _Chain()
    chain.load(40)
    with NeverWait():
        chain.run()
    repeat = _repeatable(chain.run)
    for n in (70, 1):
        xyz = chain.load(n)
        repeat()
        chain.check(xyz)


def test_sequences_never_wait_and_can_be_cut_anew() -> None:
    from pc_perception.ops.gpu.recurrence import gated_delta_rule_into
    from pc_perception.ops.gpu.short_convolution import short_convolution_into
    from pc_perception.ops.recurrence import gated_delta_rule
    from pc_perception.ops.short_convolution import short_convolution

    generator = torch.Generator().manual_seed(0)
    shapes = ((80, 1, 4), (80, 4), (4, 1, 4), (80, 1), (2, 1, 4, 4), (2, 3, 4))
    q, x, kernel, gates, state, recent = (
        torch.rand(shape, generator=generator).to(DEVICE) / 2 for shape in shapes
    )
    edges, mixed, out, final = _integers(3), torch.empty_like(x), torch.empty_like(q), torch.empty_like(state)

    def run() -> None:
        short_convolution_into(x, kernel, edges, recent, mixed)
        gated_delta_rule_into(q, q, mixed[:, None], -gates, gates, edges, state, out, final)

    edges.copy_(torch.tensor([0, 40, 80]))
    with NeverWait():
        run()
    repeat = _repeatable(run)
    for offsets in ((0, 0, 80), (0, 66, 80), (0, 20, 70)):  # the last leaves ten rows unused
        edges.copy_(torch.tensor(offsets))
        repeat()
        n = offsets[-1]
        expected, _ = short_convolution(x[:n], kernel, offsets, recent, "torch")
        torch.testing.assert_close(mixed[:n], expected)
        tokens = q[:n], q[:n], expected[:, None], -gates[:n], gates[:n]
        found = gated_delta_rule(*tokens, offsets, state, "torch")
        for a, b in zip((out[:n], final), found, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_heights_never_wait_and_follow_the_cloud() -> None:
    from pc_perception.ops.gpu.ground import column_top_into, heights_into, new_grid
    from pc_perception.ops.ground import height_above_ground
    from pc_perception.ops.shape import column_top

    xyz, used = torch.zeros(N, 3, device=DEVICE), torch.zeros(N, dtype=torch.bool, device=DEVICE)
    heights, tops = torch.zeros(N, 2, device=DEVICE), torch.zeros(N, device=DEVICE)
    work, slopes, status = new_grid(400, 2, DEVICE, side=128), (0.25, 0.03), _integers(1)

    def run() -> None:
        status.zero_()
        heights_into(xyz, used, 1.0, slopes, work, heights, status)
        column_top_into(xyz, used, heights[:, 0], 0.8, work, tops, status)

    with NeverWait():
        run()
    assert status.item() == 0
    repeat = _repeatable(run)
    for n, size in ((70, 9.0), (1, 5.0), (90, 14.0), (90, 100.0)):
        cloud = (torch.rand(n, 3, generator=torch.Generator().manual_seed(n)) * size).to(DEVICE)
        xyz.fill_(torch.nan)
        xyz[:n] = cloud
        used.copy_(torch.arange(N) < n)
        repeat()
        assert status.item() == (size == 100.0)
        expected = height_above_ground(cloud, 1.0, slopes, "torch")
        if size == 100.0:
            expected.zero_()
        torch.testing.assert_close(heights[:n], expected, atol=2e-5, rtol=0)
        if size < 100.0:
            assert torch.equal(tops[:n], column_top(cloud, heights[:n, 0], 0.8, "torch"))
        assert not heights[n:].any()
        assert not tops[n:].any()


def test_a_block_never_waits_and_follows_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    block = NeighborhoodBlock(8).to(DEVICE).requires_grad_(False)
    x, position = torch.zeros(VOXELS, 8, device=DEVICE), torch.zeros(VOXELS, 3, device=DEVICE)
    lists, out = Neighborhood(_integers(VOXELS + 1), _integers(PAIRS)), torch.zeros(VOXELS, 8, device=DEVICE)

    def run() -> None:
        with torch.inference_mode():
            out.copy_(block(x, position, lists))

    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "triton")
    with NeverWait():
        run()
    repeat = _repeatable(run)
    for n in (70, 1):
        generator = torch.Generator().manual_seed(n)
        coords = torch.randint(0, 5, (n, 3), generator=generator).unique(dim=0)
        m, found = len(coords), voxel_neighbors(coords, "torch").to(DEVICE)
        x.fill_(torch.nan)
        x[:m], position[:m] = torch.randn(m, 8, generator=generator).to(DEVICE), coords.to(DEVICE)
        lists.starts.fill_(len(found.index))
        lists.starts[: m + 1], lists.index[: len(found.index)] = found.starts, found.index
        repeat()
        torch.testing.assert_close(out[:m], block(x[:m], position[:m], found), atol=1e-4, rtol=1e-4)


def test_a_mixer_never_waits_and_follows_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    block = SequenceBlock(8, 2, 4, 4).to(DEVICE).requires_grad_(False)
    x, out = torch.zeros(VOXELS, 8, device=DEVICE), torch.zeros(VOXELS, 8, device=DEVICE)
    order, in_use = torch.arange(VOXELS, device=DEVICE), _integers(2)

    def run() -> None:
        with torch.inference_mode():
            out.copy_(block(x, *backwards(order, in_use)))

    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "triton")
    with NeverWait():
        run()
    repeat = _repeatable(run)
    for n in (70, 1):
        generator = torch.Generator().manual_seed(n)
        x.fill_(torch.nan)
        x[:n], in_use[1] = torch.randn(n, 8, generator=generator).to(DEVICE), n
        order[:n], order[n:] = torch.randperm(n, generator=generator).to(DEVICE), torch.arange(n, VOXELS)
        repeat()
        expected = block(x[:n], *backwards(order[:n], (0, n)))
        torch.testing.assert_close(out[:n], expected, atol=1e-5, rtol=1e-5)
