# SPDX-License-Identifier: Apache-2.0
"""What PointCSP's parts give on simulated rooms: ``python -m benchmarks.pointcsp --page docs/results/pointcsp.md``.

Pre-trains, fine-tunes and measures every arm with three seeds, two runs side by side with one thread each.
Finished runs and measurements are kept in ``--work-dir``; an interrupted script goes on where it was. Test
scenes are held-out seeds of the simulator that no run trains on, and the last step of each run is measured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import jobs
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


def settings(job: Job, work_dir: Path, scale: float) -> Any:
    """Return the ``RunSettings`` of a job."""
    from training.methods.spd import Serialised, Spd
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
        init = work_dir / f"pretrain-{job.order}-{job.seed}" / "model.safetensors"
        run = replace(
            run,
            method=ways[job.way],
            batch_size=job.batch,
            data_limit=0 if job.share == 1 else round(n_clouds * job.share),
            init=str(init) if job.order else "",
        )
    return replace(
        run, seed=job.seed, max_steps=steps, threads=1, progress=False, log_steps=20, work_dir=str(folder),
        resume=(folder / "last.pth").exists(),
    ).validate()  # fmt: skip


def work(job: Job, call: jobs.Call) -> dict[str, Any] | None:
    """Do and measure one job unless that is done; None where it would begin too late."""
    from benchmarks.pointcsp_measure import encoder_figures, segmenter_figures

    run, kept = settings(job, call.work_dir, call.scale), call.work_dir / job.name / "figures.json"
    measure = encoder_figures if job.kind == "pretrain" else segmenter_figures
    return jobs.do(job, kept, call, lambda: measure(jobs.train_to_end(run)), jobs.is_current(kept, run))


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write the page and its picture."""
    args = jobs.parser(__doc__, "work_dirs/pointcsp", "docs/results/pointcsp.md").parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    call = jobs.Call.of(args)
    results = list(jobs.run_stages(stages(), partial(work, call=call), args.workers))
    command = jobs.command("pointcsp", argv)
    write_page(args.page, args.work_dir, results, command, call.minutes_used)
    print(f"{args.page} ({call.minutes_used:.0f} minutes in this call)")


if __name__ == "__main__":
    main()
