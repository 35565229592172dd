# SPDX-License-Identifier: Apache-2.0
"""SPD around classifiers of objects: the teacher sees the batch, the student and what is deployed do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import SMALL, batch_of, fit, make_object, object_run, write_objects

from pc_perception.inference.loading import load_model
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.object_contract import ObjectContract
from pc_perception.models.object_encoder import ObjectEncoder
from pc_perception.models.walks import along_curves
from training.methods.classification import Classification
from training.methods.cross_sample import AcrossScenes
from training.methods.method import Task
from training.methods.object_host import encode_objects, sequence_mask
from training.methods.spd import Serialised, Spd, SpdModel
from training.objects import ObjectAugmentation, ObjectSample, collate_objects
from training.run import train

VOXELS = {"grid": 0.1, "widths": (8, 16, 16), "local": (1, 1, 1), "mixers": (0, 0, 1), "heads": (2, 2, 2)}
HOSTS = {
    "patches": (Classification(), SMALL),
    "causal": (Classification(), {**SMALL, "causal": True, "order": "z"}),
    "no class token": (Classification(), {**SMALL, "class_token": False}),
    "voxels": (Classification(host="voxels"), VOXELS),
}


def model(name: str, **settings: object) -> SpdModel:
    torch.manual_seed(0)
    host, encoder = HOSTS[name]
    task = Task(ObjectContract(128), 5, 0, encoder, ObjectAugmentation())
    built = Spd(host=host, **settings).build(task, np.ones(5, np.int64))  # type: ignore[arg-type]
    assert isinstance(built, SpdModel)
    return built


@pytest.mark.parametrize("causal", [False, True])
def test_what_tokens_see(causal: bool) -> None:
    alone = sequence_mask(1, 4, 1, causal, "concat")
    encoder = ObjectEncoder(**{**SMALL, "causal": causal})
    own = encoder.prepare(torch.zeros(1, 3, encoder.width), torch.zeros(1, 3, encoder.width))[2]
    assert torch.equal(alone, torch.ones_like(alone) if own is None else own)
    both = sequence_mask(2, 4, 1, causal, "concat")
    for k in range(2):
        assert both[4 * k, 4 * k : 4 * k + 4].all()  # a class token reads its own object,
        assert both[4 * k].sum() == 4  # and no other
    assert both[5:8, 1:4].all()  # patches of the second see those of the first
    assert bool(both[1:4, 5:8].all()) is not causal
    assert not both[5:8, 0].any()  # nobody reads another's class token
    torch.manual_seed(0)
    shuffled = sequence_mask(3, 4, 1, causal, "shuffle_all")
    assert bool(shuffled[1:4, 9:].any()) is True


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("order", ["concat", "shuffle_within", "shuffle_all"])
def test_one_object_costs_nothing_and_many_do(name: str, order: str) -> None:
    m = model(name, csp_order=order, geo=0.0).eval()
    with torch.no_grad():
        if order == "concat" or name != "voxels":  # a walk shuffles the voxels of one object too
            assert float(m.losses(batch_of(1))["loss_spd"]) < 1e-9
        assert float(m.losses(batch_of(4))["loss_spd"]) > 1e-9


@pytest.mark.parametrize("name", HOSTS)
def test_only_the_teacher_sees_other_objects(name: str) -> None:
    encoder = model(name).student.network.encoder.eval()
    points = [ObjectContract(128).prepare(make_object(kind, 3)) for kind in (0, 1, 2)]
    pairs = [collate_objects([ObjectSample(points[0]), ObjectSample(other)]) for other in points[1:]]  # type: ignore[arg-type]
    with torch.no_grad():
        one, other = (encode_objects(encoder, pair, along_curves).features[0] for pair in pairs)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        walk = AcrossScenes("shuffle_all", 2)
        torch.manual_seed(0)
        one = encode_objects(encoder, pairs[0], walk).features[0]
        torch.manual_seed(0)
        other = encode_objects(encoder, pairs[1], walk).features[0]
    assert float((one - other).abs().max()) > 1e-5


def test_losses_fall_and_reach_the_student_alone() -> None:
    m = model("patches", geo=0.0, momentum=0.9)
    curve = fit(m, batch_of(8), 25, lr=5e-3)
    assert np.mean(curve[-3:]) < 0.7 * np.mean(curve[:3])
    assert all(p.grad is None for p in m.teacher.parameters())
    assert "loss_geo" not in m.losses(batch_of(4))
    assert "loss_geo" in model("voxels").losses(batch_of(4))


@pytest.mark.parametrize("name", HOSTS)
def test_what_is_deployed_knows_no_batch(name: str, tmp_path: Path) -> None:
    folder = write_objects(tmp_path / "data", range(3))
    host, encoder = HOSTS[name]
    wrapper = Serialised if name == "causal" else Spd
    run = object_run(folder, tmp_path / "run", method=wrapper(host=host), encoder=encoder, max_steps=4)
    file = train(run)
    header, _ = read_model_file(file)
    assert header.task == "classification"
    assert header.provenance["method"] == wrapper.__name__
    classifier = load_model(file, "cpu", "float32")
    objects = [make_object(kind, seed, 100 + 30 * seed) for seed in range(3) for kind in range(5)]
    alone = [classifier(cloud) for cloud in objects]
    for order in (range(15), [14, 3, 3, 0, 7]):
        for i, found in zip(order, classifier([objects[i] for i in order]), strict=True):
            assert found.label == alone[i].label
            np.testing.assert_allclose(found.scores, alone[i].scores, atol=1e-5)
