# SPDX-License-Identifier: Apache-2.0
"""Heights above the ground and tops of columns, for clouds whose extent only the device knows.

The ``.._into`` functions never wait for the device: with tensors of fixed capacity they can be captured in a
CUDA graph. The grid of columns (``ops.cells.cells_of``) lies in such buffers, its origin and size beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ..cells import MAX_CELLS, MAX_SIDE, large_enough
from .launch import launch

BLOCK = 512
SIDE, SHORT_SIDE = 1024, 128
"""Cells that a side of the ground's grid may have, where one program holds whole lines of them, and often has."""
TILE = 4096
"""Cells that one program holds."""
ALONG_Y, ALONG_X, RISING, FALLING = (tl.constexpr(direction) for direction in range(4))
"""Directions of lines: the axes, and the diagonals on which y grows or falls with x."""
CELLS, LENGTH, LEAST = tl.constexpr(MAX_CELLS), tl.constexpr(MAX_SIDE), tl.constexpr(-(2**31))
EMPTY = tl.constexpr(0x7F800000 << 32)
"""Key of a cell without a point: above any finite one, and its height reads as Inf."""
EXACT = {"enable_fp_fusion": False}


class Grid(NamedTuple):
    """Buffers that ``heights_into`` and ``column_top_into`` work in, C columns and K slopes; one call at a time.

    Attributes:
        ends: (4,) int32, greatest -x, x, -y and y as integers in the order of the floats.
        origin: (2,) float32, least x and y, metres.
        shape: (3,) int32, columns along x and y, 0 where there are no points or too many columns; 1 where any cell
            holds two points.
        keys: (2, C) int64, lowest and second lowest point of each cell: height above, row below.
        envelopes: (K, C) float32, metres.
        rises: (K,) float32, metres per cell.
        side: most columns along an axis of the ground's grid.
    """

    ends: Tensor
    origin: Tensor
    shape: Tensor
    keys: Tensor
    envelopes: Tensor
    rises: Tensor
    side: int


def new_grid(n_cells: int, n_slopes: int, device: torch.device | str, side: int = SIDE) -> Grid:
    """Allocate buffers for up to ``n_cells`` columns; ``column_top_into`` needs no slopes.

    Args:
        side: most columns along an axis for ``heights_into``, a power of two up to ``SIDE``; a kernel each.
    """

    def buffer(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    ends, origin, shape = buffer(torch.int32, 4), buffer(torch.float32, 2), buffer(torch.int32, 3)
    keys, envelopes = buffer(torch.int64, 2, n_cells), buffer(torch.float32, n_slopes, n_cells)
    return Grid(ends, origin, shape, keys, envelopes, buffer(torch.float32, n_slopes), side)


def heights_into(
    xyz: Tensor, used: Tensor, cell: float, slopes: Sequence[float], work: Grid, out: Tensor, status: Tensor
) -> None:
    """Write the heights of ``ops.ground.height_above_ground`` but for rounding; never waits.

    Args:
        xyz: (N, 3) float32, contiguous, metres, z up, finite where used.
        used: (N,) bool, contiguous; the other rows are left out.
        cell: edge of a ground cell, metres.
        slopes: of K envelopes, metres per metre.
        work: from ``new_grid``, for K slopes.
        out: (N, K) float32, contiguous, receives the heights, metres; 0 for rows that are left out.
        status: (1,) int64, becomes 1, and every height 0, where the cloud needs more columns than the buffers
            hold, more than ``work.side`` along an axis, or larger ones (``ops.cells.large_enough``); never reset.

    O(K (N + cells log cells)).
    """
    n, k, capacity = len(xyz), len(slopes), work.keys.shape[1]
    for row, slope in enumerate(slopes):
        work.rises[row].fill_(slope * float(np.float32(cell)))
    work.keys.fill_(EMPTY.value)
    _lay(xyz, used, cell, work.side, work, status)
    blocks, points = (triton.cdiv(n, BLOCK),), (xyz, used, work.origin, work.shape)
    launch(_lowest, blocks, *points, work.keys, cell, n, BLOCK, **EXACT)
    launch(_second, blocks, *points, work.keys, cell, n, capacity, BLOCK, **EXACT)
    lines, grid = TILE // work.side, (work.shape, work.keys, work.envelopes, work.rises)
    for direction in range(4):
        programs = triton.cdiv(min(2 * work.side, capacity), lines), k
        launch(_spread, programs, *grid, capacity, direction, lines, work.side, num_warps=8, **EXACT)
    launch(_above, blocks, *points, work.envelopes, out, cell, n, capacity, k, BLOCK, **EXACT)


def column_top_into(
    xyz: Tensor, used: Tensor, height: Tensor, cell: float, work: Grid, out: Tensor, status: Tensor
) -> None:
    """Write ``ops.shape.column_top``; never waits for the device.

    Args:
        xyz, used, work: as ``heights_into``, for any number of slopes.
        height: (N,) float32, any stride.
        cell: edge of a column, metres.
        out: (N,) float32, contiguous, receives the tops; 0 for rows that are left out.
        status: as ``heights_into``, but sides may be longer.

    O(N + columns).
    """
    n, tops = len(xyz), work.keys[0]
    tops.fill_(torch.iinfo(tops.dtype).min)
    _lay(xyz, used, cell, MAX_SIDE + 1, work, status)
    blocks, points = (triton.cdiv(n, BLOCK),), (xyz, used, work.origin, work.shape)
    launch(_raise, blocks, *points, height, tops, cell, n, height.stride(0), BLOCK, **EXACT)
    launch(_top, blocks, *points, tops, out, cell, n, BLOCK, **EXACT)


def heights(xyz: Tensor, cell: float, slopes: Sequence[float]) -> Tensor | None:
    """Return what ``heights_into`` writes, in buffers that fit; None where none can. Waits for the extent."""
    shape = _shape(xyz, cell)
    if shape is None or max(shape) > SIDE:
        return None
    out, status = xyz.new_empty(len(xyz), len(slopes)), _flag(xyz)
    side = SHORT_SIDE if max(shape) <= SHORT_SIDE else SIDE
    work = new_grid(shape[0] * shape[1], len(slopes), xyz.device, side)
    heights_into(xyz.contiguous(), _all(xyz), cell, slopes, work, out, status)
    return out


def column_top(xyz: Tensor, height: Tensor, cell: float) -> Tensor | None:
    """Return what ``column_top_into`` writes, in buffers that fit; None where none can. Waits for the extent."""
    shape = _shape(xyz, cell)
    if shape is None:
        return None
    out, status = xyz.new_empty(len(xyz)), _flag(xyz)
    work = new_grid(shape[0] * shape[1], 0, xyz.device)
    column_top_into(xyz.contiguous(), _all(xyz), height, cell, work, out, status)
    return out


def _shape(xyz: Tensor, cell: float) -> tuple[int, int] | None:
    """Count the columns along x and y, as the kernels will; None for a cloud that ``cells_of`` must number."""
    if xyz.dtype != torch.float32:
        return None
    low, high = torch.stack(xyz.aminmax(dim=0))[:, :2].cpu().numpy()
    extent = high - low
    if not large_enough(cell, extent.astype(np.float64)) <= cell:  # nor with NaN
        return None
    height, width = np.floor(extent / np.float32(cell)).astype(int) + 1
    return int(height), int(width)


def _flag(xyz: Tensor) -> Tensor:
    return torch.zeros(1, dtype=torch.int64, device=xyz.device)


def _all(xyz: Tensor) -> Tensor:
    return torch.ones(len(xyz), dtype=torch.bool, device=xyz.device)


def _lay(xyz: Tensor, used: Tensor, cell: float, side: int, work: Grid, status: Tensor) -> None:
    """Lay the grid over the points in use."""
    work.ends.fill_(LEAST.value)
    launch(_find_ends, (triton.cdiv(len(xyz), BLOCK),), xyz, used, work.ends, len(xyz), BLOCK)
    # As bits: a float argument would become float32, which is right everywhere else.
    bits, capacity = int.from_bytes(pack("<d", cell), "little"), work.keys.shape[1]
    launch(_measure, (1,), work.ends, work.origin, work.shape, status, bits, capacity, side, **EXACT)


@triton.jit
def _turned(bits):
    """Turn bits of finite float32 into integers of the same order, or back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _key(v):
    return _turned(v.to(tl.int32, bitcast=True))


@triton.jit
def _value(key):
    return _turned(key.to(tl.int32)).to(tl.float32, bitcast=True)


@triton.jit
def _rows(used, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return i, tl.load(used + i, mask=i < n, other=0) != 0


@triton.jit(do_not_specialize=["n"])
def _find_ends(xyz, used, ends, n, BLOCK: tl.constexpr):
    i, there = _rows(used, n, BLOCK)
    for axis in tl.static_range(2):
        v = tl.load(xyz + 3 * i + axis, mask=there, other=0.0)
        back, ahead = tl.max(tl.where(there, _key(-v), LEAST), 0), tl.max(tl.where(there, _key(v), LEAST), 0)
        tl.atomic_max(ends + 2 * axis, back, sem="relaxed")
        tl.atomic_max(ends + 2 * axis + 1, ahead, sem="relaxed")


@triton.jit(do_not_specialize=["bits", "capacity", "side"], do_not_specialize_on_alignment=["status"])
def _measure(ends, origin, shape, status, bits, capacity, side):
    any_point = tl.load(ends) != LEAST
    low_x, low_y = -_value(tl.load(ends)), -_value(tl.load(ends + 2))
    x = tl.where(any_point, _value(tl.load(ends + 1)) - low_x, 0.0)
    y = tl.where(any_point, _value(tl.load(ends + 3)) - low_y, 0.0)
    cell, far_x, far_y = bits.to(tl.float64, bitcast=True), x.to(tl.float64), y.to(tl.float64)
    enough = tl.maximum(tl.sqrt(far_x * far_y / CELLS), tl.maximum(far_x, far_y) / LENGTH)
    small = enough <= cell
    height = tl.where(small, tl.floor(tl.div_rn(x, cell.to(tl.float32))), 0.0).to(tl.int32) + 1
    width = tl.where(small, tl.floor(tl.div_rn(y, cell.to(tl.float32))), 0.0).to(tl.int32) + 1
    fits = small & (height <= side) & (width <= side) & (height * width <= capacity)
    tl.store(status, 1, mask=~fits)
    tl.store(origin, low_x)
    tl.store(origin + 1, low_y)
    tl.store(shape, tl.where(fits & any_point, height, 0))
    tl.store(shape + 1, tl.where(fits & any_point, width, 0))
    tl.store(shape + 2, 0)


@triton.jit
def _places(xyz, used, origin, shape, cell, n, BLOCK: tl.constexpr):
    """Rows of this program, the column of each, and which have one."""
    i, there = _rows(used, n, BLOCK)
    width = tl.load(shape + 1)
    there = there & (width > 0)
    x = tl.where(there, tl.load(xyz + 3 * i, mask=there, other=0.0) - tl.load(origin), 0.0)
    y = tl.where(there, tl.load(xyz + 3 * i + 1, mask=there, other=0.0) - tl.load(origin + 1), 0.0)
    column = tl.floor(tl.div_rn(x, cell)).to(tl.int32) * width + tl.floor(tl.div_rn(y, cell)).to(tl.int32)
    return i, column, there


@triton.jit
def _point(xyz, i, there):
    """Integers in the order of the points' z, then of their rows."""
    z = tl.load(xyz + 3 * i + 2, mask=there, other=0.0)
    return (_key(z).to(tl.int64) << 32) | i


@triton.jit(do_not_specialize=["cell", "n"])
def _lowest(xyz, used, origin, shape, keys, cell, n, BLOCK: tl.constexpr):
    i, column, there = _places(xyz, used, origin, shape, cell, n, BLOCK)
    tl.atomic_min(keys + column, _point(xyz, i, there), mask=there, sem="relaxed")


@triton.jit(do_not_specialize=["cell", "n", "capacity"])
def _second(xyz, used, origin, shape, keys, cell, n, capacity, BLOCK: tl.constexpr):
    i, column, there = _places(xyz, used, origin, shape, cell, n, BLOCK)
    key = _point(xyz, i, there)
    higher = there & (key != tl.load(keys + column, mask=there, other=0))
    tl.atomic_min(keys + capacity + column, key, mask=higher, sem="relaxed")
    tl.store(shape + 2, 1, mask=tl.max(higher.to(tl.int32), 0) > 0)


@triton.jit
def _supported(shape, keys, place, inside, capacity):
    """Lowest point of each cell that another one supports; Inf where there is none."""
    lowest = _value(tl.load(keys + place, mask=inside, other=EMPTY) >> 32)
    second = _value(tl.load(keys + capacity + place, mask=inside, other=EMPTY) >> 32)
    alone = second - tl.where(lowest < float("inf"), lowest, 0.0) > 0.3
    return tl.where(alone & (tl.load(shape + 2) == 1), second, lowest)


@triton.jit(do_not_specialize=["capacity"])
def _spread(
    shape, keys, envelopes, rises, capacity, DIRECTION: tl.constexpr, LINES: tl.constexpr, SIDE: tl.constexpr
):  # fmt: skip
    """Lower every cell to what another one of its line allows.

    A shortest chamfer path takes straight steps along one axis, then diagonal ones along one diagonal: four
    directions, one after the other, do what two sweeps do. Along a line, reaching 1, 2, 4, ... cells far reaches
    all of them.
    """
    height, width = tl.load(shape), tl.load(shape + 1)
    rise, envelope = tl.load(rises + tl.program_id(1)), envelopes + tl.program_id(1) * capacity
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    if DIRECTION == ALONG_Y:
        start, stride, length = line * width, 1, tl.where(line < height, width, 0)
    elif DIRECTION == ALONG_X:
        start, stride, length = line, width, tl.where(line < width, height, 0)
    else:  # from the cells of the first row, then from those below the corner
        row, column = tl.maximum(line - width + 1, 0), tl.minimum(line, width - 1)
        start, stride, length = row * width + column, width - 1, tl.minimum(height - row, column + 1)
        rise = rise * 4 / 3
        if DIRECTION == RISING:
            start, stride = row * width + width - 1 - column, width + 1
    j = tl.arange(0, SIDE)[None, :]
    place, inside = start[:, None] + j * stride, j < length[:, None]
    cells = envelope + place
    if DIRECTION == ALONG_Y:
        v = _supported(shape, keys, place, inside, capacity)
        tl.store(cells, v, mask=inside)
    else:
        v = tl.load(cells, mask=inside, other=float("inf"))
    tl.debug_barrier()
    reach, longest = 1, tl.max(length, 0)
    while reach < longest:
        behind = tl.load(cells - reach * stride, mask=inside & (j >= reach), other=float("inf"))
        ahead = tl.load(
            cells + reach * stride, mask=inside & (j + reach < length[:, None]), other=float("inf")
        )
        v = tl.minimum(v, tl.minimum(behind, ahead) + reach * rise)
        tl.debug_barrier()  # all have read what this overwrites, and see it next time
        tl.store(cells, v, mask=inside)
        tl.debug_barrier()
        reach *= 2


@triton.jit(do_not_specialize=["cell", "n", "capacity", "k"])
def _above(xyz, used, origin, shape, envelopes, out, cell, n, capacity, k, BLOCK: tl.constexpr):
    i, column, there = _places(xyz, used, origin, shape, cell, n, BLOCK)
    z = tl.load(xyz + 3 * i + 2, mask=there, other=0.0)
    for slope in range(k):
        ground = tl.load(envelopes + slope * capacity + column, mask=there, other=0.0)
        tl.store(out + i * k + slope, z - ground, mask=i < n)


@triton.jit(do_not_specialize=["cell", "n", "stride"])
def _raise(xyz, used, origin, shape, height, tops, cell, n, stride, BLOCK: tl.constexpr):
    i, column, there = _places(xyz, used, origin, shape, cell, n, BLOCK)
    key = _key(tl.load(height + i * stride, mask=there, other=0.0)).to(tl.int64)
    tl.atomic_max(tops + column, key, mask=there, sem="relaxed")


@triton.jit(do_not_specialize=["cell", "n"])
def _top(xyz, used, origin, shape, tops, out, cell, n, BLOCK: tl.constexpr):
    i, column, there = _places(xyz, used, origin, shape, cell, n, BLOCK)
    tl.store(out + i, _value(tl.load(tops + column, mask=there, other=0)), mask=i < n)
