# SPDX-License-Identifier: Apache-2.0
"""Tensors of fixed capacity hold the same voxels, features and labels as those of the right size."""

import numpy as np
import pytest
import torch

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import InputContract
from pc_perception.inference.features import FEATURES, fields_of
from pc_perception.inference.padded_cloud import PaddedInput, fits, prepare_padded
from pc_perception.inference.sweep_graph import label_padded
from pc_perception.models.linear import set_precision

from .conftest import TINY, make_cloud, make_segmenter

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CONTRACT = InputContract(0.8, tuple(FEATURES), max_range_m=25.0)


@pytest.fixture(autouse=True)
def _triton(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE.type == "cpu":
        monkeypatch.setenv("PC_PERCEPTION_BACKEND", "triton")


def _cloud(n: int = 300) -> PointCloud:
    cloud = make_cloud(0, n)
    cloud.xyz[5] = np.nan
    return cloud.with_fields(rgb=np.random.default_rng(0).integers(0, 256, (n, 3), np.uint8))


def _inputs(
    cloud: PointCloud, contract: InputContract, spare: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Points and fields as a graph's buffers hold them, ``spare`` rows longer than the cloud."""
    xyz = np.concatenate([cloud.xyz, np.full((spare, 3), np.nan, np.float32)])
    fields = fields_of(cloud, contract.features, slice(None))
    longer = {k: torch.cat([v, v.new_full((spare, *v.shape[1:]), 7)]).to(DEVICE) for k, v in fields.items()}
    return torch.from_numpy(xyz).to(DEVICE), longer


def _padded(cloud: PointCloud, contract: InputContract, capacities: tuple[int, ...]) -> PaddedInput:
    return prepare_padded(contract, *_inputs(cloud, contract, 20), capacities)


@pytest.mark.parametrize("fields", [("intensity", "rgb"), ()])
def test_equals_the_ordinary_way(fields: tuple[str, ...]) -> None:
    cloud = _cloud()
    cloud = PointCloud(cloud.xyz, {name: cloud.fields[name] for name in fields}, cloud.frame)
    expected = CONTRACT.prepare(cloud, 3, DEVICE)
    sizes = [len(level) for level in expected.pyramid.levels]
    found = _padded(cloud, CONTRACT, tuple(n + 9 for n in sizes))
    assert found.status.tolist() == [0, *sizes]
    assert torch.equal(found.inverse[: len(cloud)], expected.inverse)
    assert (found.inverse[len(cloud) :] == -1).all()
    torch.testing.assert_close(found.features[: sizes[0]], expected.features, atol=2e-3, rtol=0)
    for a, b, n in zip(found.pyramid.levels, expected.pyramid.levels, sizes, strict=True):
        assert torch.equal(a.coords[:n], b.coords)
        torch.testing.assert_close(a.xyz[:n], b.xyz)
        assert torch.equal(a.neighbors.starts[: n + 1], b.neighbors.starts)
        assert torch.equal(a.neighbors.index[: len(b.neighbors.index)], b.neighbors.index)
        assert (a.neighbors.starts[n:] == len(b.neighbors.index)).all()
        for curve in (0, 1):
            assert torch.equal(a.order(curve)[:n], b.order(curve))
        if b.children is not None:
            assert a.children is not None
            assert torch.equal(a.children.starts[: n + 1], b.children.starts)
        if b.parent is not None:
            assert a.parent is not None
            assert torch.equal(a.parent[:n], b.parent)


def test_labels_equal_those_of_the_ordinary_way() -> None:
    segmenter, cloud = make_segmenter(TINY), make_cloud(3, 300)
    network, contract = segmenter.network.to(DEVICE), segmenter.contract
    set_precision(network, "float32", DEVICE)
    with torch.inference_mode():
        expected = contract.prepare(cloud, 3, DEVICE)
        logits = network(expected.features, expected.pyramid)
        labels, confidence = contract.label(logits, expected.inverse)
        capacities = tuple(len(level) + 5 for level in expected.pyramid.levels)
        found = label_padded(network, contract, *_inputs(cloud, contract, 20), capacities)
    assert fits(found[2].tolist(), capacities)
    torch.testing.assert_close(found[1][:300], confidence, atol=1e-3, rtol=0)
    assert (found[0][:300] == labels).float().mean() > 0.99
    assert (found[1][300:] == 0).all()


@pytest.mark.parametrize(
    ("cloud", "capacities"),
    [
        (_cloud(), (500, 20, 60)),
        (_cloud(), (40, 300, 60)),
        (PointCloud(make_cloud(1, 300).xyz + np.float32([500, 900, 0])), (500, 300, 60)),
    ],
    ids=["a coarse level is full", "the first level is full", "a map"],
)
def test_says_where_it_does_not_fit(cloud: PointCloud, capacities: tuple[int, ...]) -> None:
    assert not fits(_padded(cloud, CONTRACT, capacities).status.tolist(), capacities)


def test_nothing_to_see() -> None:
    found = _padded(PointCloud(np.full((30, 3), np.nan, np.float32)), CONTRACT, (256, 256, 256))
    assert found.status.tolist() == [0, 0, 0, 0]
    assert (found.inverse == -1).all()
