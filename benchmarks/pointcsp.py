# SPDX-License-Identifier: Apache-2.0
"""What PointCSP's parts give on simulated rooms: ``python -m benchmarks.pointcsp --page docs/results/pointcsp.md``.

Pre-trains, fine-tunes and measures every arm with three seeds, two runs side by side with one thread each.
Finished runs and measurements are kept in ``--work-dir``; an interrupted script goes on where it was. Test
scenes are held-out seeds of the simulator that no run trains on, and the last step of each run is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.jobs import run_stages
from benchmarks.pointcsp_page import write_page

SEEDS = (0, 1, 2)
SHARES = (0.01, 0.1, 1.0)
ORDERS = ("concat", "shuffle_within", "shuffle_all")
CHOSEN = "shuffle_all"
ARMS = {
    "baseline": ("", "single"),
    "pre-training alone": ("alone", "single"),
    "+CSP": (CHOSEN, "serialised"),
    "+SPD": ("", "spd"),
    "+CSP +SPD": (CHOSEN, "spd"),
}
"""Name of each arm: (order of its pre-training, empty for random weights; how it is fine-tuned)."""


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        kind: ``pretrain`` or ``tune``.
        order: of the pre-training that this is or starts from; empty for random weights.
        way: ``single``, ``serialised`` or ``spd``.
        csp_order: of the fine-tuning's sequences.
        share: of the training clouds that have labels.
        batch: scenes in a batch; as many samples are seen with any.
    """

    kind: str
    seed: int
    order: str = ""
    way: str = ""
    csp_order: str = CHOSEN
    share: float = 1.0
    batch: int = 4

    @property
    def name(self) -> str:
        """Name the folder of the run."""
        if self.kind == "pretrain":
            return f"pretrain-{self.order}-{self.seed}"
        walk = "" if self.way == "single" else f"-{self.csp_order}"
        return f"tune-{self.order or 'random'}-{self.way}{walk}-{self.share:g}-b{self.batch}-{self.seed}"


def stages() -> list[list[Job]]:
    """Return the runs of the page, what each stage needs in one before it, the most telling ones first."""
    main, others = ("alone", CHOSEN), [o for o in ORDERS if o != CHOSEN]
    arms = [
        Job("tune", seed, order, way, share=share)
        for share in reversed(SHARES)
        for seed in SEEDS
        for order, way in ARMS.values()
    ]
    batches = [Job("tune", seed, CHOSEN, "spd", share=0.1, batch=b) for seed in SEEDS for b in (1, 16)]
    return [
        [Job("pretrain", seed, order) for seed in SEEDS for order in main],
        arms,
        [Job("pretrain", seed, order) for seed in SEEDS for order in others],
        [Job("tune", seed, o, "spd", o, share=0.1) for seed in SEEDS for o in others] + batches,
    ]


def run_job(job: Job, work_dir: Path, scale: float) -> Path:
    """Train one run unless its model is there with all its steps; return the model file."""
    from pc_perception.inference.model_file import read_model_file
    from training.methods.spd import Serialised, Spd
    from training.run import train
    from training.settings import read_config

    run = read_config("pointcsp_rooms" if job.kind == "pretrain" else "rooms_small")
    folder = work_dir / job.name
    steps = max(round(run.max_steps * scale), 2)
    if job.kind == "pretrain":
        run = replace(run, method=replace(run.method, csp_order=job.order))
    else:
        ways = {
            "single": run.method,
            "serialised": Serialised(run.method, job.csp_order),
            "spd": Spd(run.method, csp_order=job.csp_order),
        }
        n_clouds = run.n_scenes * run.per_scene
        steps = max(steps * run.batch_size // job.batch, 2)
        run = replace(
            run,
            method=ways[job.way],
            batch_size=job.batch,
            data_limit=0 if job.share == 1 else round(n_clouds * job.share),
            init=str(work_dir / f"pretrain-{job.order}-{job.seed}" / "model.safetensors")
            if job.order
            else "",
        )
    model = folder / "model.safetensors"
    if model.exists() and read_model_file(model)[0].provenance.get("steps") == steps:
        return model
    return train(
        replace(
            run, seed=job.seed, max_steps=steps, threads=1, progress=False, log_steps=20, work_dir=str(folder),
            resume=(folder / "last.pth").exists(),
        ).validate()
    )  # fmt: skip


def measure_job(job: Job, work_dir: Path) -> dict[str, Any]:
    """Return the figures of a finished run, measured once and kept beside the model."""
    from benchmarks.pointcsp_measure import encoder_figures, segmenter_figures

    model = work_dir / job.name / "model.safetensors"
    kept = model.with_name("figures.json")
    if kept.exists() and kept.stat().st_mtime > model.stat().st_mtime:
        return json.loads(kept.read_text())
    found = encoder_figures(model) if job.kind == "pretrain" else segmenter_figures(model)
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


def do_all(work_dir: Path, scale: float, workers: int, deadline: float) -> Iterator[dict[str, Any]]:
    """Do all stages; yield what was measured of each run."""
    work_dir.mkdir(parents=True, exist_ok=True)
    do = partial(work, work_dir=work_dir, scale=scale, deadline=deadline)
    yield from run_stages(stages(), do, workers)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write the page and its picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/pointcsp"))
    parser.add_argument("--page", type=Path, default=Path("docs/results/pointcsp.md"))
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all numbers of steps")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--minutes", type=float, default=90, help="begin no run later; the page says what is missing"
    )
    args = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    begin = time.time()
    results = list(do_all(args.work_dir, args.scale, args.workers, begin + 60 * args.minutes))
    minutes = (time.time() - begin) / 60
    command = "python -m benchmarks.pointcsp" + "".join(f" {a}" for a in (argv or sys.argv[1:]))
    write_page(args.page, args.work_dir, results, command, minutes)
    print(f"{args.page} ({minutes:.0f} minutes in this call)")


if __name__ == "__main__":
    main()
