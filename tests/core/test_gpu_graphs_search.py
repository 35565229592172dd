# SPDX-License-Identifier: Apache-2.0
"""The search kernels captured in a CUDA graph and replayed on new points: nothing may wait for the host."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def _replayed(run: Callable[[], None], change: Callable[[], object]) -> None:
    """Compile, capture, change the input, replay: the outputs then belong to the new input."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        run()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    change()
    graph.replay()
    torch.cuda.synchronize()


def _starts(*rows: int) -> Tensor:
    return torch.tensor(rows, device="cuda")


@pytest.mark.parametrize("n", [3000, 20_000, 120_000, 1_200_000])  # one program; several; a launch a step
def test_farthest_points(n: int) -> None:
    from pc_perception.ops.gpu.sampling import sample_farthest
    from pc_perception.ops.sampling import farthest_point_sampling

    xyz, out = torch.randn(n, 3, device="cuda"), torch.empty(64, dtype=torch.int64, device="cuda")
    starts, first, ends = _starts(0, n), _starts(0), _starts(0, 64)
    _replayed(lambda: sample_farthest(xyz, starts, first, ends, n, 64, -1.0, out), lambda: xyz.normal_())
    assert torch.equal(out, farthest_point_sampling(xyz, 64, backend="torch"))


@pytest.mark.parametrize("n", [1500, 20_000])  # all pairs; buckets
def test_neighbors(n: int) -> None:
    from pc_perception.ops.gpu.neighbors import search
    from pc_perception.ops.neighbors import k_nearest

    xyz, starts = torch.randn(n, 3, device="cuda"), _starts(0, n)
    index = torch.empty(n, 16, dtype=torch.int64, device="cuda")
    distance = torch.empty(n, 16, device="cuda")
    _replayed(
        lambda: search(xyz, starts, n, xyz, starts, n, torch.inf, False, True, index, distance),
        lambda: xyz.normal_(),
    )
    expected = k_nearest(xyz, 16, backend="torch")
    assert torch.equal(index, expected[0])
    torch.testing.assert_close(distance, expected[1])


@pytest.mark.parametrize("n", [32, 300, 3000])  # patches; all pairs; buckets
def test_chamfer_with_gradient(n: int) -> None:
    from pc_perception.ops.chamfer import chamfer_distance
    from pc_perception.ops.gpu.chamfer import chamfer

    a, b = (torch.rand(6, n, 3, device="cuda") for _ in "ab")

    def measure(distance: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        # Leaves of this stream: those of another one would have to be waited for.
        leaves = [t.detach().requires_grad_() for t in (a, b)]
        value = distance(*leaves)
        return [value.detach(), *torch.autograd.grad(value, leaves)]

    result: list[Tensor] = []

    def run() -> None:
        result[:] = measure(lambda a, b: chamfer(a, b, "l1"))

    _replayed(run, lambda: a.uniform_())
    expected = measure(lambda a, b: chamfer_distance(a, b, "l1", "torch"))
    for found, wanted in zip(result, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


def test_clusters_and_labels() -> None:
    from pc_perception.ops.clusters import _components_torch
    from pc_perception.ops.gpu.clusters import components
    from pc_perception.ops.gpu.interpolate import nearest_labels
    from pc_perception.ops.interpolate import propagate_labels

    xyz, queries = torch.randn(4000, 3, device="cuda"), torch.randn(3000, 3, device="cuda")
    starts, query_starts = _starts(0, 4000), _starts(0, 3000)
    parent = torch.empty(4000, dtype=torch.int64, device="cuda")
    labels, found = torch.arange(4000, device="cuda"), torch.empty(3000, dtype=torch.int64, device="cuda")

    def run() -> None:
        components(xyz, 0.0625, parent)
        nearest_labels(xyz, labels, starts, queries, query_starts, 3000, 0.25, 65535, found)

    _replayed(run, lambda: xyz.normal_())
    assert torch.equal(parent, _components_torch(xyz, 0.0625))
    assert torch.equal(found, propagate_labels(xyz, labels, queries, 0.5, backend="torch"))
