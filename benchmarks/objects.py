# SPDX-License-Identifier: Apache-2.0
"""What pre-training gives on real objects: ``python -m benchmarks.objects --page docs/results/objects.md``.

Pre-trains every arm with three seeds on the training parts, without labels, of all real sets and on simulated shapes;
then probes, and fine-tunes with few and with all labels; parts are of simulated shapes. All splits are by instance.
Finished runs and measurements are kept in ``--work-dir``; an interrupted script goes on where it was, the most telling
runs come first, and the page says what is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import jobs
from benchmarks.objects_page import write_objects_page

SEEDS = (0, 1, 2)
LABELS = (1, 5, 20, 0)
"""Training instances of each class; 0: all."""
SETS = {
    "PandaSet": "pandaset_objects_dev.npz",
    "LidarNet": "lidarnet_hdl32_dev.npz",
    "DALES": "dales_objects_dev.npz",
}
Y_UP = ("lidarnet_*",)
SHAPES = "sim:objects:1500"
SHARES = (0.25, 0.15, 0.1, 0.5)
"""How often the real sets and the simulated shapes are drawn in pre-training."""
FEW, FEW_SHAPES = ((5, 10), (5, 20), (10, 10), (10, 20)), 1600
"""Ways and shots, and the simulated shapes that folds are drawn from: of seeds that no pre-training saw."""
FIELDS = "shapes:all"
"""What Point-MGE is pre-trained on instead: tokens are those of whole shapes, real objects are seen from a side."""
RANDOM = "random weights"
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Point-MAE": ("point_mae_pretrain", ()),
    "PointACL": ("pointacl_pretrain", ()),
    "Point-PQAE": ("point_pqae_pretrain", ()),
    "Point-MGE": ("point_mge", ("method.tokenizer=shapes", "method.class_drop=1.0")),
    "PointACL's control: no contrast, as long": ("pointacl_pretrain", ("method.weight=0",)),
    "PointACL, random masks": ("pointacl_pretrain", ("method.masking=random",)),
    "PointACL, fixed top-k masks": ("pointacl_pretrain", ("method.masking=top",)),
    "Point-PQAE, constant query": ("point_pqae_pretrain", ("method.query=constant",)),
    "Point-PQAE, whole objects": ("point_pqae_pretrain", ("method.crop=1.0",)),
}
"""Config and overrides of each pre-training."""
MAIN = (RANDOM, *list(ARMS)[:4])
CONTROLS = tuple(list(ARMS)[4:])
PRETRAIN_STEPS, PRETRAIN_BATCH = 250, 32
"""Steps at ``--scale 1`` of each of a config's cycles: PointACL and its control have two."""
PART_SHAPES, PART_TESTS, PART_STEPS, PART_POINTS = 65, 130, 60, 512
"""Simulated shapes whose parts are learned, five of each class, unseen ones, steps of half ``TUNE_BATCH``, points."""
AS_IS, WORSE = "as they are", 2
"""Which of ``robustness.LEVELS`` objects are made worse by: the middle one of five."""
TUNE_STEPS, TUNE_BATCH = {1: 100, 5: 100, 20: 120, 0: 200}, 16
"""Steps by the number of labels; half of them for a head alone, so that everything fits 90 minutes on two cores."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        kind: ``pretrain``, ``svm`` (a probe, with all numbers of labels), ``linear``, ``mlp3``, ``full``, ``few``
            (few-shot folds), ``parts`` (part segmentation), or ``worse``: what ``full`` left, on objects made worse.
        arm: ``RANDOM`` or a name of ``ARMS``.
        data: a name of ``SETS``; empty for a pre-training.
        labels: instances of each class; 0 for all.
    """

    kind: str
    arm: str
    seed: int
    data: str = ""
    labels: int = 0

    @property
    def name(self) -> str:
        """Name the folder of the run."""
        arm = "".join(c if c.isalnum() else "_" for c in self.arm)
        where = f"-{self.data}-{self.labels or 'all'}" if self.data else ""
        return f"{self.kind}-{arm}{where}-{self.seed}"


def stages() -> list[list[Job]]:
    """Return the runs of the page, what each stage needs in one before it, the most telling ones first."""

    def jobs(
        kinds: Sequence[str], arms: Sequence[str], labels: Sequence[int] = (0,), seeds: Sequence[int] = SEEDS
    ) -> list[Job]:
        return [
            Job(kind, arm, seed, data, n)
            for n in labels
            for kind in kinds
            for data in SETS
            for seed in seeds
            for arm in arms
        ]

    main = [[Job("pretrain", arm, seed) for arm in MAIN[1:]] for seed in SEEDS]
    controls = [Job("pretrain", arm, seed) for arm in CONTROLS for seed in SEEDS]
    # A seed that is whole tells more than three halves. The next stage's long runs begin each, to leave no core idle.
    tuned = [
        ahead + jobs(["svm"], MAIN, seeds=(seed,)) + jobs(["full"], MAIN, (5, 0), (seed,))
        for seed, ahead in zip(SEEDS, [*main[1:], controls], strict=True)
    ]
    return [
        main[0],
        *tuned,
        jobs(["worse"], MAIN)
        + [Job(kind, arm, seed) for kind in ("few", "parts") for seed in SEEDS for arm in MAIN],
        jobs(["svm"], CONTROLS) + jobs(["full"], CONTROLS, (5,)),
        jobs(["full"], MAIN, (1, 20)),
        jobs(["linear", "mlp3"], MAIN, (0, 5, 20, 1)),
    ]


def work(job: Job, call: jobs.Call, root: Path) -> dict[str, Any] | None:
    """Do one job unless it is done; None where it would begin too late or what it starts from is missing."""
    from benchmarks.objects_measure import WORK, weights

    folder = call.work_dir / job.name
    kept, start = folder / "figures.json", weights(job, folder) if job.kind != "pretrain" else None
    if start and not kept.exists() and not start.with_name("figures.json").exists():
        return None

    def find() -> dict[str, Any]:
        begin = time.time()
        folder.mkdir(parents=True, exist_ok=True)
        found = WORK[job.kind](job, root, folder, call.scale)
        return found | {"seconds": round(time.time() - begin, 1)}

    return jobs.do(job, kept, call, find)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write the page."""
    parser = jobs.parser(
        __doc__,
        "work_dirs/objects_benchmark",
        "docs/results/objects.md",
        "factor of the steps of pre-training",
    )
    parser.add_argument(
        "--data", type=Path, help="folder of the objects; default: $PC_PERCEPTION_DATA/objects/dev"
    )
    args = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    root = args.data or Path(os.environ["PC_PERCEPTION_DATA"]) / "objects" / "dev"
    call, planned = jobs.Call.of(args), stages()
    results = list(jobs.run_stages(planned, partial(work, call=call, root=root.resolve()), args.workers))
    write_objects_page(args.page, results, [job for stage in planned for job in stage], args.scale)
    print(f"{args.page} ({call.minutes_used:.0f} minutes in this call)")


if __name__ == "__main__":
    main()
