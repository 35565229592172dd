# SPDX-License-Identifier: Apache-2.0
"""Stability-preserving distillation: its loss, its teacher, and that the student knows no batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CONTRACT, TINY, little_street

from pc_perception.inference.loading import load_model
from pc_perception.models.segmenters import SEGMENTERS
from training.augment import Augmentation
from training.methods.method import Task
from training.methods.pointcsp import PointCsp
from training.methods.segmentation import Segmentation
from training.methods.spd import Serialised, Spd, SpdModel, distillation_loss
from training.run import train
from training.settings import RunSettings, read_config

TASK = Task(CONTRACT, 8, 3, TINY | {"mixers": (0, 1, 1)}, Augmentation(max_points=0))
COUNTS = np.ones(8, np.int64)


def batch(n: int):  # type: ignore[no-untyped-def]
    return Spd().collate([Spd().sample(little_street(s), np.random.default_rng(s), TASK) for s in range(n)])


def model(**settings: object) -> SpdModel:
    torch.manual_seed(0)
    built = Spd(**settings).build(TASK, COUNTS)  # type: ignore[arg-type]
    assert isinstance(built, SpdModel)
    return built


def test_the_loss_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    # Normalised: (-1, 1) and (1, -1).
    assert float(distillation_loss(student, teacher)) == pytest.approx(4, abs=1e-3)
    assert float(distillation_loss(student, 3 * student + 1)) == pytest.approx(0, abs=1e-6)


def test_no_gradient_reaches_the_teacher() -> None:
    m = model()
    sum(v for k, v in m.losses(batch(2)).items() if k.startswith("loss")).backward()
    assert all(p.grad is None for p in m.teacher.parameters())
    early = m.student.network.encoder.stem[0].weight.grad
    assert float(early.abs().sum()) > 0


def test_one_scene_and_equal_weights_cost_nothing() -> None:
    m = model(csp_order="concat")
    with torch.no_grad():
        assert float(m.losses(batch(1))["loss_spd"]) == 0
        assert float(m.losses(batch(3))["loss_spd"]) > 0


def test_distillation_pulls_single_scenes_to_the_batch() -> None:
    m, data = model(geo=0.0, csp_order="concat"), batch(3)
    optimizer = torch.optim.Adam(m.student.parameters(), lr=1e-4)
    gaps = []
    for _ in range(40):
        loss = m.losses(data)["loss_spd"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gaps.append(float(loss.detach()))
    assert gaps[-1] < 0.8 * gaps[0]


def test_the_teacher_follows_and_stays_in_eval() -> None:
    m = model(momentum=0.9)
    start = m.teacher.network.encoder.stem[0].weight.clone()
    with torch.no_grad():
        m.student.network.encoder.stem[0].weight.add_(1)
    m.train()
    assert m.student.training
    assert not m.teacher.training
    m.after_step(0.5)  # the first step: 1 / 10 is kept
    torch.testing.assert_close(m.teacher.network.encoder.stem[0].weight, start + 0.9)
    for _ in range(200):
        m.after_step(0.5)
    torch.testing.assert_close(m.teacher.network.encoder.stem[0].weight, start + 1)


@pytest.mark.parametrize("method", [Spd(), Spd(csp_order="concat", geo=0.0), Serialised()])
def test_a_run_leaves_a_segmenter_that_knows_no_batch(
    make_run: Callable[..., RunSettings], method: Spd | Serialised
) -> None:
    run = make_run(method=method, encoder=TASK.encoder, max_steps=4)
    network = load_model(train(run))
    assert train(replace(run, max_steps=6, resume=True)).is_file()
    clouds = [little_street(s) for s in range(20, 23)]
    for one, many in zip([network(c) for c in clouds], network(clouds), strict=True):
        np.testing.assert_array_equal(one.labels, many.labels)
        np.testing.assert_allclose(one.confidence, many.confidence, atol=1e-5)


def test_fine_tuning_starts_both_from_the_pre_trained_encoder(
    make_run: Callable[..., RunSettings], tmp_path: Path
) -> None:
    pretrain = make_run(
        method=PointCsp(n_prototypes=32, hidden=16, bottleneck=8),
        encoder=TASK.encoder,
        label_set="",
        max_steps=2,
        work_dir=str(tmp_path / "pre"),
    )
    file = train(pretrain)
    from training.export import load_encoder

    m = model()
    left = load_encoder(Spd().deployable(m), str(file), CONTRACT)
    m.after_init()
    assert all(line.startswith("head.") for line in left)
    for a, b in zip(m.student.parameters(), m.teacher.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_wraps_a_network_of_convolutions() -> None:
    """A sparse U-Net has no sequences: only batch statistics tell the student from its teacher."""
    shape = {"widths": (8, 8, 16), "blocks": (1, 1), "up_widths": (16, 8), "up_blocks": (1, 1)}
    task = replace(TASK, encoder=shape, network=SEGMENTERS["SparseUNetSegmenter"])
    m = Spd().build(task, COUNTS)
    losses = m.losses(batch(2))
    assert {"loss_ce", "loss_lovasz", "loss_spd", "loss_geo", "accuracy"} == set(losses)
    assert float(losses["loss_spd"].detach()) > 0
    sum(v for k, v in losses.items() if k.startswith("loss")).backward()
    assert float(m.student.network.encoder.stem.convolution.weight.grad.abs().sum()) > 0
    m.after_init()  # the student's running statistics have moved
    with torch.no_grad():
        assert float(m.eval().losses(batch(2))["loss_spd"]) == 0


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="csp_order"):
        Spd(csp_order="random").validate()
    with pytest.raises(ValueError, match="momentum"):
        Spd(momentum=1.0).validate()
    with pytest.raises(ValueError, match="label_smoothing"):
        Serialised(host=Segmentation(label_smoothing=1.0)).validate()
    with pytest.raises(ValueError, match="no host"):
        Spd(host=PointCsp(hidden=8, bottleneck=4, n_prototypes=8)).build(TASK, COUNTS)


def test_the_shipped_config_continues_the_pre_training() -> None:
    pretrain, tune = read_config("pointcsp_pretrain"), read_config("street_spd", ["method.host.lovasz=0.5"])
    assert (pretrain.contract, pretrain.encoder) == (tune.contract, tune.encoder)
    assert tune.method.host.lovasz == 0.5  # type: ignore[attr-defined]
