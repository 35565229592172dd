# SPDX-License-Identifier: Apache-2.0
"""Rows shared among threads: same results, no deadlock, nobody's thread count changed."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pc_perception.ops import grouping, parallel, voxelize


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_rows_in_blocks_give_what_all_rows_at_once_give(two_threads: None) -> None:
    x = torch.arange(4000.0).reshape(2000, 2)
    seen: set[str] = set()

    def square(rows: torch.Tensor) -> torch.Tensor:
        seen.add(threading.current_thread().name)
        return rows.square()

    with torch.inference_mode():
        assert torch.equal(parallel.by_rows(square, x), x.square())
        assert len(seen) == 1
        with parallel.team():
            assert torch.get_num_threads() == 1
            assert torch.equal(parallel.by_rows(square, x), x.square())
            assert len(seen) == 2
        assert torch.get_num_threads() == 2
    with torch.inference_mode(), parallel.team():
        seen.clear()
        assert parallel.by_rows(square, x.to("meta")).shape == x.shape
        assert len(seen) == 1  # a device has threads of its own
    weights = x.clone().requires_grad_()
    with parallel.team():
        parallel.by_rows(square, weights).sum().backward()
    assert torch.equal(weights.grad, 2 * x)


def test_teams_on_several_threads_do_not_disturb_each_other(two_threads: None) -> None:
    cloud = torch.rand(5000, 3, generator=torch.Generator().manual_seed(1)) * 3
    voxels = voxelize.voxelize(cloud, 0.1)
    lists = grouping.voxel_neighbors(voxels.coords)
    features = torch.randn(len(voxels), 16, generator=torch.Generator().manual_seed(0))
    expected = grouping.neighbor_max(features, lists, "torch")
    assert len(voxels) > 2 * parallel.LEAST_ROWS

    def often() -> bool:
        with torch.inference_mode(), parallel.team():
            return all(torch.equal(grouping.neighbor_max(features, lists), expected) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: often(), range(8)))


def test_a_failing_block_is_heard_of_and_the_team_goes_on(two_threads: None) -> None:
    def fails(start: int, stop: int) -> None:
        if start:
            raise RuntimeError("block")

    with parallel.team():
        with pytest.raises(RuntimeError, match="block"):
            parallel.run_blocks(fails, 2000)
        parallel.run_blocks(lambda a, b: None, 2000)
    assert torch.get_num_threads() == 2
