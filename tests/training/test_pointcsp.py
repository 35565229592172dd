# SPDX-License-Identifier: Apache-2.0
"""The single-scene part of PointCSP: its losses by hand, its views, its teacher, and a short run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CONTRACT, TINY, little_street

from pc_perception.inference.model_file import read_model_file
from pc_perception.models.pyramid import build_pyramid
from pc_perception.models.scene_encoder import SceneEncoder
from training.augment import Augmentation
from training.methods.method import Task
from training.methods.pointcsp import (
    PointCsp,
    PointCspModel,
    assignment_information,
    dino_loss,
    geometric_loss,
)
from training.methods.views import matched_voxels, nearest
from training.run import train
from training.settings import RunSettings, read_config

TASK = Task(CONTRACT, 0, 3, TINY, Augmentation(max_points=2000))


def model() -> PointCspModel:
    torch.manual_seed(0)
    return PointCspModel(SceneEncoder(CONTRACT.n_features, **TINY), PointCsp(n_prototypes=16))


def batch(n: int = 2):  # type: ignore[no-untyped-def]
    method = PointCsp()
    samples = [method.sample(little_street(s), np.random.default_rng(s), TASK) for s in range(n)]
    return method.collate(samples)


def test_uniform_outputs_give_ln_k() -> None:
    flat = torch.zeros(5, 4096)
    assert float(dino_loss(flat, flat, torch.zeros(4096), PointCsp())) == pytest.approx(8.3178, abs=1e-3)


def test_centering_takes_away_what_is_constant() -> None:
    constant = torch.randn(16, generator=torch.Generator().manual_seed(0)).expand(5, 16)
    loss = dino_loss(torch.zeros(5, 16), constant, constant[0], PointCsp())
    assert float(loss) == pytest.approx(math.log(16), abs=1e-5)


def test_dino_by_hand() -> None:
    settings = PointCsp(student_temperature=1.0, teacher_temperature=0.5)
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[math.log(2), 0.0]])
    # teacher softmax(2 ln 2, 0) = (4/5, 1/5); student (1/4, 3/4).
    expected = -(0.8 * math.log(1 / 4) + 0.2 * math.log(3 / 4))
    assert float(dino_loss(student, teacher, torch.zeros(2), settings)) == pytest.approx(expected, abs=1e-6)


def test_information_shows_both_kinds_of_collapse() -> None:
    settings, zero = PointCsp(), torch.zeros(4)
    each_its_own, one_for_all = torch.eye(4) * 10, torch.eye(4)[[0, 0, 0, 0]] * 10
    assert float(assignment_information(each_its_own, zero, settings)) == pytest.approx(math.log(4), abs=1e-4)
    assert float(assignment_information(one_for_all, zero, settings)) == pytest.approx(0, abs=1e-4)
    assert float(assignment_information(torch.zeros(4, 4), zero, settings)) == pytest.approx(0, abs=1e-4)


def test_geometric_loss_of_coordinates_is_zero() -> None:
    xyz = torch.rand(400, 3, generator=torch.Generator().manual_seed(0)) * 4
    level = build_pyramid(xyz, 0.4, 1)[0].levels[0]
    choice = torch.rand(len(level), generator=torch.Generator().manual_seed(1))
    assert float(geometric_loss(level.xyz / level.edge, level, lambda d: d, choice)) < 1e-10
    assert float(geometric_loss(torch.zeros(len(level), 3), level, lambda d: d, choice)) > 0.1


def test_pairs_are_the_same_place() -> None:
    place = [np.array([3, 5, 8, 9, 11, 5]), np.array([5, 9, 3, 20])]
    voxel = [np.array([0, 1, 1, 2, -1, 6]), np.array([7, -1, 4, 5])]
    # shared: place 3 (0, 4), place 5 (1, 7); place 9 has no voxel in the second view.
    pairs = matched_voxels(place, voxel, np.random.default_rng(0), 10)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 4), (1, 7)]
    assert len(matched_voxels(place, voxel, np.random.default_rng(0), 1)) == 1


def test_views_with_other_rings_still_match() -> None:
    cloud = little_street(0)
    cloud = cloud.with_fields(ring=(np.arange(len(cloud)) % 16).astype(np.uint16))
    how = Augmentation(max_points=0, thin=1.0, keep=0.5)
    found = [
        PointCsp().sample(cloud, np.random.default_rng(s), replace(TASK, augmentation=how)) for s in range(8)
    ]
    assert min(len(f.pairs) for f in found) >= 50


@pytest.mark.parametrize("seed", range(3))
def test_views_cover_what_they_should_and_overlap(seed: int) -> None:
    still = Augmentation(max_points=2000, thin=0, flip=0, scale=0, tilt_deg=0, jitter_m=0, full_turn=False)
    sample = PointCsp().sample(
        little_street(seed), np.random.default_rng(seed), replace(TASK, augmentation=still)
    )
    sizes = [len(v.inverse) for v in sample.views]
    assert all(0.54 * 2000 <= n <= 0.81 * 2000 for n in sizes)
    # Nothing moved, so a pair's voxels must be the same place.
    a, b = (v.pyramid.levels[0].xyz[sample.pairs[:, i]] for i, v in enumerate(sample.views))
    assert float((a - b).norm(dim=1).median()) < 0.1
    assert len(sample.pairs[:, 0].unique()) == len(sample.pairs) >= 50


def test_a_region_is_the_nearest_part() -> None:
    cloud = little_street(0)
    part = nearest(cloud, 300, np.random.default_rng(0))
    assert len(part) == 300
    assert np.ptp(part.xyz[:, :2], axis=0).max() < np.ptp(cloud.xyz[:, :2], axis=0).max()


def test_packed_pairs_point_into_their_own_views() -> None:
    one, two = batch(1), batch(2)
    starts = two.pyramid.levels[0].offsets
    scene_a = np.searchsorted(starts, two.pairs[:, 0].numpy(), side="right") - 1
    scene_b = np.searchsorted(starts, two.pairs[:, 1].numpy(), side="right") - 1
    assert set(scene_a) == {0, 1}
    np.testing.assert_array_equal(scene_b, scene_a + 2)
    assert len(one.pairs) < len(two.pairs)


def test_the_teacher_is_an_average_without_gradient() -> None:
    m = model()
    start = m.teacher["encoder"].stem[0].weight.clone()
    losses = m.losses(batch())
    sum(v for k, v in losses.items() if k.startswith("loss")).backward()
    assert all(p.grad is None for p in m.teacher.parameters())
    assert float(m.student["encoder"].stem[0].weight.grad.abs().sum()) > 0
    assert float(m.center.abs().sum()) > 0
    with torch.no_grad():
        for p in m.student.parameters():
            p.add_(1.0)
    for _ in range(3):
        m.after_step(0.0)
    expected = start + 1 - 0.99**3
    torch.testing.assert_close(m.teacher["encoder"].stem[0].weight, expected)
    m.after_step(1.0)  # at the end the teacher stands still
    torch.testing.assert_close(m.teacher["encoder"].stem[0].weight, expected)


def test_other_scenes_of_a_batch_change_nothing() -> None:
    m = model().eval()
    one, two = batch(1), batch(2)
    with torch.no_grad():
        alone = m.student["encoder"](one.features, one.pyramid)
        together = m.student["encoder"](two.features, two.pyramid)
    first = two.pyramid.levels[0].offsets[1]
    torch.testing.assert_close(together[:first], alone[:first], atol=1e-5, rtol=1e-5)


def test_a_run_leaves_an_encoder_to_start_from(make_run: Callable[..., RunSettings], tmp_path: Path) -> None:
    settings = {"label_set": "", "ema": 0.0, "augmentation": Augmentation(max_points=1500)}
    pretrain = make_run(
        method=PointCsp(n_prototypes=32), max_steps=6, work_dir=str(tmp_path / "pre"), **settings
    )
    encoder = train(pretrain)
    header, tensors = read_model_file(encoder)
    assert header.task == "encoder"
    assert header.labels is None
    assert all(name.startswith("encoder.") for name in tensors)
    train(make_run(max_steps=1, init=str(encoder), work_dir=str(tmp_path / "tune")))
    log = next((tmp_path / "tune").rglob("*.log")).read_text()
    unloaded = log.split("not loaded: ")[1].splitlines()[0].split("; ")
    assert [line.split(":")[0] for line in unloaded] == [
        "head.0.weight",
        "head.0.bias",
        "head.1.weight",
        "head.1.bias",
    ]
    resumed = replace(pretrain, max_steps=8, resume=True)
    assert train(resumed) == encoder


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="coverage"):
        PointCsp(coverage=(0.3, 0.8)).validate()
    with pytest.raises(ValueError, match="temperature"):
        PointCsp(teacher_temperature=0.2).validate()


def test_the_shipped_configs_fit_each_other() -> None:
    pretrain, tune = read_config("pointcsp_pretrain"), read_config("street_sim")
    assert (pretrain.contract, pretrain.encoder) == (tune.contract, tune.encoder)
