# SPDX-License-Identifier: Apache-2.0
"""The sparse U-Net: its layers by hand, scenes apart, and MinkowskiEngine's key layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract
from pc_perception.inference.loading import load_model
from pc_perception.inference.model_file import ModelHeader, build, save_model
from pc_perception.labels import UNLABELED, load_label_set
from pc_perception.models.minkowski_keys import (
    from_minkowski,
    minkowski_names,
    read_minkowski,
    to_minkowski,
)
from pc_perception.models.pyramid import Pyramid, build_pyramid, pack
from pc_perception.models.sparse_layers import BatchNorm, Lattice, ResidualBlock, SparseConvolution
from pc_perception.models.sparse_unet import RES16UNET34C, SparseUNet, SparseUNetSegmenter

TINY = {
    "widths": (4, 4, 6, 8, 8),
    "blocks": (1, 2, 1, 1),
    "up_widths": (8, 6, 4, 4),
    "up_blocks": (1, 1, 1, 1),
}


def scene(seed: int, n: int = 300) -> Pyramid:
    xyz = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) * 4
    return build_pyramid(xyz, 0.25, 5)[0]


def features_of(pyramid: Pyramid) -> Tensor:
    return pyramid.levels[0].xyz[:, :2].sin()


def trained(**shape: tuple[int, ...]) -> SparseUNet:
    """A network whose running statistics are not the initial ones."""
    torch.manual_seed(0)
    network = SparseUNet(2, **(shape or TINY))
    for seed in range(3):
        network(features_of(scene(seed)), scene(seed))
    return network.eval()


@pytest.mark.parametrize("k", range(27))
def test_a_one_hot_kernel_shifts_by_its_offset(k: int) -> None:
    """MinkowskiEngine's order, x fastest: row (dx+1) + 3(dy+1) + 9(dz+1), out[u] = x[u + offset] W."""
    layer, level = SparseConvolution(27, 1, 1), scene(0).levels[0]
    shift = torch.tensor([k % 3 - 1, k // 3 % 3 - 1, k // 9 - 1])
    value = torch.arange(1.0, len(level) + 1)[:, None]
    with torch.no_grad():
        layer.weight.zero_()[k] = 1
        out = layer(value, Lattice.of(scene(0)).around[0])
    rows = {tuple(c): i for i, c in enumerate(level.coords.tolist())}
    expected = [rows.get(tuple(c), -1) + 1.0 for c in (level.coords + shift).tolist()]
    assert out[:, 0].tolist() == expected


@pytest.mark.parametrize("k", range(8))
def test_one_hot_kernels_of_stride_two_and_back(k: int) -> None:
    """Row dx + 2dy + 4dz: down, the parent takes that child; up, that child takes the parent."""
    pyramid, layer = scene(1), SparseConvolution(8, 1, 1)
    lattice, (fine, coarse) = Lattice.of(pyramid), pyramid.levels[:2]
    shift = torch.tensor([k % 2, k // 2 % 2, k // 4])
    rows = {tuple(c): i for i, c in enumerate(fine.coords.tolist())}
    with torch.no_grad():
        layer.weight.zero_()[k] = 1
        down = layer(torch.arange(1.0, len(fine) + 1)[:, None], lattice.down[0])
        up = layer(torch.arange(1.0, len(coarse) + 1)[:, None], lattice.up[0])
    assert fine.parent is not None
    expected = [rows.get(tuple(c), -1) + 1.0 for c in (2 * coarse.coords + shift).tolist()]
    assert down[:, 0].tolist() == expected
    is_child = (fine.coords - 2 * coarse.coords[fine.parent] == shift).all(1)
    assert torch.equal(up[:, 0], torch.where(is_child, fine.parent + 1.0, 0.0))


def test_a_residual_block_by_dense_convolution() -> None:
    torch.manual_seed(2)
    block, pyramid = ResidualBlock(2, 3).eval(), scene(2)
    x, coords = features_of(pyramid), pyramid.levels[0].coords
    side = int(coords.max()) + 1
    occupied = torch.zeros(1, 1, side, side, side)
    occupied[0, 0, coords[:, 2], coords[:, 1], coords[:, 0]] = 1

    def dense(rows: Tensor) -> Tensor:
        grid = torch.zeros(1, rows.shape[1], side, side, side)
        grid[0][:, coords[:, 2], coords[:, 1], coords[:, 0]] = rows.T
        return grid

    def kernel(layer: SparseConvolution) -> Tensor:
        return layer.weight.permute(2, 1, 0).reshape(layer.weight.shape[2], -1, 3, 3, 3)

    scale = (1 + 1e-5) ** -0.5  # fresh running statistics
    inner = (
        functional.conv3d(dense(x), kernel(block.first.convolution), padding=1).mul(scale).relu() * occupied
    )
    outer = functional.conv3d(inner, kernel(block.second.convolution), padding=1).mul(scale)
    outer = outer[0][:, coords[:, 2], coords[:, 1], coords[:, 0]].T
    assert block.shortcut is not None
    expected = (outer + x @ block.shortcut[0].weight.T * scale).relu()
    torch.testing.assert_close(block(x, Lattice.of(pyramid).around[0]), expected, atol=1e-5, rtol=1e-5)


def test_other_scenes_of_a_batch_change_nothing() -> None:
    network, scenes = trained(), [scene(s, n) for s, n in ((5, 300), (6, 90), (7, 500))]
    packed = pack(scenes)
    with torch.no_grad():
        together = network(torch.cat([features_of(s) for s in scenes]), packed)
        for s, start in zip(scenes, packed.levels[0].offsets, strict=False):
            alone = network(features_of(s), s)
            assert alone.std() > 0.01
            torch.testing.assert_close(together[start : start + len(alone)], alone, atol=1e-5, rtol=0)


def test_the_order_of_points_changes_nothing() -> None:
    network, g = trained(), torch.Generator().manual_seed(0)
    xyz = torch.rand(400, 3, generator=g) * 4
    order = torch.randperm(400, generator=g)
    found = []
    for points in (xyz, xyz[order]):
        pyramid, row = build_pyramid(points, 0.25, 5)
        found.append(network(features_of(pyramid), pyramid)[row])
    torch.testing.assert_close(found[1], found[0][order], atol=1e-5, rtol=0)


def test_gradients_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    network, pyramid = trained().double(), scene(8)
    found = []
    for backend in ("numba", "torch"):
        monkeypatch.setenv("PC_PERCEPTION_BACKEND", backend)
        network.zero_grad()
        network(features_of(pyramid).double(), pyramid).square().sum().backward()
        found.append([p.grad.clone() for p in network.parameters()])  # type: ignore[union-attr]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_one_voxel_can_be_trained_on() -> None:
    norm = BatchNorm(3)
    x = torch.full((1, 3), 2.0)
    torch.testing.assert_close(norm(x), x / (1 + 1e-5) ** 0.5)
    assert float(norm.running_mean.abs().sum()) == 0


def test_the_published_layout() -> None:
    """374 tensors of 37,866,846 elements with a head of 64 (from SLidR's definition)."""
    network = SparseUNet(1, **RES16UNET34C)
    state = to_minkowski(network, {"final": nn.Linear(96, 64)})
    assert (len(state), sum(t.numel() for t in state.values())) == (374, 37_866_846)
    shapes = {
        "conv0p1s1.kernel": (27, 1, 32),
        "conv4p8s2.kernel": (8, 128, 128),
        "block2.0.conv1.kernel": (27, 32, 64),
        "block2.0.downsample.0.kernel": (32, 64),
        "block4.5.norm2.bn.running_var": (256,),
        "convtr4p16s2.kernel": (8, 256, 256),
        "block5.0.conv1.kernel": (27, 384, 256),
        "convtr5p8s2.kernel": (8, 256, 128),
        "block6.0.downsample.0.kernel": (192, 128),
        "convtr7p2s2.kernel": (8, 96, 96),
        "bntr7.bn.weight": (96,),
        "block8.1.conv2.kernel": (27, 96, 96),
        "final.kernel": (96, 64),
        "final.bias": (1, 64),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("layout", ["slidr", "cmcr", "bare"])
def test_checkpoints_come_back_exactly(layout: str, tmp_path: Path) -> None:
    network, head = trained(), nn.Linear(4, 64)
    state = to_minkowski(network, {"final": head, "final_class_level": nn.Linear(4, 64)})
    data = {
        "slidr": {
            "model_points": {f"module.{k}": v for k, v in state.items()},
            "model_images": {},
            "epoch": 3,
        },
        "cmcr": {
            "state_dict": {f"model_points.{k}": v for k, v in state.items()}
            | {"model_images.decoder.weight": torch.zeros(2), "embedding": torch.zeros(400, 64)},
            "epoch": 9,
        },
        "bare": state,
    }[layout]
    torch.save(data, tmp_path / "file.pt")
    found = read_minkowski(tmp_path / "file.pt", network)
    torch.testing.assert_close(found.pop("head.weight"), head.weight.detach())
    assert found.pop("head.bias").shape == (64,)
    del found["specific.weight"], found["specific.bias"]
    other = SparseUNet(2, **TINY).eval()
    other.load_state_dict(found)
    pyramid = scene(9)
    torch.testing.assert_close(other(features_of(pyramid), pyramid), network(features_of(pyramid), pyramid))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    network = SparseUNet(2, **TINY)
    state = to_minkowski(network)
    assert len(minkowski_names(network)) == len(network.state_dict())
    with pytest.raises(
        ValueError, match=r"'conv0p1s1.kernel' is \(27, 2, 4\), this network needs \(27, 1, 4\)"
    ):
        from_minkowski(state, SparseUNet(1, **TINY))
    with pytest.raises(ValueError, match="holds 'extra'"):
        from_minkowski(state | {"extra": torch.zeros(1)}, network)
    del state["bn2.bn.bias"]
    with pytest.raises(ValueError, match=r"lacks 'bn2.bn.bias'"):
        from_minkowski(state, network)
    torch.save({"model_points": network}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="plain tensors"):
        read_minkowski(tmp_path / "code.pt", network)
    with pytest.raises(ValueError, match="one level more"):
        SparseUNet(1, widths=(4, 4))


@pytest.mark.parametrize("voxels", ["cartesian", "cylindrical"])
def test_a_model_file_labels_a_cloud(voxels: str, tmp_path: Path) -> None:
    contract = InputContract(0.3, ("height", "intensity_255"), voxels=voxels)
    labels = load_label_set("street8")
    torch.manual_seed(0)
    network = SparseUNetSegmenter(SparseUNet(contract.n_features, **TINY), len(labels))
    architecture = {"name": "SparseUNetSegmenter", "arguments": {k: list(v) for k, v in TINY.items()}}
    save_model(
        tmp_path / "m.safetensors", network, ModelHeader("segmentation", architecture, contract, labels)
    )
    model = load_model(tmp_path / "m.safetensors", "cpu")
    clouds = [cloud_of(0, 3000), cloud_of(1, 500)]
    result = model(clouds[0])
    assert len(set(result.labels.tolist()) - {UNLABELED}) > 1
    assert (result.labels == UNLABELED).sum() == 1  # the point that is NaN
    assert all(np.array_equal(a.labels, model(c).labels) for a, c in zip(model(clouds), clouds, strict=True))
    order = np.random.default_rng(0).permutation(3000)
    assert (model(clouds[0].select(order)).labels == result.labels[order]).mean() > 0.999
    torch.set_num_threads(2)
    try:
        np.testing.assert_allclose(model(clouds[0]).confidence, result.confidence, atol=1e-5)
    finally:
        torch.set_num_threads(1)


def cloud_of(seed: int, n: int) -> PointCloud:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-9, -9, -1], [9, 9, 2], (n, 3)).astype(np.float32)
    xyz[n // 2] = np.nan
    return PointCloud(xyz, {"intensity": rng.uniform(0, 255, n).astype(np.float32)}, "lidar")


def test_cylindrical_voxels_are_a_degree_wide() -> None:
    """SLidR's coordinates (rho / 0.1, degrees, z / 0.1): what is one voxel, and what is two."""
    contract = InputContract(0.1, ("intensity_raw",), voxels="cylindrical")
    degree = np.deg2rad([10.2, 10.8, 11.2])
    flat = np.c_[50.05 * np.cos(degree), 50.05 * np.sin(degree), np.full(3, 0.05)]
    xyz = np.concatenate([flat, flat[:1] * 1.002, flat[:1] + np.array([0, 0, 0.1])]).astype(np.float32)
    intensity = np.array([10, 30, 50, 70, 90], np.float32)
    found = contract.prepare(PointCloud(xyz, {"intensity": intensity}), 2)
    groups = found.inverse.tolist()
    assert groups[0] == groups[1]
    assert len(set(groups)) == 4
    assert found.features[found.inverse, 0].tolist() == [20, 20, 50, 70, 90]
    scaled = InputContract(0.1, ("intensity_255",), voxels="cylindrical")
    other = scaled.prepare(PointCloud(xyz, {"intensity": intensity}), 2)
    torch.testing.assert_close(other.features * 255, found.features)
    assert InputContract.from_json(contract.to_json()) == contract
    with pytest.raises(ValueError, match="cartesian or cylindrical"):
        InputContract(0.1, ("height",), voxels="polar")
    with pytest.raises(ValueError, match="not defined for cylindrical"):
        InputContract(0.1, ("offset",), voxels="cylindrical")


def test_a_header_cannot_ask_for_something_huge(tmp_path: Path) -> None:
    contract, labels = InputContract(0.3, ("height",)), load_label_set("street8")
    for changes, words in (
        ({"widths": [10**9] * 5}, "whole numbers"),
        ({"blocks": [1, 2, 1]}, "one level more"),
        ({"local": [1]}, "not those of SparseUNet"),
    ):
        arguments = {k: list(v) for k, v in TINY.items()} | changes
        header = ModelHeader(
            "segmentation", {"name": "SparseUNetSegmenter", "arguments": arguments}, contract, labels
        )
        with pytest.raises(ValueError, match=words):
            build(header)
