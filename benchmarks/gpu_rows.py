# SPDX-License-Identifier: Apache-2.0
"""Operations and inputs of ``python -m benchmarks gpu``, with the ceilings (copy, matrix product) as first rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.dense import room, sweep
from benchmarks.gpu import GpuRow, Operation, Place
from benchmarks.gpu_buffers import (
    GRID_M,
    Call,
    chamfer_in_buffers,
    maps_in_buffers,
    prepare_in_buffers,
    rule_both_ways_in_buffers,
    rule_in_buffers,
    sample_in_buffers,
    search_in_buffers,
    tokens_in_buffers,
)
from benchmarks.sequences import both_ways, forward, gpu_tokens
from pc_perception.ops.chamfer import chamfer_distance
from pc_perception.ops.kernel_maps import strided_map, submanifold_map
from pc_perception.ops.neighbors import k_nearest
from pc_perception.ops.sampling import farthest_point_sampling
from pc_perception.ops.serialize import hilbert, z_order
from pc_perception.ops.sparse_convolution import sparse_convolution
from pc_perception.ops.voxelize import voxelize

Make = Callable[[np.random.Generator, bool], list[np.ndarray]]


def _prepare(inputs: list[Tensor], backend: str | None) -> object:
    voxels = voxelize(inputs[0], GRID_M, backend=backend)
    curves = [z_order(voxels.coords), z_order(voxels.coords, (1, 0, 2))]
    curves += [hilbert(voxels.coords, axes, backend=backend) for axes in ((0, 1, 2), (1, 0, 2))]
    return [voxels.coords, voxels.inverse, *(curve.argsort() for curve in curves)]


def _maps(inputs: list[Tensor], backend: str | None) -> object:
    coords, found = inputs[0], []
    for _ in range(5):
        level = submanifold_map(coords, backend=backend)
        down, coords, _ = strided_map(coords, backend=backend)
        found += [level.in_row, level.out_row, down.in_row, down.out_row]
    return found


def _convolve(inputs: list[Tensor], backend: str | None) -> object:
    return sparse_convolution(inputs[1], inputs[2], submanifold_map(inputs[0], backend=backend))


def _tokens(inputs: list[Tensor], backend: str | None) -> object:
    chosen = farthest_point_sampling(inputs[0], 64, backend=backend)
    centers = inputs[0].gather(1, chosen[..., None].expand(-1, -1, 3))
    return [chosen, k_nearest(inputs[0], 32, centers, backend=backend)[0]]


def _chamfer(inputs: list[Tensor], backend: str | None) -> object:
    a = inputs[0].detach().requires_grad_(inputs[0].shape[1] <= 32)
    value = chamfer_distance(a, inputs[1], backend=backend)
    if a.requires_grad:
        value.backward()
    return [value.detach(), *([a.grad] if a.grad is not None else [])]


def _scan(rng: np.random.Generator, tiny: bool, beams: int, azimuths: int) -> list[np.ndarray]:
    return [sweep(rng, 4, 32) if tiny else sweep(rng, beams, azimuths)]


def _room(rng: np.random.Generator, tiny: bool) -> list[np.ndarray]:
    return [room(rng, 256 if tiny else 150_000)]


def _voxels(rng: np.random.Generator, tiny: bool, make: Make, channels: int = 0) -> list[np.ndarray]:
    coords = voxelize(torch.from_numpy(make(rng, tiny)[0]), 0.05).coords.numpy()
    if not channels:
        return [coords]
    wide = 8 if tiny else channels
    features = rng.normal(size=(len(coords[:50_000]), wide)).astype(np.float16)
    return [coords[:50_000], features, (rng.normal(size=(27, wide, wide)) / 50).astype(np.float16)]


def _random(
    rng: np.random.Generator, tiny: bool, count: int, shapes: list[tuple[int, int]]
) -> list[np.ndarray]:
    few = 2 if tiny else count
    return [rng.random((few, min(n, 128) if tiny else n, d), dtype=np.float32) for n, d in shapes]


def _square(rng: np.random.Generator, tiny: bool) -> list[np.ndarray]:
    n = 64 if tiny else 8192
    return [rng.random((n, n), dtype=np.float32).astype(np.float16)]


def _sample(m: int) -> Operation:
    return lambda inputs, backend: farthest_point_sampling(
        inputs[0], min(m, inputs[0].shape[-2] // 2), backend=backend
    )


def _neighbors(inputs: list[Tensor], backend: str | None) -> object:
    return k_nearest(inputs[0], 16, backend=backend)[0]


def _copy(inputs: list[Tensor], backend: str | None) -> object:
    return inputs[0].clone()


def _product(inputs: list[Tensor], backend: str | None) -> object:
    return inputs[0] @ inputs[0]


def rows(place: Place) -> list[GpuRow]:
    """List the rows for ``place``: name, input, target and floor in milliseconds as the plan has them."""
    in_buffers: dict[Operation, Callable[[list[Tensor]], Call]] = {
        _prepare: prepare_in_buffers,
        _maps: maps_in_buffers,
        _neighbors: search_in_buffers,
        _tokens: tokens_in_buffers,
        _chamfer: chamfer_in_buffers,
        forward: rule_in_buffers,
        both_ways: rule_both_ways_in_buffers,
    }
    samples = {m: _sample(m) for m in (64, 512, 1024, 4096, 16_384)}
    in_buffers |= {operation: partial(sample_in_buffers, m=m) for m, operation in samples.items()}
    n32, n64 = (partial(_scan, beams=b, azimuths=a) for b, a in ((32, 1085), (64, 1875)))
    table: list[tuple[str, str, Make, Operation, float, float]] = [
        ("copy", "268 MB, read and write", partial(_random, count=1, shapes=[(8192, 8192)]), _copy, 0, 0.125),
        (
            "GEMM",
            "8,192 fp16",
            _square,
            _product,
            0,
            1.4,
        ),
        ("B5", "N32, voxels and four orders, no decode", n32, _prepare, 0.05, 0.001),
        ("B5", "room, voxels and four orders, no decode", _room, _prepare, 0.1, 0.001),
        ("B7", "N32, 5 levels", partial(_voxels, make=n32), _maps, 0.06, 0.003),
        ("B7", "room, 5 levels", partial(_voxels, make=_room), _maps, 0.15, 0.012),
        (
            "B8",
            "SubM C 256, 50,000 voxels, map",
            partial(_voxels, make=n64, channels=256),
            _convolve,
            0.35,
            0.042,
        ),
    ]
    objects = [(128, 1024, 64, 0.03, 0.009), (16, 1024, 512, 0.12, 0.072), (16, 8192, 1024, 0.5, 0.143)]
    for count, n, m, target, floor in objects:
        make = partial(_random, count=count, shapes=[(n, 3)])
        table.append(("B9", f"{count} x ({n:,} -> {m:,})", make, samples[m], target, floor))
    patches = partial(_random, count=3328, shapes=[(32, 3)] * 2)
    table += [
        ("B9", "N32 -> 4,096", n32, samples[4096], 4.0, 2.0),
        ("B9", "N64 -> 16,384", n64, samples[16_384], 14.0, 8.0),
        ("B10", "N32, k 16", n32, _neighbors, 0.12, 0.02),
        ("B10", "N64, k 16", n64, _neighbors, 0.35, 0.07),
        (
            "B11",
            "128 x (1,024 -> 64, k 32)",
            partial(_random, count=128, shapes=[(1024, 3)]),
            _tokens,
            0.06,
            0.009,
        ),
        (
            "B12",
            "3,328 x 32 x 32, and backward",
            patches,
            _chamfer,
            0.015,
            0.001,
        ),
        (
            "B12",
            "32 x 8,192 x 8,192",
            partial(_random, count=32, shapes=[(8192, 3)] * 2),
            _chamfer,
            0.7,
            0.26,
        ),
        ("B15", "GDN 32k, 16 heads of 128", gpu_tokens, forward, 0.45, 0.126),
        ("B15", "GDN 32k, 16 heads of 128, and backward", gpu_tokens, both_ways, 1.7, 0.43),
    ]
    return [GpuRow(*entry, place, in_buffers.get(entry[3])) for entry in table]
