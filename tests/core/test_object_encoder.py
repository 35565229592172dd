# SPDX-License-Identifier: Apache-2.0
"""Patches and encoders of objects: sizes, independence of the batch, order of points, objects of few points."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pc_perception.models.object_encoder import SIZES, ObjectClassifier, ObjectEncoder
from pc_perception.models.patches import make_patches, walk_order, z_curve_order
from pc_perception.models.transformer import DropPath, SinePosition
from pc_perception.ops.sampling import farthest_point_sampling

SMALL = {"n_patches": 12, "patch_size": 8, "width": 24, "depth": 2, "heads": 2, "embed": [8, 12, 16]}


def objects(*sizes: int) -> tuple[torch.Tensor, tuple[int, ...]]:
    torch.manual_seed(0)
    points = torch.randn(sum(sizes), 3)
    ends = torch.tensor([0, *sizes]).cumsum(0)
    return points / points.norm(dim=1, keepdim=True), tuple(ends.tolist())


def settled(arguments: dict, n_classes: int = 5) -> ObjectClassifier:
    """A classifier whose batch norms have seen something."""
    torch.manual_seed(0)
    network = ObjectClassifier(ObjectEncoder(**arguments), n_classes).train()
    network(torch.randn(4, 64, 3))
    return network.eval()


def test_patches_are_the_points_nearest_to_farthest_points() -> None:
    points, offsets = objects(100, 60)
    patches = make_patches(points, 12, 8, offsets)
    for b, cloud in enumerate((points[:100], points[100:])):
        chosen = farthest_point_sampling(cloud, 12)
        assert torch.equal(patches.centers[b], cloud[chosen])
        distance = (cloud[chosen][:, None] - cloud).norm(dim=2)
        nearest = distance.sort(1).values[:, :8]
        assert torch.allclose(patches.points[b].norm(dim=2), nearest, atol=1e-5)
        assert (patches.points[b, :, 0] == 0).all()  # the centre itself


def test_dense_and_packed_objects_are_cut_alike() -> None:
    points, offsets = objects(50, 50)
    packed, dense = make_patches(points, 12, 8, offsets), make_patches(points.view(2, 50, 3), 12, 8)
    assert torch.equal(packed.points, dense.points)
    assert torch.equal(packed.centers, dense.centers)


@pytest.mark.parametrize("n", [1, 2, 5, 11, 13])
def test_small_objects_repeat_what_they_have(n: int) -> None:
    points, offsets = objects(n, 40)
    patches = make_patches(points, 12, 8, offsets)
    assert torch.isfinite(patches.points).all()
    centers, own = patches.centers[0], points[:n]
    assert len(torch.unique(centers, dim=0)) == min(n, 12)
    restored = (patches.points[0] + centers[:, None]).view(-1, 3)
    assert torch.cdist(restored.double(), own.double()).amin(1).max() < 1e-6  # points of this object alone
    each = torch.unique((patches.points[0, 0] * 1e4).round(), dim=0)
    assert len(each) == min(n, 8)


def test_no_point_and_no_number_are_refused() -> None:
    points, _ = objects(20)
    with pytest.raises(ValueError, match="no point"):
        make_patches(points, 4, 4, (0, 20, 20))
    points[3, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        make_patches(points, 4, 4)


def test_sizes_keep_their_promises() -> None:
    tiny, card = (ObjectEncoder(**SIZES[name]).eval() for name in ("tiny", "card"))
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        tokens = tiny(torch.randn(1, 1024, 3))
    assert tokens.shape == (1, 48, 128)
    assert flops.get_total_flops() <= 0.1e9
    assert sum(p.numel() for p in tiny.parameters()) <= 2.4e6
    assert sum(p.numel() for p in card.parameters()) == 21_825_792
    assert (card.n_patches, card.patch_size, len(card.transformer.blocks)) == (64, 32, 12)
    rates = [block.drop_path.rate for block in card.transformer.blocks]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])


@pytest.mark.parametrize("changes", [{}, {"class_token": False}, {"causal": True, "order": "walk"}])
def test_an_object_is_encoded_alone(changes: dict) -> None:
    """Issue: batch independence 1e-5, whatever the sizes of its neighbours."""
    network = settled({**SMALL, **changes})
    points, offsets = objects(100, 5, 300, 1)
    with torch.no_grad():
        together, described = network(points, offsets), network.encoder.describe(points, offsets)
        for b in range(4):
            one = points[offsets[b] : offsets[b + 1]]
            assert torch.allclose(network(one[None])[0], together[b], atol=1e-5)
            assert torch.allclose(network.encoder.describe(one[None])[0], described[b], atol=1e-5)
    assert described.shape == (4, network.encoder.n_described)


def test_the_order_of_all_but_the_first_point_does_not_matter() -> None:
    network, (points, _) = settled(SMALL), objects(200)
    shuffled = torch.cat([points[:1], points[1:][torch.randperm(199)]])
    with torch.no_grad():
        assert torch.allclose(network(points[None]), network(shuffled[None]), atol=1e-5)


def test_describe_is_maximum_mean_and_class_token() -> None:
    encoder, (points, _) = settled(SMALL).encoder, objects(80)
    with torch.no_grad():
        tokens, described = encoder(points[None]), encoder.describe(points[None])
        whole = encoder.encode(points[None])
    assert tokens.shape == (1, 12, 24)
    assert torch.equal(described, torch.cat([tokens.amax(1), tokens.mean(1), whole[:, 0]], 1))
    assert torch.equal(encoder.pool(whole), torch.cat([whole[:, 0], tokens.amax(1)], 1))


def test_orders_visit_every_patch_once() -> None:
    centers = torch.rand(3, 20, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for order in (walk_order(centers), z_curve_order(centers)):
        assert torch.equal(order.sort(1).values, torch.arange(20).expand(3, -1))
    line = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [1, 0, 0], [-1.5, 0, 0]]])
    assert walk_order(line).tolist() == [[0, 2, 1, 3]]
    corners = torch.tensor([[[0.5, 0.5, 0.5], [-0.5, -0.5, -0.5], [0.5, -0.5, -0.5]]])
    assert z_curve_order(corners).tolist() == [[1, 2, 0]]


def test_sine_positions_by_hand() -> None:
    code = SinePosition(14)(torch.tensor([[0.25, 0.5, 0.0]]))
    expected = torch.tensor([[1.0, 0, 1, 0, 0, -1, 0, -1, 0, 1, 0, 1, 0, 0]])
    assert torch.allclose(code, expected, atol=1e-6)


def test_drop_path_drops_whole_objects_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    each = dropped.flatten(1)
    assert ((each == 0).all(1) | (each == 1 / 0.75).all(1)).all()
    assert float(dropped.mean()) == pytest.approx(1, abs=0.03)
    assert DropPath(0.25).eval()(torch.ones(2, 2, 3)).unique().tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({"order": "random"}, "order"), ({"position": "none"}, "position"), ({"heads": 5}, "multiple")],
)
def test_arguments_without_sense_are_refused(arguments: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ObjectEncoder(**{**SMALL, **arguments})
