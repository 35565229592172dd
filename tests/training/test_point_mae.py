# SPDX-License-Identifier: Apache-2.0
"""Point-MAE: what is hidden and what is seen, a falling loss, the schedule's groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shapes import SMALL, STEADY, batch_of, fit, make_object
from sklearn.svm import LinearSVC

from pc_perception.inference.object_contract import ObjectContract
from pc_perception.models.object_encoder import ObjectEncoder
from training.assembly import groups
from training.hooks import Schedule
from training.methods.point_mae import PointMae, PointMaeModel
from training.objects import ObjectAugmentation, draw_object
from training.progress import Progress

ENCODER = {**STEADY, "class_token": False}


def build() -> PointMaeModel:
    torch.manual_seed(0)
    return PointMaeModel(ObjectEncoder(**ENCODER), PointMae(decoder_depth=1))


def test_the_loss_falls() -> None:
    found = fit(build(), batch_of(), 60)
    assert sum(found[-5:]) < 0.8 * sum(found[:5])


def test_hidden_patches_are_not_seen() -> None:
    """What is drawn does not change with the content of hidden patches; the target does."""
    model, batch = build().eval(), batch_of(2)
    patches = model.encoder.patches(batch.points, batch.offsets)
    tokens = model.encoder.embedding(patches.points)
    torch.manual_seed(5)
    hidden = torch.rand(2, 16).argsort(1)[:, :9]
    drawn: list[torch.Tensor] = []
    model.decoder.register_forward_hook(lambda *call: drawn.append(call[2]))
    for change in (0.0, 1.0):
        torch.manual_seed(5)
        changed = tokens.clone()
        changed[torch.arange(2)[:, None], hidden] += change * torch.randn(24)
        with torch.no_grad():
            torch.manual_seed(5)
            model.pretext(patches, changed)
    assert drawn[0].shape == (2, 9, 8, 3)
    assert torch.equal(drawn[0], drawn[1])


def test_tokens_norms_and_biases_do_not_decay() -> None:
    model = PointMaeModel(ObjectEncoder(**SMALL), PointMae())
    decayed, still = groups(model, 0.05)
    names = {id(p): n for n, p in model.named_parameters()}
    free = {names[id(p)] for p in still["params"]}
    assert {"mask_token", "encoder.class_token"} <= free
    assert "encoder.class_position" in {names[id(p)] for p in decayed["params"]}
    assert all(p.ndim <= 1 or names[id(p)].endswith("token") for p in still["params"])


def test_a_second_cycle_repeats_the_first() -> None:
    class Runner:
        class optim_wrapper:
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    rates = []
    hook = Schedule(Progress(200, 0), 1.0, 0.1, cycles=2)
    for step in range(200):
        hook.before_train_iter(Runner, step)
        rates.append(Runner.optim_wrapper.optimizer.param_groups[0]["lr"])
    assert rates[:100] == pytest.approx(rates[100:])
    assert max(rates) == pytest.approx(1)


def test_objects_are_drawn_as_the_protocols_say() -> None:
    contract, plain = ObjectContract(64), ObjectAugmentation(scale=(1.0, 1.0), shift=0.0)
    cloud = make_object(1, 0, 500)
    one = draw_object(cloud, np.random.default_rng(0), contract, plain)
    assert one.shape == (64, 3)
    assert float(one.norm(dim=1).max()) == pytest.approx(1, abs=1e-6)
    again = draw_object(cloud, np.random.default_rng(0), contract, plain)
    assert torch.equal(one, again)
    pooled = draw_object(cloud, np.random.default_rng(0), contract, ObjectAugmentation(pool=1.17))
    nearest = [torch.cdist(p, p).fill_diagonal_(9).amin(1).mean() for p in (one, pooled)]
    assert nearest[1] > 1.3 * nearest[0]  # farthest points keep apart
    sparse = [
        len(draw_object(cloud, np.random.default_rng(s), contract, ObjectAugmentation(keep=0.25)))
        for s in range(30)
    ]
    assert min(sparse) < 30
    assert max(sparse) > 50
    half = ObjectAugmentation(scale=(1.0, 1.0), shift=0.0, part=0.3)
    drawn = [len(draw_object(cloud, np.random.default_rng(s), ObjectContract(500), half)) for s in range(40)]
    assert 10 <= drawn.count(500) <= 30  # all of it in half of the draws
    assert 150 <= min(drawn) < 300
    xyz = cloud.xyz - cloud.xyz.mean(0)
    kept = next(r for r in (half.seen(xyz, np.random.default_rng(k)) for k in range(9)) if len(r) < 400)
    side, lost = xyz[kept], np.delete(xyz, kept, axis=0)
    parted = LinearSVC(C=1e4, max_iter=100_000).fit([*side, *lost], [0] * len(side) + [1] * len(lost))
    assert parted.score(side, [0] * len(side)) == 1  # a plane lies between
    turned = ObjectAugmentation(scale=(1.0, 1.0), shift=0.0, turn=True, up="y")
    upright = draw_object(cloud, np.random.default_rng(0), ObjectContract(500), plain)
    rotated = draw_object(cloud, np.random.default_rng(0), ObjectContract(500), turned)
    assert torch.allclose(upright[:, 1], rotated[:, 1], atol=1e-6)
    assert not torch.allclose(upright[:, 0], rotated[:, 0], atol=0.01)
