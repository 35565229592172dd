# SPDX-License-Identifier: Apache-2.0
"""PointCSP's pre-training: losses by hand, views, teacher, and a short run."""

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
from training.methods.dino import (
    CollapseWatch,
    PrototypeHead,
    assignment_figures,
    cross_view_loss,
    effective_rank,
)
from training.methods.geometric import GeometricConsistency, geometric_loss
from training.methods.method import Task
from training.methods.pointcsp import PointCsp, PointCspModel, describe
from training.methods.views import (
    Views,
    cut_views,
    matched_voxels,
    nearest,
    sample_evenly,
    sample_farthest,
)
from training.run import train
from training.settings import RunSettings, read_config

TASK = Task(CONTRACT, 0, 3, TINY, Augmentation(max_points=2000))
SMALL = PointCsp(n_prototypes=16, hidden=16, bottleneck=8, dense=1.0, teacher_momentum=0.99)
STILL = Augmentation(max_points=0, thin=0, flip=0, scale=0, tilt_deg=0, jitter_m=0, full_turn=False)


def model(settings: PointCsp = SMALL) -> PointCspModel:
    torch.manual_seed(0)
    return PointCspModel(SceneEncoder(CONTRACT.n_features, **TINY), settings)


def batch(n: int = 2, settings: PointCsp = SMALL):  # type: ignore[no-untyped-def]
    samples = [settings.sample(little_street(s), np.random.default_rng(s), TASK) for s in range(n)]
    return settings.collate(samples)


def test_uniform_outputs_give_ln_k() -> None:
    flat = torch.zeros(5, 2, 4096)
    loss = cross_view_loss(flat[:2].softmax(-1), flat, 0.1, same_view=False)
    assert float(loss) == pytest.approx(8.3178, abs=1e-3)


def test_centering_takes_away_what_is_constant() -> None:
    head = PrototypeHead(4, 16, 8, 8)
    constant = torch.randn(16, generator=torch.Generator().manual_seed(0)).expand(5, 16)
    head.center.copy_(constant[0])
    torch.testing.assert_close(head.target(constant, 0.04), torch.full((5, 16), 1 / 16))
    head.move_center(torch.zeros(5, 16), 0.9)
    torch.testing.assert_close(head.center, 0.9 * constant[0])


def test_the_loss_by_hand() -> None:
    # Teacher (4/5, 1/5) against students (1/4, 3/4) and, for the same view, (1/2, 1/2).
    target = torch.tensor([[[0.8, 0.2]]])
    student = torch.tensor([[[0.0, 0.0]], [[0.0, math.log(3)]]])
    other = -(0.8 * math.log(1 / 4) + 0.2 * math.log(3 / 4))
    assert float(cross_view_loss(target, student, 1.0, same_view=False)) == pytest.approx(other, abs=1e-6)
    both = (other + math.log(2)) / 2
    assert float(cross_view_loss(target, student, 1.0, same_view=True)) == pytest.approx(both, abs=1e-6)


@pytest.mark.parametrize(("same_view", "terms"), [(False, 18), (True, 20)])
def test_two_teacher_and_ten_student_views_make_18_or_20_terms(same_view: bool, terms: int) -> None:
    # Every term costs 1 but one, which costs nothing: the mean says how many there are.
    target = torch.zeros(2, 1, 20)
    target[0, 0, 0] = target[1, 0, 1] = 1
    student = torch.full((10, 1, 20), 0.0)
    student[5, 0, 0] = 100.0
    each = math.log(20)
    lost = float(cross_view_loss(target, student, 1.0, same_view=same_view))
    assert lost == pytest.approx(((terms - 2) * each + 100) / terms, abs=1e-3)


def test_figures_show_both_kinds_of_collapse() -> None:
    one_each, one_for_all, uniform = torch.eye(4), torch.eye(4)[[0, 0, 0, 0]], torch.full((4, 4), 0.25)
    information = [float(assignment_figures(t)["information"]) for t in (one_each, one_for_all, uniform)]
    assert information == pytest.approx([math.log(4), 0, 0], abs=1e-4)
    assert float(assignment_figures(one_each)["prototypes"]) == pytest.approx(4, abs=1e-3)
    assert float(assignment_figures(one_for_all)["prototypes"]) == pytest.approx(1, abs=1e-3)
    assert float(assignment_figures(uniform)["entropy"]) == pytest.approx(math.log(4), abs=1e-4)


def test_rank_counts_directions() -> None:
    directions = torch.eye(6)[:3]
    x = torch.cat([directions, -directions])
    assert float(effective_rank(x)) == pytest.approx(3, abs=1e-4)
    assert float(effective_rank(torch.ones(5, 6))) == 0


def test_a_collapsed_run_is_stopped() -> None:
    watch = CollapseWatch(0.01, patience=3)
    for information in (0.0, 0.0, 0.5, 0.0, 0.0):
        watch.check(torch.tensor(information))
    with pytest.raises(ValueError, match="collapsed: for 3 steps"):
        watch.check(torch.tensor(0.0))
    never = CollapseWatch(0.01, patience=0)
    for _ in range(10):
        never.check(torch.tensor(0.0))


def test_geometric_loss_of_coordinates_is_zero() -> None:
    xyz = torch.rand(400, 3, generator=torch.Generator().manual_seed(0)) * 4
    level = build_pyramid(xyz, 0.4, 1)[0].levels[0]
    rows = torch.arange(len(level))
    choice = torch.rand(len(level), generator=torch.Generator().manual_seed(1))
    here = level.xyz / level.edge
    assert float(geometric_loss(here, level, lambda d: d, rows, choice)) < 1e-10
    assert float(geometric_loss(torch.zeros(len(level), 3), level, lambda d: d, rows, choice)) > 0.1


def test_geometry_reaches_early_layers() -> None:
    m, data = model(), batch(1)
    levels = m.student["encoder"].encode(*data.large)
    geometry = GeometricConsistency(TINY["widths"])
    geometry(list(zip(levels, data.large[1].levels, strict=True))).backward()
    assert float(m.student["encoder"].stem[0].weight.grad.abs().sum()) > 0
    assert all(float(p.grad.abs().sum()) > 0 for p in geometry.parameters())


def test_pairs_are_the_same_place() -> None:
    place = [np.array([3, 5, 8, 9, 11, 5]), np.array([5, 9, 3, 20])]
    voxel = [np.array([0, 1, 1, 2, -1, 6]), np.array([7, -1, 4, 5])]
    # shared: place 3 (0, 4), place 5 (1, 7); place 9 has no voxel in the second view.
    pairs = matched_voxels(place, voxel, np.random.default_rng(0), 10)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 4), (1, 7)]
    assert len(matched_voxels(place, voxel, np.random.default_rng(0), 1)) == 1


def test_views_cover_what_they_should() -> None:
    """Shares of the candidate region, histograms over many draws, all views of 1,024 points."""
    rng = np.random.default_rng(0)
    cloud = little_street(0)
    whole = Views(global_points=0, local_points=0)
    drawn = [cut_views(cloud, whole, STILL, rng) for _ in range(40)]
    region = 0.6 * len(cloud)
    large = np.array([len(v) / region for views in drawn for v in views[0]])
    small = np.array([len(v) / region for views in drawn for v in views[1]])
    assert [len(drawn[0][0]), len(drawn[0][1])] == [2, 8]
    assert 0.39 < large.min() < 0.45 < 0.75 < large.max() < 0.81
    assert 0.09 < small.min() < 0.12 < 0.28 < small.max() < 0.31
    thinned = cut_views(cloud, Views(global_points=200, local_points=100), STILL, rng)
    assert {len(v) for v in thinned[0]} == {200}
    assert {len(v) for v in thinned[1]} == {100}


def test_thinning_spreads_points() -> None:
    rng = np.random.default_rng(0)
    crowd = little_street(0)
    near = crowd.select(np.linalg.norm(crowd.xyz[:, :2], axis=1) < 6)
    for thin in (sample_evenly, sample_farthest):
        kept, by_chance = thin(near, 100, rng), near.select(rng.permutation(len(near))[:100])
        gap = [_nearest_gap(c.xyz) for c in (kept, by_chance)]
        assert len(kept) == 100
        assert gap[0] > 1.3 * gap[1]
    same = crowd.select(np.zeros(50, np.int64))
    assert len(sample_evenly(same, 20, rng)) == len(sample_farthest(same, 20, rng)) == 20


def _nearest_gap(xyz: np.ndarray) -> float:
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(distance.min(1).mean())


def test_views_with_other_rings_still_match() -> None:
    cloud = little_street(0)
    cloud = cloud.with_fields(ring=(np.arange(len(cloud)) % 16).astype(np.uint16))
    how = Augmentation(max_points=0, thin=1.0, keep=0.5)
    found = [SMALL.sample(cloud, np.random.default_rng(s), replace(TASK, augmentation=how)) for s in range(8)]
    assert sum(len(f.pairs) >= 50 for f in found) >= 6


@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_views_that_did_not_move_are_the_same_place(seed: int) -> None:
    task = replace(TASK, augmentation=STILL)
    sample = SMALL.sample(little_street(seed), np.random.default_rng(seed), task)
    a, b = (v.pyramid.levels[0].xyz[sample.pairs[:, i]] for i, v in enumerate(sample.large[:2]))
    assert len(sample.pairs[:, 0].unique()) == len(sample.pairs)
    assert not len(a) or float((a - b).norm(dim=1).median()) < 0.2


def test_a_region_is_the_nearest_part() -> None:
    cloud = little_street(0)
    part = nearest(cloud, 300, np.random.default_rng(0))
    assert len(part) == 300
    assert np.ptp(part.xyz[:, :2], axis=0).max() < np.ptp(cloud.xyz[:, :2], axis=0).max()


def test_a_scene_too_small_for_its_views_is_named() -> None:
    cloud = little_street(0).select(np.arange(300))
    with pytest.raises(ValueError, match="only 300 finite points; views of at least 50 need a scene of 834"):
        SMALL.sample(cloud, np.random.default_rng(0), TASK)


def test_views_are_packed_by_their_number() -> None:
    one, two = batch(1), batch(2)
    starts = two.large[1].levels[0].offsets
    scene_a = np.searchsorted(starts, two.pairs[:, 0].numpy(), side="right") - 1
    scene_b = np.searchsorted(starts, two.pairs[:, 1].numpy(), side="right") - 1
    assert set(scene_a) <= {0, 1}
    np.testing.assert_array_equal(scene_b, scene_a + 2)
    assert len(starts) - 1 == 2 * 2
    assert len(two.small[1].levels[0].offsets) - 1 == 8 * 2
    first = one.large[0][: one.large[1].levels[0].offsets[1]]
    torch.testing.assert_close(two.large[0][: len(first)], first)


def test_descriptors_are_mean_and_maximum_of_each_view() -> None:
    data = batch(1)
    level = data.large[1].levels[0]
    x = torch.randn(len(level), 5)
    cut = level.offsets[1]
    expected = torch.cat([x[:cut].mean(0), x[:cut].max(0).values])
    torch.testing.assert_close(describe(x, level)[0], expected)


def test_the_teacher_sees_the_global_views_alone() -> None:
    m, data = model(), batch()
    seen = []
    m.teacher["encoder"].stem.register_forward_hook(lambda _m, args, _out: seen.append(len(args[0])))
    m.losses(data)
    assert seen == [len(data.large[0])]


def test_the_teacher_is_an_average_without_gradient() -> None:
    m = model()
    start = m.teacher["encoder"].stem[0].weight.clone()
    losses = m.losses(batch())
    assert {"loss_csc", "loss_geo", "loss_dense", "entropy", "prototypes", "information", "rank"} == set(
        losses
    )
    sum(v for k, v in losses.items() if k.startswith("loss")).backward()
    assert all(p.grad is None for p in m.teacher.parameters())
    assert float(m.student["encoder"].stem[0].weight.grad.abs().sum()) > 0
    assert m.student["head"].prototypes.grad is None  # frozen in the beginning
    assert float(m.teacher["head"].center.abs().sum()) > 0
    assert float(m.student["head"].center.abs().sum()) == 0
    with torch.no_grad():
        for p in m.student.parameters():
            p.add_(1.0)
    for _ in range(3):
        m.after_step(0.0)
    expected = start + 1 - 0.99**3
    torch.testing.assert_close(m.teacher["encoder"].stem[0].weight, expected)
    m.after_step(1.0)  # at the end the teacher stands still
    torch.testing.assert_close(m.teacher["encoder"].stem[0].weight, expected)
    sum(v for k, v in m.losses(batch()).items() if k.startswith("loss")).backward()
    assert float(m.student["head"].prototypes.grad.abs().sum()) > 0


def test_the_teachers_temperature_rises() -> None:
    m = model()
    assert float(m._temperature()) == pytest.approx(0.04)
    m.after_step(0.025)
    assert float(m._temperature()) == pytest.approx(0.055)
    m.after_step(0.5)
    assert float(m._temperature()) == pytest.approx(0.07)


def test_scenes_of_a_batch_reach_each_other_unless_they_walk_alone() -> None:
    settings = replace(SMALL, dense=0.0)
    with_mixers = TINY | {"mixers": (0, 0, 2)}  # the second one walks backwards

    def first(order: str, n: int) -> torch.Tensor:
        torch.manual_seed(0)
        how = replace(settings, csp_order=order)
        m = PointCspModel(SceneEncoder(CONTRACT.n_features, **with_mixers), how).eval()
        data = batch(n, settings)
        with torch.no_grad():
            seen = m._encode(m.student, data.large, n).features
        return seen[: data.large[1].levels[0].offsets[1]]

    torch.testing.assert_close(first("alone", 1), first("alone", 2), atol=1e-5, rtol=1e-5)
    assert float((first("concat", 1) - first("concat", 2)).abs().max()) > 1e-3


def test_a_run_leaves_an_encoder_to_start_from(make_run: Callable[..., RunSettings], tmp_path: Path) -> None:
    settings = {"label_set": "", "ema": 0.0}
    pretrain = make_run(method=SMALL, max_steps=6, work_dir=str(tmp_path / "pre"), **settings)
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


def test_the_student_learns_what_a_teacher_that_stands_still_sees() -> None:
    how = PointCsp(
        views=Views(n_local=2), n_prototypes=64, hidden=32, bottleneck=32, dense=1.0, teacher_momentum=1.0,
        teacher_temperature=(0.04, 0.04), center_momentum=1.0, freeze_prototypes=0.0,
    )  # fmt: skip
    data, m = batch(4, how), model(how).train()
    optimizer = torch.optim.Adam(m.parameters(), lr=3e-3)
    history = []
    for _ in range(40):
        losses = m.losses(data)
        sum(v for k, v in losses.items() if k.startswith("loss")).backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append({k: float(v.detach()) for k, v in losses.items()})
    for name, share in (("loss_csc", 0.8), ("loss_dense", 0.8), ("loss_geo", 0.95)):
        assert history[-1][name] < share * history[0][name], (name, history[0], history[-1])
    assert history[-1]["information"] > 0.5


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="coverage"):
        PointCsp(views=Views(global_coverage=(0.8, 0.3))).validate()
    with pytest.raises(ValueError, match="n_global"):
        PointCsp(views=Views(n_global=1)).validate()
    with pytest.raises(ValueError, match="temperature"):
        PointCsp(teacher_temperature=(0.04, 0.2)).validate()
    with pytest.raises(ValueError, match="csp_order"):
        PointCsp(csp_order="none").validate()


def test_the_shipped_configs_fit_each_other() -> None:
    pretrain, tune = read_config("pointcsp_pretrain"), read_config("street_sim")
    assert (pretrain.contract, pretrain.encoder) == (tune.contract, tune.encoder)
