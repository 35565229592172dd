# SPDX-License-Identifier: Apache-2.0
"""B5 and B7 in buffers of fixed capacity: as CUDA graphs take them, since their public forms wait for sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pc_perception.ops.kernel_maps import strided_map, submanifold_map

LEVELS = 5
GRID_M = 0.05


def prepare_in_buffers(inputs: list[Tensor]) -> Callable[[], list[Tensor]]:
    """Return what finds the voxels of (N, 3) points and sorts them along four curves.

    It returns coordinates (N, 3), the points' voxels (N,), four orders (4, N), of which as many entries count as there
    are voxels, and status (2,): how many, and whether a point has none.
    """
    from pc_perception.ops.gpu.serialize import curves_into
    from pc_perception.ops.gpu.voxelize import voxelize_into

    (xyz,), n = inputs, len(inputs[0])
    integers = partial(torch.zeros, dtype=torch.int64, device=xyz.device)
    coords, codes, inverse, first, status = (integers(shape) for shape in ((n, 3), n, n, n, 2))
    curves, flag = integers((4, n)), torch.zeros(1, dtype=torch.int32, device=xyz.device)
    row = torch.arange(n, device=xyz.device)

    def call() -> list[Tensor]:
        voxelize_into(xyz, GRID_M, coords, codes, inverse, first, status)
        curves_into(coords, curves, flag)
        curves.masked_fill_(row >= status[:1], torch.iinfo(torch.int64).max)
        return [coords, inverse, curves.argsort(1), status]

    return call


def maps_in_buffers(inputs: list[Tensor]) -> Callable[[], list[Tensor]]:
    """Return what makes the kernel maps of five levels of (M, 3) voxels in Z-order.

    It returns, level after level, rows in, rows out and starts of the submanifold map and of the strided one.
    """
    from pc_perception.ops.gpu.kernel_maps import children_into, neighbors_into
    from pc_perception.ops.gpu.pairs import count_entries, pairs_into

    device = inputs[0].device
    integers = partial(torch.zeros, dtype=torch.int64, device=device)
    rows, lists = _sizes(inputs[0])
    coords = [integers((size, 3)) for size in rows]
    coords[0][: len(inputs[0])] = inputs[0]
    edges = [integers(2) for _ in rows]
    edges[0][1] = len(inputs[0])
    flag = integers(1)
    around = [torch.zeros(27, size, dtype=torch.int32, device=device) for size in rows]
    below = [torch.zeros(8, size, dtype=torch.int32, device=device) for size in rows[1:]]
    same = [(integers(size), integers(size), integers(28)) for size in lists]
    down = [(integers(size), integers(size), integers(9)) for size in rows]

    def call() -> list[Tensor]:
        for k in range(LEVELS):
            neighbors_into(coords[k], edges[k], around[k], flag)
            pairs_into(around[k], count_entries(around[k]), *same[k])
            children_into(coords[k], edges[k], below[k], coords[k + 1], edges[k + 1], flag, in_z_order=True)
            pairs_into(below[k], count_entries(below[k]), *down[k])
        return [tensor for k in range(LEVELS) for tensor in (*same[k], *down[k])]

    return call


def _sizes(coords: Tensor) -> tuple[list[int], list[int]]:
    """Capacities, powers of two, for the voxels of each level and one more, and for their neighbours."""
    rows, lists = [_bucket(len(coords))], []
    coords = coords.cpu()
    for _ in range(LEVELS):
        lists.append(_bucket(len(submanifold_map(coords).in_row)))
        _, coords, _ = strided_map(coords)
        rows.append(_bucket(len(coords)))
    return rows, lists


def _bucket(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()
