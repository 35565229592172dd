# SPDX-License-Identifier: Apache-2.0
"""What CMCR's terms give on simulated drives: ``python -m benchmarks.cmcr --page docs/results/cmcr.md``.

Makes drives with six cameras, pre-trains a small picture trunk without labels, pre-trains the point encoder with more
and more of the method, then probes and fine-tunes every encoder with three seeds. Finished runs and measurements are
kept in ``--work-dir``; an interrupted script goes on where it was. Test drives are of seeds that no run trains on, and
the last step of each run is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cmcr_data import DRIVES, make_drives
from benchmarks.cmcr_page import write
from benchmarks.jobs import run_stages

SEEDS = (0, 1, 2)
STEPS = {"pretrain": 120, "tune": 80, "trunk": 200}
"""Steps at ``--scale 1``, sized so that everything takes less than 90 minutes on two cores."""
EVERY = {"1 %": 100, "10 %": 10, "100 %": 1}
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
    """

    kind: str
    seed: int
    arm: str = ""
    every: int = 1
    spd: bool = False

    @property
    def name(self) -> str:
        """Name the folder of the run."""
        if self.kind == "trunk":
            return "trunk"
        arm = "".join(c if c.isalnum() else "-" for c in self.arm).strip("-").replace("--", "-")
        if self.kind == "pretrain":
            return f"pretrain-{arm}-{self.seed}"
        return f"tune-{arm}-every{self.every}{'-spd' if self.spd else ''}-{self.seed}"


def stages() -> list[list[Job]]:
    """Return the runs of the page, what each stage needs in one before it, the most telling ones first."""
    ends, between = ("random weights", "contrast", FULL), ("+ masked pictures, occupancy", "+ codebook")

    def tunings(arms: Sequence[str], every: int) -> list[Job]:
        return [Job("tune", seed, arm, every) for seed in SEEDS for arm in arms]

    return [
        [Job("trunk", 0)],
        [Job("pretrain", seed, arm) for seed in SEEDS for arm in ends[1:]],
        tunings(ends, 10),
        [Job("pretrain", seed, arm) for seed in SEEDS for arm in between],
        tunings(between, 10) + tunings(ends, 100) + tunings(ends, 1),
        tunings(between, 100) + tunings(between, 1),
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
    return replace(
        run, data=f"nuscenes:{work_dir / 'drives' / 'train'}", cache_dir=str(work_dir / "cache"), seed=job.seed,
        max_steps=max(round(STEPS[job.kind] * scale), 2), threads=1, progress=False, log_steps=20, survey=8,
        panel_steps=0, work_dir=str(work_dir / job.name), resume=(work_dir / job.name / "last.pth").exists(),
    ).validate()  # fmt: skip


def run_job(job: Job, work_dir: Path, scale: float) -> Path:
    """Train one run unless its model is there with all its steps; return the model file."""
    from pc_perception.inference.model_file import read_model_file
    from training.run import train

    run, model = settings(job, work_dir, scale), work_dir / job.name / "model.safetensors"
    if model.exists() and (
        job.kind == "trunk" or read_model_file(model)[0].provenance.get("steps") == run.max_steps
    ):
        return model
    return train(run)


def measure_job(job: Job, work_dir: Path) -> dict[str, Any]:
    """Return the figures of a finished run, measured once and kept beside the model."""
    from benchmarks.cmcr_measure import encoder_figures, segmenter_figures

    model = work_dir / job.name / "model.safetensors"
    kept = model.with_name("figures.json")
    if kept.exists() and kept.stat().st_mtime > model.stat().st_mtime:
        return json.loads(kept.read_text())
    measure = {"trunk": lambda *_: {}, "pretrain": encoder_figures, "tune": segmenter_figures}
    found = measure[job.kind](model, work_dir / "drives")
    kept.write_text(json.dumps(found))
    return found


def work(job: Job, work_dir: Path, scale: float, deadline: float) -> dict[str, Any] | None:
    """Do and measure one job, in a process with one thread; None where it would begin after ``deadline``."""
    import torch

    torch.set_num_threads(1)
    begin, done = time.time(), (work_dir / job.name / "figures.json").exists()
    if begin > deadline and not done:
        return None
    run_job(job, work_dir, scale)
    found = measure_job(job, work_dir)
    if not done:
        print(f"{job.name}: {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    return asdict(job) | {"figures": found}


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/cmcr"))
    parser.add_argument("--page", type=Path, default=Path("docs/results/cmcr.md"))
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all numbers of steps")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--minutes", type=float, default=90, help="begin no run later; the page says what is missing"
    )
    args = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    begin = time.time()
    for part in DRIVES:
        make_drives(args.work_dir / "drives", part)
    limits = {"work_dir": args.work_dir, "scale": args.scale, "deadline": begin + 60 * args.minutes}
    results = list(run_stages(stages(), partial(work, **limits), args.workers))
    cost, minutes = costs(args.work_dir, args.scale), (time.time() - begin) / 60
    command = "python -m benchmarks.cmcr" + "".join(f" {a}" for a in (argv or sys.argv[1:]))
    steps = {kind: max(round(n * args.scale), 2) for kind, n in STEPS.items()}
    missing = write(args.page, results, cost, steps, f"`{command}`, {minutes:.0f} minutes in the last call")
    print(f"{args.page} ({minutes:.0f} minutes in this call)")
    if missing:
        print(f"{len(missing)} of {sum(map(len, stages()))} runs did not fit: {', '.join(missing)}")


if __name__ == "__main__":
    main()
