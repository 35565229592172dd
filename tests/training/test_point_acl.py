# SPDX-License-Identifier: Apache-2.0
"""PointACL: scores, masks, the contrast and where its gradient goes, and both hosts."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from shapes import SMALL, STEADY, batch_of, fit

from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.transformer import Transformer
from training.augment import Augmentation
from training.methods.attention_monitor import AttentionMonitor
from training.methods.contrastive import info_nce_both_ways
from training.methods.method import Task
from training.methods.point_acl import PointAcl, PointAclModel, dynamic_mask, significance
from training.methods.point_gpt import PointGpt, PointGptModel, directions, dual_mask
from training.methods.point_mae import PointMae, PointMaeModel, random_mask, split

CAUSAL = {**STEADY, "causal": True, "order": "walk", "position": "sine"}
HOSTS = {"mae": (PointMae(decoder_depth=1), STEADY), "gpt": (PointGpt(decoder_depth=1, keep=4), CAUSAL)}


def build(host: str = "mae", **changes: object) -> PointAclModel:
    method, encoder = HOSTS[host]
    torch.manual_seed(0)
    settings = PointAcl(**{"host": method, "start": 0.0, "monitor": 0, **changes})  # type: ignore[arg-type]
    settings.validate()
    return settings.build(Task(None, 0, 0, encoder, Augmentation()), None)  # type: ignore[arg-type]


def draws(logits: list[float], k: int, n: int) -> torch.Tensor:
    scores = torch.tensor(logits).expand(n, -1)
    noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0))
    return dynamic_mask(scores, k, 1.0, noise)


def test_masks_follow_the_law_of_drawing_without_replacement() -> None:
    p = torch.tensor([0.0, 1.0, 2.0, 3.0]).softmax(0)
    first = draws([0.0, 1.0, 2.0, 3.0], 1, 200_000).float().mean(0)
    assert torch.allclose(first, p, atol=0.004)
    two = draws([0.0, 1.0, 2.0, 3.0], 2, 200_000).float().mean(0)
    exact = torch.zeros(4)
    for i, j in permutations(range(4), 2):
        chance = p[i] * p[j] / (1 - p[i])
        exact[i] += chance
        exact[j] += chance
    assert torch.allclose(exact, torch.tensor([0.1030, 0.2747, 0.6957, 0.9266]), atol=1e-4)
    assert torch.allclose(two, exact, atol=0.004)


def test_inclusion_at_the_proposed_temperature() -> None:
    scores = torch.rand(64, generator=torch.Generator().manual_seed(1))
    scores = (scores / scores.sum()).expand(20_000, -1)
    noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(2))
    share = dynamic_mask(scores, 38, 0.01, noise).float().mean(0)
    assert float(share.mean()) == pytest.approx(38 / 64, abs=1e-6)
    order = scores[0].argsort()
    assert float(share[order[:5]].mean()) == pytest.approx(0.2, abs=0.1)
    assert float(share[order[-5:]].mean()) > 0.9


def test_temperature_goes_from_random_to_fixed() -> None:
    scores = torch.linspace(1, 2, 20).expand(20_000, -1) / 30
    noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0))
    hot = dynamic_mask(scores, 12, 1e4, noise).float().mean(0)
    assert torch.allclose(hot, torch.full((20,), 0.6), atol=0.02)
    cold = dynamic_mask(scores, 12, 1e-5, noise)
    assert cold[:, 8:].all()
    assert torch.equal(cold, dynamic_mask(scores, 12, 1.0, None))
    for temperature in (1e-3, 1.0):
        flat = dynamic_mask(torch.full((20_000, 20), 0.05), 12, temperature, noise).float().mean(0)
        assert torch.allclose(flat, torch.full((20,), 0.6), atol=0.02)


def test_scores_are_shares_that_follow_their_patches() -> None:
    torch.manual_seed(0)
    transformer = Transformer(24, 2, 3).eval()
    x = torch.randn(4, 17, 24)
    scores = significance(*transformer.last_attention(transformer.outputs(x)), 1)
    assert torch.allclose(scores.sum(1), torch.ones(4))
    assert (scores >= 0).all()
    order = torch.randperm(16)
    swapped = torch.cat([x[:, :1], x[:, 1:][:, order]], 1)
    moved = significance(*transformer.last_attention(transformer.outputs(swapped)), 1)
    assert torch.allclose(moved, scores[:, order], atol=1e-6)
    attention, values = transformer.last_attention(transformer.outputs(x))
    assert torch.allclose(significance(attention, 7 * values, 1), scores, atol=1e-6)
    assert torch.allclose(significance(attention, values, 0).sum(1), torch.ones(4))


def test_attention_weights_are_those_of_the_block() -> None:
    torch.manual_seed(0)
    attention = Transformer(24, 1, 3).blocks[0].attn
    x, mask = torch.randn(2, 5, 24), torch.ones(5, 5, dtype=torch.bool).tril()
    weights, values = attention.weights(x, mask)
    assert torch.allclose(
        attention(x, mask), attention.proj((weights @ values).transpose(1, 2).flatten(2)), atol=1e-6
    )


@pytest.mark.parametrize("host", HOSTS)
def test_no_gradient_through_scores_or_mask(host: str) -> None:
    model, batch = build(host), batch_of(4)
    patches = model.encoder.patches(batch.points, batch.offsets)
    feature, scores = model.whole(patches, model.encoder.embedding(patches.points))
    assert feature.requires_grad
    assert not scores.requires_grad
    assert not model.mask(scores, 0).requires_grad


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("changes", [{"weight": 0.0}, {"start": 1.0}, {"weight": 0.0, "monitor": 1}])
def test_without_the_contrast_it_is_the_host_bit_for_bit(host: str, changes: dict) -> None:
    method, encoder = HOSTS[host]
    batch, encoder = batch_of(), {**encoder, "drop_path": 0.1}
    torch.manual_seed(0)
    plain = method.build(Task(None, 0, 0, encoder, Augmentation()), None)  # type: ignore[arg-type]
    expected = fit(plain, batch, 3)
    torch.manual_seed(0)
    wrapped = PointAcl(host=method, **{"monitor": 0, **changes}).build(  # type: ignore[arg-type]
        Task(None, 0, 0, encoder, Augmentation()),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
    )
    assert fit(wrapped, batch, 3) == expected
    own = wrapped.host.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in plain.state_dict().items())


def test_info_nce_by_hand() -> None:
    b, t = 8, 0.07
    same = torch.eye(b)
    assert float(info_nce_both_ways(same, same, t)) == pytest.approx(
        math.log(1 + (b - 1) * math.exp(-1 / t)), abs=1e-6
    )
    generator = torch.Generator().manual_seed(0)
    one, two = (
        torch.nn.functional.normalize(torch.randn(64, 4096, generator=generator), dim=1) for _ in range(2)
    )
    assert float(info_nce_both_ways(one, two, t)) == pytest.approx(math.log(64), abs=0.05)


@pytest.mark.parametrize(("n_patches", "n_hidden"), [(64, 38), (128, 76), (512, 307)])
def test_exactly_so_many_patches_are_hidden(n_patches: int, n_hidden: int) -> None:
    mask = random_mask(3, n_patches, 0.6, torch.device("cpu"))
    assert mask.sum(1).tolist() == [n_hidden] * 3
    model = build(masking="random")
    assert model.mask(torch.rand(2, n_patches), 0).sum(1).tolist() == [n_hidden] * 2
    seen, unseen = split(mask)
    assert not mask.gather(1, seen).any()
    assert mask.gather(1, unseen).all()


@pytest.mark.parametrize("host", HOSTS)
def test_the_loss_falls_and_the_contrast_is_learned(host: str) -> None:
    model, batch = build(host, weight=0.5), batch_of()
    found = fit(model, batch, 60)
    assert found[-1] < 0.6 * found[0]
    assert all(p.grad is not None for p in model.projector.parameters())


def test_the_causal_host_sees_no_later_and_no_hidden_patch() -> None:
    torch.manual_seed(0)
    mask = dual_mask(64, 10, 0.7, torch.device("cpu"))
    assert mask.diagonal().all()
    assert not mask.triu(1).any()
    assert mask.tril()[:, :10].sum() == sum(min(i + 1, 10) for i in range(64))
    assert int((~mask[-1, :-1]).sum()) in (36, 37)  # 37 of the last 54, itself perhaps among them
    centers = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [2, 0, -3]]])
    assert directions(centers)[0].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, -1]]
    torch.manual_seed(0)
    encoder = ObjectEncoder(**CAUSAL).eval()
    tokens, place = torch.randn(2, 8, 24), torch.randn(2, 8, 24)
    changed = tokens.clone()
    changed[:, 5:] += torch.randn(24)
    a, b = encoder.mix(tokens, place), encoder.mix(changed, place)
    assert torch.allclose(a[:, 1:6], b[:, 1:6])  # the class token at 0, patches 0 .. 4
    assert not torch.allclose(a[:, 6:], b[:, 6:], atol=1e-3)
    assert not torch.allclose(a[:, 0], b[:, 0], atol=1e-3)


def test_hosts_refuse_the_other_kind_of_encoder() -> None:
    with pytest.raises(ValueError, match=r"causal must be false"):
        PointMaeModel(ObjectEncoder(**CAUSAL), PointMae())
    with pytest.raises(ValueError, match=r"causal=true"):
        PointGptModel(ObjectEncoder(**SMALL), PointGpt())


def test_the_log_shows_attention_masks_and_gradients() -> None:
    model, batch = build(monitor=1), batch_of()
    model.train()
    first = model.losses(batch)
    model.after_step(0.5)
    second = model.losses(batch)
    assert {"gradient_chamfer", "gradient_contrast", "scores_entropy", "scores_top"} <= set(first)
    assert {"scores_drift", "masks_overlap"} <= set(second) - set(first)
    assert float(second["scores_drift"]) < 0.01  # nothing was trained, but batch norms followed
    assert 0 < float(second["masks_overlap"]) < 1  # and yet another mask is drawn
    assert 0.9 < float(first["scores_entropy"]) <= 1
    assert not any(name.startswith(("scores", "masks", "gradient")) and "loss" in name for name in second)


def test_the_monitor_by_hand() -> None:
    monitor = AttentionMonitor()
    uniform = torch.full((1, 4), 0.25)
    found = monitor.measure(uniform, torch.tensor([[True, True, False, False]]))
    assert float(found["scores_entropy"]) == pytest.approx(1)
    assert float(found["scores_top"]) == 0.25
    peaked = torch.tensor([[1.0, 0, 0, 0]])
    found = monitor.measure(peaked, torch.tensor([[True, False, True, False]]))
    assert float(found["scores_entropy"]) == pytest.approx(0)
    assert float(found["scores_drift"]) == pytest.approx(0.75)
    assert float(found["masks_overlap"]) == 0.5


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="masking"):
        PointAcl(masking="low").validate()
    with pytest.raises(ValueError, match="temperature"):
        PointAcl(temperature=0).validate()
