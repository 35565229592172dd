# SPDX-License-Identifier: Apache-2.0
"""What CMCR's terms give on simulated drives: ``python -m benchmarks.cmcr --page docs/results/cmcr.md``.

Makes drives with six cameras, pre-trains a small picture trunk without labels, pre-trains the point encoder with more
and more of the method, then probes and fine-tunes every encoder with three seeds. Finished runs and measurements are
kept in ``--work-dir``; an interrupted script goes on where it was. Test drives are of seeds that no run trains on, and
the last step of each run is measured.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import jobs
from benchmarks.cmcr_data import DRIVES, N_KNOWN, make_drives, write_known_keyframes
from benchmarks.cmcr_page import write

SEEDS = (0, 1, 2)
STEPS = {"pretrain": 240, "tune": 180, "trunk": 450}
"""Steps at ``--scale 1``, sized so that everything takes less than 90 minutes on two cores."""
EVERY = {"1 %": 100, "10 %": 10, "100 %": 1}
"""Shares of the simulated scenes that have labels, and every how many-th scene that is."""
N_LABELLED = (1, N_KNOWN)
"""Numbers of real keyframes that have labels, where an encoder is fine-tuned on those."""
CONTRAST = {
    "rec": 0.0, "occ": 0.0, "intensity": 0.0, "orth": 0.0, "orth_image": 0.0, "kl": 0.0, "match": 0.0,
    "commit": 0.0, "codebook": False, "geometry": False,
}  # fmt: skip
"""Point-pixel contrast alone, as PPKT has it."""
DECODERS = {k: v for k, v in CONTRAST.items() if k in ("match", "commit", "codebook", "geometry")}
ARMS: dict[str, dict[str, Any] | None] = {
    "random weights": None,
    "contrast": CONTRAST,
    "+ masked pictures, occupancy": DECODERS,
    "+ codebook": {"geometry": False},
    "+ geometry-enhanced": {},
}
"""Name of each arm: what its pre-training changes in CMCR's paper mode; None for no pre-training."""
FULL, CONTROL = "+ geometry-enhanced", "contrast, random picture trunk"


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        kind: ``trunk``, ``pretrain`` or ``tune``.
        arm: one of ``ARMS``, or ``CONTROL``.
        every: only every how many-th scene has labels.
        spd: fine-tuned by SPD around the segmentation.
        keyframes: fine-tuned on so many real keyframes; 0 on the simulated drives.
    """

    kind: str
    seed: int
    arm: str = ""
    every: int = 1
    spd: bool = False
    keyframes: int = 0

    @property
    def name(self) -> str:
        """Name the folder of the run."""
        if self.kind == "trunk":
            return "trunk"
        arm = "".join(c if c.isalnum() else "-" for c in self.arm).strip("-").replace("--", "-")
        if self.kind == "pretrain":
            return f"pretrain-{arm}-{self.seed}"
        if self.keyframes:
            return f"tune-{arm}-keyframes{self.keyframes}-{self.seed}"
        return f"tune-{arm}-every{self.every}{'-spd' if self.spd else ''}-{self.seed}"


def stages() -> list[list[Job]]:
    """Return the runs of the page, what each stage needs in one before it, the most telling ones first."""
    ends, between = ("random weights", "contrast", FULL), ("+ masked pictures, occupancy", "+ codebook")

    def tunings(arms: Sequence[str], every: int) -> list[Job]:
        return [Job("tune", seed, arm, every) for seed in SEEDS for arm in arms]

    def on_keyframes(arms: Sequence[str]) -> list[Job]:
        return [Job("tune", s, arm, keyframes=n) for n in N_LABELLED for s in SEEDS for arm in arms]

    return [
        [Job("trunk", 0)],
        [Job("pretrain", seed, arm) for seed in SEEDS for arm in ends[1:]],
        tunings(ends, 10) + on_keyframes(ends),
        [Job("pretrain", seed, arm) for seed in SEEDS for arm in between],
        tunings(between, 10) + tunings(ends, 100) + tunings(ends, 1),
        tunings(between, 100) + tunings(between, 1) + on_keyframes(between),
        [Job("pretrain", seed, CONTROL) for seed in SEEDS],
        tunings([CONTROL], 10) + [Job("tune", seed, FULL, 10, spd=True) for seed in SEEDS],
    ]


def settings(job: Job, work_dir: Path, scale: float) -> Any:
    """Return the ``RunSettings`` of a job."""
    from training.methods.spd import Spd
    from training.settings import read_config

    configs = {"trunk": "cmcr_image_trunk", "pretrain": "cmcr_pretrain", "tune": "cmcr_finetune"}
    run = read_config(configs[job.kind])
    if job.kind == "pretrain":
        changes = CONTRAST if job.arm == CONTROL else ARMS[job.arm]
        crop = replace(run.method.crop, height=112, width=208)
        weights = "" if job.arm == CONTROL else str(work_dir / "trunk" / "model.safetensors")
        changes = {"pairs": 512, "queries": 512, "crop": crop, "image_weights": weights} | (changes or {})
        run = replace(run, method=replace(run.method, **changes))
    elif job.kind == "tune":
        init = work_dir / Job("pretrain", job.seed, job.arm).name / "model.safetensors"
        method = Spd(run.method) if job.spd else run.method
        run = replace(
            run, method=method, every=job.every, init="" if job.arm == "random weights" else str(init)
        )
    else:
        run = replace(run, method=replace(run.method, crop=replace(run.method.crop, height=112, width=208)))
    data = (
        f"folder:{work_dir / 'keyframes'}" if job.keyframes else f"nuscenes:{work_dir / 'drives' / 'train'}"
    )
    return replace(
        run, data=data, data_limit=job.keyframes, cache_dir=str(work_dir / "cache"), seed=job.seed,
        max_steps=max(round(STEPS[job.kind] * scale), 2), threads=1, progress=False, log_steps=20, survey=8,
        panel_steps=0, work_dir=str(work_dir / job.name), resume=(work_dir / job.name / "last.pth").exists(),
    ).validate()  # fmt: skip


def find(job: Job, run: Any, work_dir: Path) -> dict[str, Any]:
    """Train one run unless that is done; return what its model gives."""
    from benchmarks.cmcr_measure import encoder_figures, keyframe_figures, segmenter_figures
    from training.run import train

    if job.kind == "trunk":  # plain weights, which do not tell their steps
        if not (Path(run.work_dir) / "model.safetensors").exists():
            train(run)
        return {}
    if job.keyframes:
        return keyframe_figures(jobs.train_to_end(run))
    measure = encoder_figures if job.kind == "pretrain" else segmenter_figures
    return measure(jobs.train_to_end(run), work_dir / "drives")


def work(job: Job, call: jobs.Call) -> dict[str, Any] | None:
    """Do and measure one job unless that is done; None where it would begin too late or lacks its data."""
    if job.keyframes and not (call.work_dir / "keyframes").is_dir():
        return None
    run, kept = settings(job, call.work_dir, call.scale), call.work_dir / job.name / "figures.json"
    current = job.kind == "trunk" or jobs.is_current(kept, run)
    return jobs.do(job, kept, call, lambda: find(job, run, call.work_dir), current)


def costs(work_dir: Path, scale: float) -> dict[str, dict[str, float]]:
    """Return milliseconds and megabytes of a pre-training step of each arm, each in a process of its own."""
    from benchmarks.cmcr_measure import step_cost

    kept = work_dir / "costs.json"
    if kept.exists():
        return json.loads(kept.read_text())
    context, found = multiprocessing.get_context("spawn"), {}
    for arm in list(ARMS)[1:]:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found[arm] = pool.submit(step_cost, settings(Job("pretrain", 0, arm), work_dir, scale)).result()
    kept.write_text(json.dumps(found))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate, train, measure, and write the page."""
    args = jobs.parser(__doc__, "work_dirs/cmcr", "docs/results/cmcr.md").parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    call = jobs.Call.of(args)
    for part in DRIVES:
        make_drives(args.work_dir / "drives", part)
    write_known_keyframes(args.work_dir / "keyframes")
    results = list(jobs.run_stages(stages(), partial(work, call=call), args.workers))
    cost, minutes = costs(args.work_dir, args.scale), call.minutes_used
    command = jobs.command("cmcr", argv)
    steps = {kind: max(round(n * args.scale), 2) for kind, n in STEPS.items()}
    missing = write(args.page, results, cost, steps, f"`{command}`, {minutes:.0f} minutes in the last call")
    print(f"{args.page} ({minutes:.0f} minutes in this call)")
    if missing:
        print(f"{len(missing)} of {sum(map(len, stages()))} runs did not fit: {', '.join(missing)}")


if __name__ == "__main__":
    main()
