# SPDX-License-Identifier: Apache-2.0
"""Choose which implementation of an operation runs: the one place that decides.

``torch`` is the reference and runs on every device; ``numba`` is the CPU path. An argument beats the
environment variable ``PC_PERCEPTION_BACKEND``, which beats the choice by device.
"""

from __future__ import annotations

import os
from typing import Literal

import torch

Backend = Literal["torch", "numba"]
_BACKENDS = ("torch", "numba")


def resolve(device: torch.device, backend: str | None = None) -> Backend:
    """Return the backend for tensors on ``device``.

    Raises:
        ValueError: the forced backend is unknown or cannot run on ``device``.
    """
    forced = backend or os.environ.get("PC_PERCEPTION_BACKEND") or None
    if forced is None:
        return "numba" if device.type == "cpu" else "torch"
    if forced not in _BACKENDS:
        raise ValueError(f"backend '{forced}' is unknown; choose one of {', '.join(_BACKENDS)}")
    if forced == "numba" and device.type != "cpu":
        raise ValueError(f"backend 'numba' runs on the CPU, the tensors are on {device}; use 'torch'")
    return "numba" if forced == "numba" else "torch"


def warm_up() -> None:
    """Compile (or load from the disk cache) every Numba kernel by running it on a few points."""
    from . import ground, grouping, interpolate, neighbors, recurrence, sampling, shape, voxelize

    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(64, 3, generator=generator)
    voxels = voxelize.voxelize(xyz, 0.25, backend="numba")
    voxelize.segment_mean(xyz, voxels.inverse, len(voxels), backend="numba")
    neighborhood = grouping.voxel_neighbors(voxels.coords, backend="numba")
    sums = shape.moments(xyz, voxels.inverse, len(voxels))
    shape.shape_features(sums, neighborhood, 0.25, backend="numba")
    features = torch.rand(len(voxels), 8, generator=generator, requires_grad=True)
    grouping.neighbor_max(features, neighborhood, backend="numba").sum().backward()
    ground.height_above_ground(xyz, backend="numba")
    q = torch.rand(1, 4, 2, 8)
    decay = torch.zeros(1, 4, 2)
    recurrence.gated_delta_rule(q, q, q, decay, decay, backend="numba")
    sampling.farthest_point_sampling(xyz, 4, backend="numba")
    points = torch.rand(64, 8, generator=generator, requires_grad=True)
    interpolate.three_interpolate(xyz, points, xyz[:8], backend="numba").sum().backward()
    neighbors.ball_query(xyz, 0.5, 4, by_index=True, backend="numba")
