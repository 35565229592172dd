# SPDX-License-Identifier: Apache-2.0
"""Kernel maps of sparse convolutions over voxels: which input row meets which output row under which weight.

Submanifold convolution after Graham, Engelcke and van der Maaten, "3D semantic segmentation with submanifold
sparse convolutional networks", 2018; the lists per kernel offset are the usual "rulebook".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .nine_rows import OFFSET_BITS, list_neighbors
from .parallel import team
from .serialize import z_order
from .voxelize import group_codes


@dataclass(frozen=True)
class KernelMap:
    """Pairs of rows, kernel offset by kernel offset.

    Attributes:
        in_row: (E,) int64, row of the input, at most once within each offset.
        out_row: (E,) int64, row of the output, ascending within each offset.
        starts: (K + 1,) int64; the pairs of offset k are ``starts[k]:starts[k + 1]``.
        n_out: rows of the output.
    """

    in_row: Tensor
    out_row: Tensor
    starts: Tensor
    n_out: int

    @property
    def offset(self) -> Tensor:
        """(E,) int64, kernel offset of each pair."""
        lengths = self.starts.diff()
        return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)

    def turned(self, n_in: int) -> KernelMap:
        """Return the same pairs from output to input, of ``n_in`` rows; their output rows may not ascend."""
        return replace(self, in_row=self.out_row, out_row=self.in_row, n_out=n_in)


def submanifold_map(
    coords: Tensor, scenes: Sequence[int] | None = None, backend: str | None = None
) -> KernelMap:
    """Pair every voxel with the occupied ones among itself and its 26 neighbours.

    Args:
        coords: (M, 3) int64, distinct within a scene, each in 0 .. 2^20 - 1, any strides; M = 0 is allowed.
        scenes: rows at which packed scenes begin, and M at the end (``Level.offsets``); None for one scene.

    Returns:
        ``KernelMap`` with K = 27: offset k = 9 (dz + 1) + 3 (dy + 1) + (dx + 1) joins the output voxel with the
        input voxel at (dx, dy, dz) from it. Identical on all backends. O(27 M).

    Raises:
        ValueError: a wrong shape or dtype, coordinates out of range, or scenes that do not cover the rows.
    """
    edges, chosen = _check(coords, scenes), resolve(coords.device, backend)
    if chosen == "triton":
        from .gpu.kernel_maps import submanifold_map as submanifold_map_triton

        if (lists := submanifold_map_triton(coords, edges)) is not None:
            return KernelMap(*lists, len(coords))
    _check_range(coords)
    if chosen == "numba":
        return KernelMap(*_pairs(coords, edges), len(coords))
    table = coords.new_empty(27, len(coords), dtype=torch.int32)
    for start, stop in pairwise(edges):
        _fill(coords[start:stop], start, table)
    # nonzero walks the (27, M) table row by row: by offset, then by output row.
    offset, row = (table >= 0).nonzero().unbind(1)
    return KernelMap(table[offset, row].long(), row, _starts(offset, 27), len(coords))


def strided_map(
    coords: Tensor, scenes: Sequence[int] | None = None, backend: str | None = None
) -> tuple[KernelMap, Tensor, tuple[int, ...]]:
    """Pair every voxel with the voxel of twice the edge that holds it.

    Args:
        coords, scenes: as ``submanifold_map``.

    Returns:
        ``KernelMap`` with K = 8, offset k = 4 (z mod 2) + 2 (y mod 2) + (x mod 2); the (P, 3) int64 coordinates
        of the parents, in Z-order within each scene; where their scenes begin. Identical on all backends. Sorted by
        radix on the CPU: O(M), else O(M log M).

    Raises:
        ValueError: as ``submanifold_map``.
    """
    edges = _check(coords, scenes)
    if resolve(coords.device, backend) == "triton":
        from .gpu import kernel_maps as kernels

        if len(edges) <= kernels.MAX_SCENES and (found := kernels.strided_map(coords, edges)) is not None:
            lists, parent_coords, out_edges = found
            return KernelMap(*lists, out_edges[-1]), parent_coords, out_edges
    _check_range(coords)
    parents, rows, n_out = [], [], [0]
    for start, stop in pairwise(edges):
        parent, row = _parents(coords[start:stop] >> 1, backend)
        parents.append(parent)
        rows.append(row + n_out[-1])
        n_out.append(n_out[-1] + len(parent))
    own = coords & 1
    offset = own[:, 0] + 2 * own[:, 1] + 4 * own[:, 2]
    out = torch.cat(rows) if rows else offset
    in_row = torch.argsort(offset * n_out[-1] + out, stable=True)
    kernel_map = KernelMap(in_row, out[in_row], _starts(offset, 8), n_out[-1])
    return kernel_map, torch.cat(parents) if parents else coords, tuple(n_out)


def _parents(halved: Tensor, backend: str | None) -> tuple[Tensor, Tensor]:
    """Distinct rows (P, 3) of (M, 3) coordinates in Z-order, and which of them (M,) each row is."""
    codes = z_order(halved, backend=backend)
    if resolve(codes.device, backend) == "numba":
        largest = int(halved.max()) if len(halved) else 0
        voxels = group_codes(codes.numpy(), 3 * largest.bit_length())
        return voxels.coords, voxels.inverse
    unique, row = torch.unique(codes, sorted=True, return_inverse=True)
    parent = halved.new_empty(len(unique), 3)
    parent[row] = halved
    return parent, row


def _check(coords: Tensor, scenes: Sequence[int] | None) -> list[int]:
    if coords.ndim != 2 or coords.shape[1] != 3 or coords.dtype != torch.int64:
        raise ValueError(f"coordinates must be (M, 3) int64, they are {tuple(coords.shape)} {coords.dtype}")
    edges = [0, len(coords)] if scenes is None else [int(e) for e in scenes]
    if edges[0] != 0 or edges[-1] != len(coords) or edges != sorted(edges):
        raise ValueError(f"scenes must rise from 0 to {len(coords)}, they are {edges}")
    return edges


def _check_range(coords: Tensor) -> None:
    if len(coords) and not (int(coords.min()) >= 0 and int(coords.max()) < 2**20):
        raise ValueError("voxel coordinates must be in 0 .. 2^20 - 1; subtract their minimum first")


def _starts(offset: Tensor, n_offsets: int) -> Tensor:
    starts = torch.zeros(n_offsets + 1, dtype=torch.int64, device=offset.device)
    starts[1:] = torch.bincount(offset, minlength=n_offsets).cumsum(0)
    return starts


def _fill(coords: Tensor, first: int, table: Tensor) -> None:
    """Write the columns of one scene, from ``first`` on: the row of each voxel's neighbours, -1 for none."""
    step = torch.arange(-1, 2, device=coords.device)
    dz, dy, dx = torch.meshgrid(step, step, step, indexing="ij")
    place = torch.tensor([1, 1 << 21, 1 << 42], device=coords.device)
    key = ((coords + 1) * place).sum(1)
    wanted = key + (torch.stack([dx, dy, dz], -1).reshape(27, 1, 3) * place).sum(2)
    ordered, order = torch.sort(key)
    slot = torch.searchsorted(ordered, wanted).clamp_(max=max(len(key) - 1, 0))
    if len(key):
        found = torch.where(ordered[slot] == wanted, order[slot] + first, -1)
        table[:, first : first + len(coords)] = found


def _pairs(coords: Tensor, edges: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """What ``KernelMap`` holds, from lists of neighbours instead of the table."""
    lists, count = np.empty((len(coords), 27), np.uint32), np.empty(len(coords), np.int32)
    with team():
        for start, stop in pairwise(edges):
            scene = coords[start:stop].contiguous().numpy()
            list_neighbors(scene, lists[start:stop], count[start:stop], start)
    in_row, out_row, starts = (torch.from_numpy(t) for t in _by_offset(lists, count))
    return in_row, out_row, starts


@njit(cache=True, nogil=True)
def _by_offset(lists: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deal out the entries of lists of neighbours to the offsets, row by row."""
    starts = np.zeros(28, np.int64)
    mask = np.uint32((1 << OFFSET_BITS) - 1)
    for i in range(len(count)):
        for e in range(count[i]):
            starts[(lists[i, e] & mask) + 1] += 1
    starts = np.cumsum(starts)
    end = starts[:27].copy()
    in_row, out_row = np.empty(starts[27], np.int64), np.empty(starts[27], np.int64)
    for i in range(len(count)):
        for e in range(count[i]):
            k = lists[i, e] & mask
            in_row[end[k]], out_row[end[k]] = lists[i, e] >> OFFSET_BITS, i
            end[k] += 1
    return in_row, out_row, starts
