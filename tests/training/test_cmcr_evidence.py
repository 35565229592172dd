# SPDX-License-Identifier: Apache-2.0
"""The script of CMCR's evidence: what it runs in which order, and a page of what little was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cmcr import ARMS, CONTRAST, CONTROL, FULL, SEEDS, STEPS, Job, settings, stages
from benchmarks.cmcr_page import write
from training.methods.spd import Spd


def test_every_run_comes_after_what_it_starts_from() -> None:
    names, before = set(), {""}
    for stage in stages():
        for job in stage:
            assert job.name not in names
            names.add(job.name)
            if job.kind == "tune" and job.arm != "random weights":
                assert Job("pretrain", job.seed, job.arm).name in before
        before |= {job.name for job in stage}
    tuned = [job for stage in stages() for job in stage if job.kind == "tune" and not job.spd]
    for arm in ARMS:
        simulated = {(j.every, j.seed) for j in tuned if j.arm == arm and not j.keyframes}
        assert simulated == {(e, s) for e in (1, 10, 100) for s in SEEDS}
        real = {(j.keyframes, j.seed) for j in tuned if j.arm == arm and j.keyframes}
        assert real == {(n, s) for n in (1, 8) for s in SEEDS}


def test_arms_add_to_each_other() -> None:
    methods = {arm: settings(Job("pretrain", 0, arm), Path("w"), 1.0).method for arm in list(ARMS)[1:]}
    contrast, decoders, codebook, full = methods.values()
    assert (contrast.rec, contrast.occ, contrast.codebook, contrast.nce) == (0, 0, False, 1)
    assert (decoders.rec, decoders.occ, decoders.codebook, decoders.geometry) == (1, 1, False, False)
    assert (codebook.codebook, codebook.match > 0, codebook.geometry) == (True, True, False)
    assert full.geometry
    assert full.image_weights == "w/trunk/model.safetensors"
    control = settings(Job("pretrain", 0, CONTROL), Path("w"), 1.0).method
    assert control.image_weights == ""
    assert {k: getattr(control, k) for k in CONTRAST} == CONTRAST
    tune = settings(Job("tune", 1, FULL, 10, spd=True), Path("w"), 0.5)
    assert (tune.every, tune.seed, tune.max_steps, isinstance(tune.method, Spd)) == (
        10,
        1,
        STEPS["tune"] // 2,
        True,
    )
    assert tune.init == "w/pretrain-geometry-enhanced-1/model.safetensors"
    assert settings(Job("tune", 1, "random weights"), Path("w"), 1.0).init == ""


def test_the_page_says_what_did_not_run(tmp_path: Path) -> None:
    run = {"kind": "tune", "arm": "contrast", "every": 10, "spd": False, "keyframes": 0}
    results = [run | {"seed": s, "figures": {"miou": 0.3 + s / 10, "PandaSet": 0.2}} for s in SEEDS]
    results.append(
        run | {"kind": "pretrain", "every": 1, "seed": 0, "figures": {"random": 0.1, "probe": 0.25}}
    )
    results.append(run | {"every": 1, "keyframes": 8, "seed": 1, "figures": {"miou": 0.7}})
    steps, costs = {"pretrain": 5, "tune": 4, "trunk": 3}, {"contrast": {"ms": 12.0, "mb": 900.0}}
    missing = write(tmp_path / "cmcr.md", results, costs, steps, "`x`")
    text = (tmp_path / "cmcr.md").read_text()
    assert "| contrast | 0.250 (1 seed) | not measured | 0.400 ± 0.100 | not measured |" in text
    assert "| random weights | 0.100 (1 seed) | not measured | not measured | not measured |" in text
    assert "| contrast | not measured | not measured | 0.700 (1 seed) |" in text
    assert "| contrast | 12 | 900 |" in text
    assert "`trunk`" in text
    assert len(missing) == sum(map(len, stages())) - 5
    with pytest.raises(KeyError):
        settings(Job("pretrain", 0, "no such arm"), Path("w"), 1.0)
