# SPDX-License-Identifier: Apache-2.0
"""The benchmark's rows in buffers, which CUDA graphs replay, do what its public operations do."""

import numpy as np
import pytest
import torch

from benchmarks.dense import sweep
from benchmarks.gpu import GpuRow, Place, _alike, _compare
from benchmarks.gpu_buffers import LEVELS, maps_in_buffers, prepare_in_buffers
from benchmarks.gpu_rows import _maps, _prepare, rows
from pc_perception.ops.voxelize import voxelize

from .test_gpu_graphs_rows import NeverWait

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _points() -> torch.Tensor:
    return torch.from_numpy(sweep(np.random.default_rng(0), 4, 24)).to(DEVICE)


def test_voxels_and_orders() -> None:
    expected = _prepare([_points()], None)
    call = prepare_in_buffers([_points()])
    call()
    with NeverWait():
        coords, inverse, orders, status = call()
    m = len(expected[0])
    assert status.tolist() == [m, 0]
    assert torch.equal(coords[:m], expected[0])
    assert torch.equal(inverse, expected[1])
    for found, order in zip(orders, expected[2:], strict=True):
        assert torch.equal(found[:m], order)


def test_maps_of_all_levels() -> None:
    coords = voxelize(_points(), 0.4).coords
    expected = _maps([coords], None)
    call = maps_in_buffers([coords])
    call()
    with NeverWait():
        found = call()
    for k in range(2 * LEVELS):
        in_row, out_row, starts = found[3 * k : 3 * k + 3]
        n = int(starts[-1])
        assert torch.equal(in_row[:n], expected[2 * k])
        assert torch.equal(out_row[:n], expected[2 * k + 1])


ROWS = [
    row for row in rows(Place("cpu", "triton", tiny=True)) if row.row in ("B9", "B10", "B11", "B12", "B15")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.row} {row.input}")
def test_rows_that_return_what_their_operations_do(row: GpuRow) -> None:
    arrays = [torch.from_numpy(a) for a in row.make(np.random.default_rng(0), True)]
    inputs = [t.to(DEVICE) for t in arrays]
    assert row.in_buffers
    call = row.in_buffers(inputs)
    call()
    with NeverWait():
        found = call()
    expected = _reference(row, arrays)
    assert _alike(found, expected)
    _compare(found, expected)
    for t in inputs[:3]:  # what is in the buffers now is of other inputs
        t.copy_(t.flip(0))
    _compare(call(), _reference(row, [t.cpu() for t in inputs]))


def _reference(row: GpuRow, inputs: list[torch.Tensor]) -> object:
    return row.call([t.float() if t.dtype == torch.float16 else t for t in inputs], "torch")
