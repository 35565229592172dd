# SPDX-License-Identifier: Apache-2.0
"""Turn tables of rows, -1 where there is none, into lists without gaps."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

BLOCK = 512


def count_entries(table: Tensor) -> Tensor:
    """Return how many entries of a contiguous (K, M) int32 table there are up to the end of each block.

    Returns:
        (K, blocks) int64 on the device, ascending; the last one is the number of all. Never waits for the device.
    """
    n_blocks = max(triton.cdiv(table.shape[1], BLOCK), 1)
    counts = torch.empty(len(table), n_blocks, dtype=torch.int32, device=table.device)
    grid = (n_blocks, len(table))
    launch(_count, grid, table, counts, table.shape[1], n_blocks, BLOCK)
    return counts.view(-1).cumsum(0).view(len(table), n_blocks)


def pairs_into(table: Tensor, ends: Tensor, in_row: Tensor, out_row: Tensor, starts: Tensor) -> None:
    """List the entries line by line: what they hold and where they stand; never waits for the device.

    Args:
        table: as ``count_entries``, which returned ``ends``.
        in_row, out_row: (capacity,) int64, receive the entries and their columns. Entries beyond are left out:
            compare ``starts[-1]`` with the capacity when it is read.
        starts: (K + 1,) int64, receives where the entries of each line begin.
    """
    grid, sizes = ends.T.shape, (table.shape[1], ends.shape[1], len(in_row))
    launch(_list, grid, table, ends, in_row, out_row, starts, *sizes, BLOCK)


@triton.jit(do_not_specialize=["m", "n_blocks"])
def _count(table, counts, m, n_blocks, BLOCK: tl.constexpr):
    block, line = tl.program_id(0), tl.program_id(1).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    entry = tl.load(table + line * m + column, mask=column < m, other=-1)
    tl.store(counts + line * n_blocks + block, tl.sum((entry >= 0).to(tl.int32), 0))


@triton.jit(do_not_specialize=["m", "n_blocks", "capacity"])
def _list(table, ends, in_row, out_row, starts, m, n_blocks, capacity, BLOCK: tl.constexpr):
    block, line = tl.program_id(0), tl.program_id(1).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    entry = tl.load(table + line * m + column, mask=column < m, other=-1)
    there = entry >= 0
    number = tl.cumsum(there.to(tl.int32), 0)
    end = tl.load(ends + line * n_blocks + block)
    place = end - tl.sum(there.to(tl.int32), 0) + number - 1
    tl.store(starts + line + 1, end, mask=block == n_blocks - 1)
    tl.store(starts, 0, mask=(block == 0) & (line == 0))
    kept = there & (place < capacity)
    tl.store(in_row + place, entry.to(tl.int64), mask=kept)
    tl.store(out_row + place, column.to(tl.int64), mask=kept)
