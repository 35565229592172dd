# SPDX-License-Identifier: Apache-2.0
"""Choose which implementation of an operation runs: the one place that decides.

``torch`` is the reference and runs on every device; ``numba`` is the CPU path, ``triton`` the CUDA path
(``ops/gpu``; with ``TRITON_INTERPRET=1`` its kernels also run, slowly, on CPU tensors: that is how they are
tested without a GPU). The packages flash-linear-attention (``fla``), ``spconv`` and pointnet2_ops (``pointnet2``) are
taken on CUDA only where they are asked for, by the operations that they have; the others choose by device. An argument
beats the environment variable ``PC_PERCEPTION_BACKEND``, which beats the choice by device.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from .neighborhood import BlockWeights

Backend = Literal["torch", "numba", "triton", "fla", "spconv", "pointnet2"]
LEAST_TRITON = (3, 3)
"""Tuples in kernels and cooperative launches; torch 2.7 brings it, older ones run the reference on CUDA."""
_OURS: tuple[Backend, ...] = ("torch", "numba", "triton")
_MODULES: dict[Backend, str] = {"fla": "fla", "spconv": "spconv", "pointnet2": "pointnet2_ops"}
"""Backends that are optional packages -> what those are imported as."""


def resolve(device: torch.device, backend: str | None = None, package: Backend | None = None) -> Backend:
    """Return the backend for tensors on ``device``. An operation without a kernel for it runs its reference.

    Args:
        package: the optional package that has this operation.

    Raises:
        ValueError: the forced backend is unknown or cannot run on ``device``.
    """
    forced = backend or os.environ.get("PC_PERCEPTION_BACKEND") or None
    if forced is None or (forced in _MODULES and forced != package):
        if device.type == "cpu":
            return "numba"
        return "triton" if device.type == "cuda" and _has_triton() else "torch"
    for known in (*_OURS, *_MODULES):
        if forced == known:
            if reason := _hindrance(known, device):
                raise ValueError(f"backend '{known}' {reason}, the tensors are on {device}; use 'torch'")
            return known
    raise ValueError(f"backend '{forced}' is unknown; choose one of {', '.join((*_OURS, *_MODULES))}")


def available(device: torch.device) -> tuple[Backend, ...]:
    """Return the backends that can run every operation on ``device``, the one that is taken by itself first."""
    usable = [b for b in _OURS if not _hindrance(b, device)]
    return tuple(sorted(usable, key=lambda b: b != resolve(device)))


def _hindrance(backend: Backend, device: torch.device) -> str:
    """Say why ``backend`` cannot run on ``device``; empty where it can."""
    if backend == "numba" and device.type != "cpu":
        return "runs on the CPU"
    if backend == "triton":
        if not _has_triton():
            return f"needs the package triton, {LEAST_TRITON[0]}.{LEAST_TRITON[1]} or newer"
        if device.type != "cuda" and not (device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
            return "runs on CUDA (or on the CPU with TRITON_INTERPRET=1)"
    if backend == "spconv" and device.type != "cuda":
        return "runs on CUDA: on the CPU its threads overwrite each other's sums without a word"
    if backend in _MODULES:
        if find_spec(_MODULES[backend]) is None:
            return f"needs the package {_MODULES[backend]}"
        if device.type != "cuda":
            return "runs on CUDA"
    return ""


@cache
def _has_triton() -> bool:
    """Whether there is a Triton that compiles our kernels; they were run with 3.6 and 3.7."""
    if find_spec("triton") is None:
        return False
    try:
        return tuple(int(part) for part in version("triton").split(".")[:2]) >= LEAST_TRITON
    except (PackageNotFoundError, ValueError):  # under another name, as beside nightly builds of torch
        return True


def warm_up() -> None:
    """Compile (or load from the disk cache) the Numba kernels of the live path by running them on a few points."""
    from . import (
        dense_rows,
        ground,
        grouping,
        neighborhood,
        ranks,
        recurrence,
        rotate,
        scatter,
        shape,
        short_convolution,
        voxelize,
    )

    xyz = _few_points()
    rotate.rotate(xyz.numpy(), np.eye(3))
    voxels = voxelize.voxelize(xyz, 0.25, backend="numba")
    scatter.scatter_mean(xyz, voxels.inverse, len(voxels), backend="numba")
    lists = grouping.voxel_neighbors(voxels.coords, backend="numba")
    sums = shape.moments(xyz, voxels.inverse, len(voxels), backend="numba")
    shape.shape_features(sums, lists, 0.25, backend="numba")
    shape.column_top(xyz, xyz[:, 2].contiguous(), 1.0, backend="numba")
    ranks.ranks(xyz[:, 0].contiguous().numpy(), xyz[:4, 1].contiguous().numpy())
    features = torch.rand(len(voxels), 8)
    grouping.neighbor_max(features, lists, backend="numba")
    for low in (False, True):
        weights, norm = _some_weights(8, low), (np.ones(8, np.float32), np.zeros(8, np.float32))
        neighborhood.neighborhood_block(features, torch.rand(len(voxels), 3), lists, weights)
        dense_rows.norm_dense(features, norm, weights.edge)
        dense_rows.dense(features, weights.edge)
    ground.height_above_ground(xyz, backend="numba")
    q, decay = torch.rand(4, 2, 8), torch.zeros(4, 2)
    recurrence.gated_delta_rule(q, q, q, decay, decay, (0, 4), backend="numba")
    short_convolution.short_convolution(q[:, 0], torch.rand(8, 1, 4), (0, 4), backend="numba")


def warm_up_all() -> None:
    """Do the same for every Numba kernel there is: what training and offline tools use as well."""
    from . import (
        boxes,
        chamfer,
        clusters,
        grouping,
        interpolate,
        kernel_maps,
        neighbors,
        plane,
        range_image,
        recurrence,
        sampling,
        scatter,
        serialize,
        short_convolution,
        sparse_convolution,
        visibility,
        voxelize,
    )  # fmt: skip

    warm_up()
    xyz = _few_points()
    voxels = voxelize.voxelize(xyz, 0.25, backend="numba")
    voxelize.voxelize(xyz, 0.25, backend="numba", order="first")
    scatter.scatter_max(xyz, voxels.inverse, len(voxels), backend="numba")
    serialize.hilbert(voxels.coords, backend="numba")
    around = kernel_maps.submanifold_map(voxels.coords, backend="numba")
    kernel_maps.strided_map(voxels.coords, backend="numba")
    features = torch.rand(len(voxels), 8, requires_grad=True)
    sparse_convolution.sparse_convolution(features, torch.rand(27, 8, 8), around, "numba")
    neighborhood = grouping.voxel_neighbors(voxels.coords, backend="numba")
    grouping.neighbor_max(features, neighborhood, backend="numba").sum().backward()
    range_image.range_image(xyz, (4, 16), backend="numba")
    parts = clusters.euclidean_clusters(xyz, 0.2, backend="numba")
    boxes.level_boxes(xyz, parts, 64, backend="numba")
    plane.ground_plane(xyz, max_tilt=1.5, backend="numba")
    visibility.visible(xyz[:, :2].numpy(), xyz[:, 2].numpy(), np.ones((len(xyz), 2)), (4, 4))
    clouds = xyz.view(2, 32, 3).clone().requires_grad_()
    chamfer.chamfer_distance(clouds, clouds.detach() + 1, backend="numba").backward()
    chamfer.chamfer_distance(xyz, torch.rand(chamfer.DENSE_PAIRS // 64 + 1, 3), backend="numba")
    sampling.farthest_point_sampling(xyz, 4, backend="numba")
    points = torch.rand(64, 8, requires_grad=True)
    interpolate.three_interpolate(xyz, points, xyz[:8], backend="numba").sum().backward()
    neighbors.ball_query(xyz, 0.5, 4, by_index=True, backend="numba")
    neighbors.k_nearest(xyz, 4, backend="numba")
    tokens = torch.rand(8, 2, 8, requires_grad=True)
    mixed, _ = short_convolution.short_convolution(tokens[:, 0], torch.rand(8, 1, 4), (0, 8), backend="numba")
    gates = torch.zeros(8, 2)
    read, _ = recurrence.gated_delta_rule(tokens, tokens, tokens, gates, gates, (0, 8), backend="numba")
    (mixed.sum() + read.sum()).backward()


def _some_weights(width: int, low: bool) -> BlockWeights:
    from .dense_rows import pack
    from .neighborhood import BlockWeights

    norm = np.ones(width, np.float32), np.zeros(width, np.float32)
    layers = (pack(torch.rand(width, width), None, low) for _ in range(4))
    return BlockWeights(norm, norm, np.ones((3, width), np.float32), *layers)


def _few_points() -> torch.Tensor:
    return torch.rand(64, 3, generator=torch.Generator().manual_seed(0))
