# SPDX-License-Identifier: Apache-2.0
"""Exact farthest point sampling: cover a cloud evenly with a few of its own points.

Eldar et al., "The farthest point strategy for progressive image sampling", 1997. The CPU path skips buckets
of points that a new sample cannot come nearer to, as in Han et al., "QuickFPS", 2023, and yields the very
same indices as the plain loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from numba import njit
from torch import Tensor

from . import bucket_tree
from .backend import resolve
from .packed import Packed, check_out, numbers_on, pack
from .parallel import run_blocks, team
from .small_clouds import FEW, lower, lowest, sample_few

BUCKET = 64
"""Points in a bucket at most: one is read as four vectors of sixteen."""
ORIGIN_SQUARED = 1e-3
"""pointnet2_ops takes points this near the origin, squared metres, for padding."""


def farthest_point_sampling(
    points: Tensor,
    n_samples: int | Sequence[int],
    offsets: Tensor | Sequence[int] | None = None,
    *,
    start: int | Sequence[int] = 0,
    skip_origin: bool = False,
    backend: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Choose points one by one, each the farthest from those chosen before it; ties go to the lowest index.

    Args:
        points: (N, 3) or dense (B, N, 3) float, finite, metres; any strides. Distances are computed in
            float64 for float64 points and in float32 otherwise.
        n_samples: samples per scene, or one number for each scene of a packed batch.
        offsets: (B + 1,) row numbers where the scenes of packed points start and end.
        start: index within its scene of the first sample, or one for each scene.
        skip_origin: as pointnet2_ops: never choose a point with squared norm <= 1e-3, except as start
            (and index 0 where a scene has no other).
        backend: ``torch``, ``numba``, ``triton``, ``pointnet2`` (its package, on CUDA, for dense float32 points with
            ``skip_origin`` and start 0), or None for the choice by device.
        out: takes the result if given.

    Returns:
        int64: (B, n_samples) indices within the scene for dense points, else (sum of n_samples,) rows of
        ``points``, scene after scene. Identical on all backends. When all points lie on chosen ones
        (duplicates), the lowest index is repeated. No gradient. O(N m) for the reference; pruned about
        O(N log m) in all, for surfaces.

    Raises:
        ValueError: non-finite points, more samples than points in a scene, or a start outside it.
    """
    packed = pack(points, offsets)
    counts = _per_scene(n_samples, len(packed), "n_samples")
    first = _per_scene(start, len(packed), "start")
    for b, (m, s) in enumerate(zip(counts, first, strict=True)):
        n = packed.starts[b + 1] - packed.starts[b]
        if not 0 <= m <= n or (m and not 0 <= s < n):
            raise ValueError(f"scene {b} has {n} points: cannot take {m} samples starting at {s}")
    ends = [0, *accumulate(counts)]
    if packed.dense and not isinstance(n_samples, int):
        raise ValueError(f"dense points need one n_samples for all scenes, got {n_samples}")
    shape = (len(packed), n_samples) if isinstance(n_samples, int) and packed.dense else (ends[-1],)
    chosen = check_out(out, shape, torch.int64, points.device)
    flat = chosen.view(-1)
    kernel = resolve(points.device, backend, package="pointnet2")
    if kernel == "pointnet2":
        _sample_pointnet2(packed, points, first, skip_origin, chosen)
    elif kernel == "numba":
        _sample_scenes(packed, first, ends, skip_origin, flat)
    elif kernel == "triton":
        _sample_triton(packed, first, ends, skip_origin, flat)
    else:
        for b, s in enumerate(first):
            flat[ends[b] : ends[b + 1]] = _sample_torch(packed.scene(b), counts[b], s, skip_origin)
    if not packed.dense and len(packed) > 1:
        starts, taken = (numbers_on(flat.device, v) for v in (packed.starts[:-1], counts))
        flat += starts.repeat_interleave(taken, output_size=len(flat))
    return chosen


def _per_scene(value: int | Sequence[int], n_scenes: int, name: str) -> list[int]:
    if isinstance(value, int):
        return [value] * n_scenes
    values = [int(v) for v in value]
    if len(values) != n_scenes:
        raise ValueError(f"{name} holds {len(values)} numbers for {n_scenes} scenes")
    return values


def _sample_torch(xyz: Tensor, m: int, start: int, skip_origin: bool) -> Tensor:
    chosen = torch.full((m,), start, dtype=torch.int64, device=xyz.device)
    nearest = torch.full_like(xyz[:, 0], torch.inf)
    if skip_origin:
        nearest[_squared_norm(xyz) <= ORIGIN_SQUARED] = -1.0
    for i in range(1, m):
        nearest = torch.minimum(nearest, _squared_norm(xyz - xyz[chosen[i - 1]]))
        chosen[i] = nearest.max(0).indices  # the first of equals
    return chosen


def _squared_norm(v: Tensor) -> Tensor:
    """Sum the squares in a fixed order, for the last bit to be the same on every backend."""
    x, y, z = v.unbind(-1)
    return x * x + y * y + z * z


def _sample_pointnet2(
    packed: Packed, points: Tensor, first: list[int], skip_origin: bool, chosen: Tensor
) -> None:
    from .pointnet2_adapter import farthest_points

    if not (packed.dense and skip_origin and points.dtype == torch.float32) or any(first):
        raise ValueError("pointnet2_ops samples dense float32 points, with skip_origin, from point 0 on")
    chosen.copy_(farthest_points(points, chosen.shape[1]))


def _sample_triton(packed: Packed, first: list[int], ends: list[int], skip_origin: bool, out: Tensor) -> None:
    from .gpu.sampling import sample_farthest

    starts, firsts, stops = (numbers_on(out.device, v) for v in (packed.starts, first, ends))
    largest = max(np.diff(packed.starts), default=0)
    most = max(np.diff(ends), default=0)
    skip_below = ORIGIN_SQUARED if skip_origin else -1.0
    sample_farthest(packed.xyz, starts, firsts, stops, int(largest), int(most), skip_below, out)


def _sample_scenes(packed: Packed, first: list[int], ends: list[int], skip_origin: bool, out: Tensor) -> None:
    xyz, starts = packed.xyz.numpy(), np.array(packed.starts, np.int64)
    firsts, bounds, chosen = np.array(first, np.int64), np.array(ends, np.int64), out.numpy()
    bits = np.empty(len(xyz), np.int32 if xyz.dtype == np.float32 else np.int64)

    def work(begin: int, end: int) -> None:
        _sample_each(xyz, starts, firsts, bounds, begin, end, skip_origin, bits, chosen)

    with team():
        run_blocks(work, len(packed), least_rows=1)


@njit(cache=True, nogil=True)
def _sample_each(  # type: ignore[no-untyped-def]
    points: np.ndarray, starts, first, ends, begin: int, end: int, skip_origin: bool, bits: np.ndarray, out
) -> None:
    for b in range(begin, end):
        rows, chosen = slice(starts[b], starts[b + 1]), out[ends[b] : ends[b + 1]]
        scene, own = points[rows], bits[rows]
        if len(chosen) and len(scene) <= FEW:
            _start_near(scene, np.arange(len(scene)), skip_origin, own.view(points.dtype))
            sample_few(scene, first[b], own, chosen)
        elif len(chosen):
            _sample(scene, first[b], skip_origin, own, chosen)


@njit(cache=True, nogil=True)
def _start_near(points, order, skip_origin, near):  # type: ignore[no-untyped-def]
    """Squared distances before there is a sample: infinite, -1 where no sample may be."""
    near[:] = np.inf
    if skip_origin:
        for i in range(len(order)):
            x, y, z = points[order[i], 0], points[order[i], 1], points[order[i], 2]
            if x * x + y * y + z * z <= points.dtype.type(ORIGIN_SQUARED):
                near[i] = -1.0


@njit(cache=True, nogil=True)
def _sample(points: np.ndarray, start: int, skip_origin: bool, bits: np.ndarray, out: np.ndarray) -> None:
    order, xyz, box, who = bucket_tree.build(points, BUCKET)
    px, py, pz, near = xyz[0], xyz[1], xyz[2], bits.view(points.dtype)
    n_buckets = len(box) // 2
    _start_near(points, order, skip_origin, near)
    # Per node the largest squared distance of a point to the samples, and the lowest index that has it.
    top_bits = np.empty(len(box), bits.dtype)
    top = top_bits.view(points.dtype)
    top[:] = np.inf
    if len(points) < n_buckets:
        top[n_buckets:][np.diff(np.arange(n_buckets + 1) * len(points) // n_buckets) == 0] = -np.inf
    touched = np.empty(n_buckets, np.int32)
    out[0] = start
    for s in range(1, len(out)):
        x, y, z = points[out[s - 1]]
        touched[0], n_touched, visited = 1, 1, 0
        while visited < n_touched:
            parent = touched[visited]
            visited += 1
            for child in range(2 * parent, 2 * parent + 2):
                if bucket_tree.squared_gap(box, child, x, y, z) < top[child]:
                    if child < n_buckets:
                        touched[n_touched] = child
                        n_touched += 1
                    else:
                        b = child - n_buckets
                        begin, end = b * len(order) // n_buckets, (b + 1) * len(order) // n_buckets
                        own = bits[begin:end]
                        best = lower(
                            px[begin:end], py[begin:end], pz[begin:end], near[begin:end], own, x, y, z
                        )
                        top_bits[child], who[child] = best, lowest(own, order[begin:end], best)
        for i in range(n_touched - 1, -1, -1):
            node = touched[i]
            a, b = 2 * node, 2 * node + 1
            left = top[a] > top[b] or (top[a] == top[b] and who[a] < who[b])
            top[node], who[node] = (top[a], who[a]) if left else (top[b], who[b])
        out[s] = who[1]
