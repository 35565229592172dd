# SPDX-License-Identifier: Apache-2.0
"""Point-PQAE: views, codes of places, attention to them, the loss, and whole runs."""

from __future__ import annotations

import math

import pytest
import torch
from shapes import STEADY, batch_of, fit

from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.ops.chamfer import chamfer_distance
from training.methods.decoupled_views import View, crop, draw_view, normalise, turned
from training.methods.point_mae import PointMae, PointMaeModel
from training.methods.point_pqae import PointPqae, PointPqaeModel, PositionalQuery, relative_position

ENCODER = {**STEADY, "n_patches": 8, "patch_size": 16, "width": 48, "depth": 1}


def build(**changes: object) -> PointPqaeModel:
    torch.manual_seed(0)
    settings = PointPqae(**{"decoder_depth": 1, "initial": "trunc_normal", **changes})  # type: ignore[arg-type]
    settings.validate()
    return PointPqaeModel(ObjectEncoder(**ENCODER), settings)


def both_views(points: torch.Tensor, offsets: tuple[int, ...]) -> tuple[View, View]:
    torch.manual_seed(3)
    return draw_view(points, offsets, 0.6, "z"), draw_view(points, offsets, 0.6, "z")


def test_a_shift_changes_neither_views_nor_their_relation() -> None:
    batch = batch_of(4)
    points = batch.points.double()
    one, other = both_views(points, batch.offsets)
    shift = torch.tensor([3.0, -5.0, 7.0], dtype=torch.float64)
    moved_one, moved_other = both_views(points + shift, batch.offsets)
    assert torch.allclose(one.points, moved_one.points, atol=1e-12)
    assert torch.allclose(other.center - one.center, moved_other.center - moved_one.center, atol=1e-12)
    assert torch.allclose(one.center + shift, moved_one.center, atol=1e-12)


def test_scale_changes_the_relation_alone() -> None:
    batch = batch_of(4)
    one, other = both_views(batch.points.double(), batch.offsets)
    large_one, large_other = both_views(batch.points.double() * 5, batch.offsets)
    assert torch.allclose(one.points, large_one.points, atol=1e-5)
    assert torch.allclose(5 * (other.center - one.center), large_other.center - large_one.center, atol=1e-12)


def test_exchanged_views_exchange_the_losses() -> None:
    model, batch = build(), batch_of(4)
    one, other = both_views(batch.points, batch.offsets)
    model.eval()
    with torch.no_grad():
        forth, back = model.cross(one, other), model.cross(other, one)
    assert float(forth["loss_first"]) == pytest.approx(float(back["loss_second"]), rel=1e-6)
    assert float(forth["loss_second"]) == pytest.approx(float(back["loss_first"]), rel=1e-6)
    assert float(forth["loss_first"]) != pytest.approx(float(forth["loss_second"]), rel=1e-3)


@pytest.mark.parametrize(("up", "axis"), [("x", 0), ("y", 1), ("z", 2)])
def test_views_fill_a_cube_before_they_are_turned(up: str, axis: int) -> None:
    batch = batch_of(3)
    cut, offsets = crop(batch.points, batch.offsets, 0.7)
    view = normalise(cut, offsets)
    rotated = turned(view, up)
    for a, b in ((offsets[i], offsets[i + 1]) for i in range(3)):
        low, high = view.points[a:b].amin(0), view.points[a:b].amax(0)
        assert torch.allclose(low, -torch.ones(3), atol=1e-5)
        assert torch.allclose(high, torch.ones(3), atol=1e-5)
        assert torch.equal(rotated.points[a:b, axis], view.points[a:b, axis])
        assert torch.allclose(rotated.points[a:b].norm(dim=1), view.points[a:b].norm(dim=1), atol=1e-5)
    assert not torch.allclose(rotated.points, view.points, atol=0.1)


def test_crops_hold_the_points_nearest_to_one_of_them_nearest_first() -> None:
    points = torch.cat([torch.rand(50, 3), 100 + torch.rand(9, 3)])
    cut, offsets = crop(points, (0, 50, 59), 0.6)
    assert offsets == (0, 30, 35)
    for part, whole in ((cut[:30], points[:50]), (cut[30:], points[50:])):
        distance = (part - part[0]).norm(dim=1)
        assert (distance.diff() >= 0).all()
        assert torch.allclose(distance, (whole - part[0]).norm(dim=1).sort().values[: len(part)])
    whole, offsets = crop(points, (0, 50, 59), 1.0)
    assert offsets == (0, 50, 59)
    assert draw_view(points, (0, 50, 59), 1.0, "z").points[:50].abs().max() < 1  # moved, not stretched


def test_the_code_of_places() -> None:
    x = torch.rand(2, 64, 6) * 2 - 1
    code = relative_position(x, 384)
    assert code.shape == (2, 64, 384)
    assert code.abs().max() <= 1
    sines, cosines = code.unflatten(-1, (6, 2, 32)).unbind(-2)
    assert torch.allclose(sines**2 + cosines**2, torch.ones(()), atol=1e-6)
    zero = relative_position(torch.zeros(1, 1, 6), 384).view(6, 2, 32)
    assert (zero[:, 0] == 0).all()
    assert (zero[:, 1] == 1).all()
    hand = [math.sin(0.5), math.sin(0.5 * 10_000 ** (-1 / 32)), math.sin(0.5 * 10_000 ** (-31 / 32))]
    half = relative_position(torch.full((1, 1, 6), 0.5), 384)[0, 0]
    assert half[[0, 1, 31]].tolist() == pytest.approx(hand, abs=1e-6)
    sweep = relative_position(torch.linspace(-1, 1, 201)[None, :, None].expand(1, -1, 6), 384)[0, :, :64]
    varies = (sweep.amax(0) - sweep.amin(0)) > 0.1
    # Over -1 .. 1 a sine of frequency f spans 2 sin f, and those below 0.1 do not count.
    assert (int(varies[:32].sum()), int(varies[32:].sum())) == (11, 3)


def test_the_query_attends() -> None:
    torch.manual_seed(0)
    query = PositionalQuery(24, 2)
    places, tokens = torch.randn(2, 7, 24), torch.randn(2, 9, 24)
    t = query(places, tokens)
    equal = query(places, tokens[:, :1].expand(-1, 9, -1))
    assert torch.allclose(equal, equal[:, :1].expand_as(equal), atol=1e-6)
    assert torch.allclose(query(places, tokens[:, torch.randperm(9)]), t, atol=1e-6)
    order = torch.randperm(7)
    assert torch.allclose(query(places[:, order], tokens), t[:, order], atol=1e-6)


def test_without_places_all_patches_are_drawn_alike_and_less_is_learned() -> None:
    batch = batch_of(2, 64)
    one, other = both_views(batch.points, batch.offsets)
    losses = {}
    for kind in ("relative", "constant"):
        model = build(query=kind)
        model.losses = lambda _, model=model: model.cross(one, other)  # the same views at every step
        losses[kind] = fit(model, batch, 250, lr=2e-3)[-1]
    patches = model.encoder.patches(other.points, other.offsets)
    drawn = model.eval().draw(patches.centers, one.center - other.center, model.encode(patches))
    assert torch.allclose(drawn, drawn[:, :1].expand_as(drawn), atol=1e-5)
    assert losses["relative"] < 0.7 * losses["constant"]  # 0.35 and 0.71 seen


def test_chamfer_by_hand() -> None:
    a, b = torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.3, 0.4]]])
    assert float(chamfer_distance(a, b)) == pytest.approx(2 * 0.25)
    assert float(chamfer_distance(a, b, "l1")) == pytest.approx(0.5)
    x = torch.rand(3, 20, 3)
    assert float(chamfer_distance(x, x)) == 0


def test_an_encoder_of_point_mae_lacks_the_class_token_alone() -> None:
    mae = PointMaeModel(ObjectEncoder(**{**ENCODER, "class_token": False}), PointMae())
    found = build().encoder.load_state_dict(mae.encoder.state_dict(), strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["class_token", "class_position"], [])


@pytest.mark.parametrize("initial", ["reference", "trunc_normal"])
def test_the_loss_falls(initial: str) -> None:
    found = fit(build(initial=initial), batch_of(8, 64), 50)
    assert sum(found[-10:]) / 10 < 0.75 * found[0]


def test_initial_weights_are_the_published_ones() -> None:
    torch.manual_seed(0)
    reference = PointPqaeModel(ObjectEncoder(**{**ENCODER, "width": 96}), PointPqae())
    linear = reference.encoder.transformer.blocks[0].mlp[0].weight.detach()
    assert float(linear.mean()) == pytest.approx(0.02, abs=2e-4)
    assert float(linear.std()) == pytest.approx(0.01, abs=2e-4)
    assert float(reference.encoder.embedding.second[3].weight.detach().mean()) == pytest.approx(0, abs=2e-3)
    plain = build().encoder.transformer.blocks[0].mlp[0].weight.detach()
    assert float(plain.mean()) == pytest.approx(0, abs=2e-3)


def test_every_weight_in_use_is_trained() -> None:
    model = build()
    fit(model, batch_of(), 1)
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not any(p.requires_grad for p in model.decoder_position.parameters())


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="crop"):
        PointPqae(crop=0).validate()
    with pytest.raises(ValueError, match="initial"):
        PointPqae(initial="zeros").validate()
