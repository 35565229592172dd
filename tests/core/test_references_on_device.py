# SPDX-License-Identifier: Apache-2.0
"""Torch references stay on the device of their inputs, and say there what they say on the CPU.

Without those of sequences and the sparse convolution: they ask for autocast, which knows real devices alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

from pc_perception.ops.backend import resolve
from pc_perception.ops.chamfer import chamfer_distance
from pc_perception.ops.clusters import euclidean_clusters
from pc_perception.ops.grouping import neighbor_max, voxel_neighbors
from pc_perception.ops.interpolate import three_interpolate
from pc_perception.ops.kernel_maps import strided_map, submanifold_map
from pc_perception.ops.neighbors import ball_query, k_nearest
from pc_perception.ops.plane import ground_plane
from pc_perception.ops.range_image import range_image
from pc_perception.ops.sampling import farthest_point_sampling
from pc_perception.ops.scatter import scatter_max, scatter_mean, scatter_sum
from pc_perception.ops.serialize import hilbert, z_order
from pc_perception.ops.voxelize import pool_features, voxelize

from .far_device import FarTensor, far_device

Operation = Callable[..., Any]


def _inputs() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    xyz = torch.rand(120, 3, generator=g) * 4
    coords = voxelize(xyz, 0.5, "torch").coords
    return {
        "xyz": xyz,
        "two": torch.rand(2, 40, 3, generator=g),
        "other": torch.rand(2, 30, 3, generator=g),
        "coords": coords,
        "features": torch.randn(len(coords), 6, generator=g),
        "values": torch.randn(120, 6, generator=g),
        "row": torch.randint(9, (120,), generator=g),
    }


def _voxels(t: dict[str, torch.Tensor], order: str) -> Any:
    voxels = voxelize(t["xyz"], 0.5, order=order)
    pooled = [pool_features(t["values"], voxels, how) for how in ("mean", "max", "first")]
    return [voxels.coords, voxels.codes, voxels.inverse, voxels.first, pooled]


OPERATIONS: dict[str, Operation] = {
    "voxelize": lambda t: [_voxels(t, "z"), _voxels(t, "first")],
    "lists": lambda t: (lists := voxel_neighbors(t["coords"]), neighbor_max(t["features"], lists)),
    "scatter": lambda t: [f(t["values"], t["row"], 9) for f in (scatter_sum, scatter_mean, scatter_max)],
    "sampling": lambda t: [
        farthest_point_sampling(t["xyz"], 9),
        farthest_point_sampling(t["two"], 7, start=3),
    ],
    "neighbors": lambda t: [
        k_nearest(t["xyz"], 4),
        k_nearest(t["two"], 3, t["other"]),
        ball_query(t["xyz"], 0.5, 4),
    ],
    "interpolate": lambda t: three_interpolate(t["xyz"][:50], t["values"][:50], t["xyz"]),
    "chamfer": lambda t: [chamfer_distance(t["two"], t["other"]), chamfer_distance(t["xyz"], t["xyz"][:50])],
    "curves": lambda t: [z_order(t["coords"], (1, 0, 2)), hilbert(t["coords"])],
    "maps": lambda t: [submanifold_map(t["coords"]), strided_map(t["coords"])],
    "image": lambda t: range_image(t["xyz"] - 2, (8, 32)),
    "clusters": lambda t: euclidean_clusters(t["xyz"], 0.4),
    "plane": lambda t: ground_plane(t["xyz"], max_tilt=1.5),
}


def _tensors(result: Any) -> list[torch.Tensor]:
    if is_dataclass(result):
        return _tensors([getattr(result, field.name) for field in fields(result)])
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in _tensors(part)]
    return [result] if isinstance(result, torch.Tensor) else []


@pytest.mark.parametrize("name", OPERATIONS)
def test_reference_stays_on_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC_PERCEPTION_BACKEND", "torch")
    inputs = _inputs()
    expected = _tensors(OPERATIONS[name](inputs))
    with far_device() as device:
        found = _tensors(OPERATIONS[name]({key: t.to(device) for key, t in inputs.items()}))
        assert resolve(device) == "torch"
        assert found
        assert all(isinstance(t, FarTensor) for t in found)
    assert len(found) == len(expected)
    for far, near in zip(found, expected, strict=True):
        torch.testing.assert_close(far.near, near)
