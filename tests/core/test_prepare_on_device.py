# SPDX-License-Identifier: Apache-2.0
"""Clouds are prepared where the network is: the same voxels, lists and features as on the CPU, devices never mixed."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract, Prepared
from pc_perception.inference.features import FEATURES
from pc_perception.inference.panoptic import of_points
from pc_perception.models.pyramid import Level, Pyramid
from pc_perception.ops.grouping import Neighborhood

from .conftest import make_cloud
from .far_device import FAR, FarTensor, far_device

CONTRACT = InputContract(0.4, tuple(FEATURES), max_range_m=25.0)
CYLINDRICAL = replace(
    CONTRACT, voxels="cylindrical", features=tuple(f for f in FEATURES if f not in ("offset", "shape"))
)
CAMERA = InputContract(0.05, ("offset", "height", "shape", "color"), level_camera=True)


def _sweep(n: int = 500) -> PointCloud:
    cloud = make_cloud(0, n)
    cloud.xyz[5] = np.nan
    rgb = np.random.default_rng(0).integers(0, 256, (n, 3), np.uint8)
    return cloud.with_fields(rgb=rgb)


def _view() -> PointCloud:
    """A camera's view of a floor and a wall, organised."""
    v, u = np.mgrid[-8:8, -12:12] / np.float32(14)
    depth = np.minimum(1.2 / np.maximum(v, 1e-3), 3 + 0 * u).astype(np.float32)
    depth *= (
        np.random.default_rng(0).normal(1, 0.004, depth.shape).astype(np.float32)
    )  # no exact lines: no normal
    xyz = np.stack([u * depth, v * depth, depth], 2).reshape(-1, 3).astype(np.float32)
    return PointCloud(
        xyz, {"rgb": np.full((len(xyz), 3), 90, np.uint8)}, "camera_optical_frame", grid_shape=u.shape
    )


CASES = {
    "spinning": (CONTRACT, _sweep()),
    "cylindrical": (CYLINDRICAL, _sweep()),
    "a map, without fields": (CONTRACT, PointCloud(make_cloud(1, 300).xyz + np.float32([500, 900, 0]))),
    "camera": (CAMERA, _view()),
    "nothing": (CONTRACT, PointCloud(np.full((3, 3), np.nan, np.float32))),
}


def _tensors(prepared: Prepared) -> dict[str, torch.Tensor]:
    found = {"features": prepared.features, "inverse": prepared.inverse}
    for depth, level in enumerate(prepared.pyramid.levels):
        for field in fields(Level):
            value = getattr(level, field.name)
            if isinstance(value, torch.Tensor):
                found[f"{depth} {field.name}"] = value
            elif isinstance(value, Neighborhood):
                found |= {f"{depth} {field.name} {k}": getattr(value, k) for k in ("starts", "index")}
    return found


def _assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = 0.0 if not value.is_floating_point() else 2e-3 if name == "features" else 1e-4
        torch.testing.assert_close(
            found[name], value, atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("case", CASES)
def test_no_device_is_mixed(case: str) -> None:
    contract, cloud = CASES[case]
    expected = contract.prepare(cloud, 3)
    with far_device() as device:
        prepared = contract.prepare(cloud, 3, device)
        found = _tensors(prepared)
        assert all(isinstance(t, FarTensor) and t.device == FAR for t in found.values())
        near = {name: t.near for name, t in found.items()}
        logits = torch.randn(len(prepared.features), 4, generator=torch.Generator().manual_seed(0))
        labels, confidence = contract.finish(logits.to(device), prepared.inverse)
        instance = of_points(torch.arange(len(logits)).to(device), prepared.inverse)
    _assert_same(near, _tensors(expected))
    here = contract.finish(logits, expected.inverse)
    assert labels.dtype == np.uint16
    assert np.array_equal(labels, here[0])
    assert np.array_equal(confidence, here[1])
    assert np.array_equal(instance, of_points(torch.arange(len(logits)), expected.inverse))


@pytest.mark.parametrize("case", CASES)
def test_triton_prepares_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    contract, cloud = CASES[case]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    expected = contract.prepare(cloud, 3)
    if device.type == "cpu":  # a GPU takes Triton by itself; leveling a view stays on the CPU, without it
        monkeypatch.setenv("PC_PERCEPTION_BACKEND", "triton")
    found = contract.prepare(cloud, 3, device)
    _assert_same({name: t.cpu() for name, t in _tensors(found).items()}, _tensors(expected))


def test_the_far_device_refuses_what_a_gpu_refuses() -> None:
    with far_device() as device:
        far = torch.zeros(3, device=device)
        with pytest.raises(RuntimeError, match="two devices"):
            far + torch.ones(3)
        with pytest.raises(RuntimeError):
            far.numpy()
        assert far.add_(2).cpu().tolist() == [2.0] * 3
        assert Pyramid(()).to(device) == Pyramid(())
