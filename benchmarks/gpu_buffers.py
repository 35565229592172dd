# SPDX-License-Identifier: Apache-2.0
"""The rows' operations in buffers, as CUDA graphs take them: a call that only launches.

B5 and B7 have buffers of fixed capacity, since their public forms wait for sizes; the others return what their public
forms do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pc_perception.ops.kernel_maps import strided_map, submanifold_map
from pc_perception.ops.recurrence import gated_delta_rule

Call = Callable[[], object]
LEVELS = 5
GRID_M = 0.05


def prepare_in_buffers(inputs: list[Tensor]) -> Call:
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


def maps_in_buffers(inputs: list[Tensor]) -> Call:
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


def sample_in_buffers(inputs: list[Tensor], m: int) -> Callable[[], Tensor]:
    """Return what samples min(m, N / 2) of (N, 3) points, or of each scene of (B, N, 3): (m,) or (B, m) indices."""
    from pc_perception.ops.gpu.sampling import sample_farthest

    points, n = inputs[0], inputs[0].shape[-2]
    m = min(m, n // 2)
    xyz, starts, ends = points.reshape(-1, 3), _starts(points, n), _starts(points, m)
    first, out = torch.zeros_like(starts[1:]), starts.new_empty(*points.shape[:-2], m)

    def call() -> Tensor:
        sample_farthest(xyz, starts, first, ends, n, m, -1.0, out.view(-1))
        return out

    return call


def search_in_buffers(
    inputs: list[Tensor], k: int = 16, queries: Tensor | None = None
) -> Callable[[], Tensor]:
    """Return what finds the k nearest of (N, 3) or (B, N, 3) points, to themselves or ``queries``: (.., k) indices."""
    from pc_perception.ops.gpu.neighbors import search

    points, packed = inputs[0], inputs[0].ndim == 2
    xyz, n = points.reshape(-1, 3), points.shape[-2]
    asked, q = (xyz, n) if queries is None else (queries.view(-1, 3), queries.shape[-2])
    starts, query_starts = _starts(points, n), _starts(points, q)
    index = starts.new_empty(len(asked), k)
    distance = xyz.new_empty(len(asked), k)

    def call() -> Tensor:
        search(xyz, starts, n, asked, query_starts, q, torch.inf, False, packed, index, distance)
        return index.view(*points.shape[:-2], q, k)

    return call


def tokens_in_buffers(inputs: list[Tensor]) -> Call:
    """Return what samples 64 of each scene of (B, N, 3) points, and finds the 32 points nearest to each."""
    points = inputs[0]
    centers = points.new_empty(len(points), min(64, points.shape[1] // 2), 3)
    sample, search = sample_in_buffers(inputs, 64), search_in_buffers(inputs, 32, centers)

    def call() -> list[Tensor]:
        chosen = sample()
        torch.gather(points, 1, chosen[..., None].expand(-1, -1, 3), out=centers)
        return [chosen, search()]

    return call


def chamfer_in_buffers(inputs: list[Tensor]) -> Call:
    """Return what measures clouds (B, n, 3) and (B, m, 3), squared, with the gradient by the first where n <= 32."""
    from pc_perception.ops.gpu.chamfer import nearest
    from pc_perception.ops.gpu.chamfer_patches import measure

    a, b = inputs
    if a.shape[1] <= 32:
        gradient = torch.empty_like(a)
        return lambda: [measure(a, b, False, gradient, b[:0]), gradient]
    there, back = (
        (t.new_empty(t.shape[:2]), torch.empty(t.shape[:2], dtype=torch.int32, device=t.device))
        for t in inputs
    )

    def call() -> list[Tensor]:
        nearest(a, b, *there)
        nearest(b, a, *back)
        return [there[0].mean() + back[0].mean()]

    return call


def rule_in_buffers(inputs: list[Tensor]) -> Call:
    """Return what runs the gated delta rule over one sequence."""
    from pc_perception.ops.gpu.recurrence import gated_delta_rule_into

    q, _, v = inputs[:3]
    edges = torch.tensor([0, len(q)], device=q.device)
    state = torch.zeros(1, *q.shape[1:], v.shape[2], device=q.device)
    out, final = torch.empty_like(v), torch.empty_like(state)

    def call() -> Tensor:
        gated_delta_rule_into(*inputs, edges, state, out, final)
        return out

    return call


def rule_both_ways_in_buffers(inputs: list[Tensor]) -> Call:
    """Return what runs the rule and its gradient by queries, keys and values."""
    edges = torch.tensor([0, len(inputs[0])], device=inputs[0].device)

    def call() -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in inputs[:3]]
        out, _ = gated_delta_rule(*leaves, *inputs[3:], edges, backend="triton")
        return [out.detach(), *torch.autograd.grad(out.sum(), leaves)]

    return call


def _starts(points: Tensor, n: int) -> Tensor:
    """Where scenes of ``n`` rows start and end, as many as ``points`` has."""
    scenes = len(points) if points.ndim == 3 else 1
    return torch.arange(scenes + 1, device=points.device) * n


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
