# SPDX-License-Identifier: Apache-2.0
"""What Point-MGE gives on procedural shapes: ``python -m benchmarks.point_mge --page docs/results/point_mge.md``.

Measures the `shapes` model on unseen shapes of its classes, then trains stage 2 on its tokenizer with several rules
for the masking ratio, three seeds each and no labels. Finished runs and measurements are kept in ``--work-dir``;
an interrupted script goes on where it was, and the page says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import jobs
from benchmarks.machine import describe_machine

SEEDS = (0, 1, 2)
RATIOS = {
    "sliding, 0.55 to 1": {"kind": "sliding"},
    "constant 0.55": {"kind": "constant", "start": 0.55},
    "constant 0.85": {"kind": "constant", "start": 0.85},
    "beta-power": {"kind": "beta-power"},
}
N_TRAIN, N_TEST = 420, 140


@dataclass(frozen=True)
class Settings:
    """What all jobs need: this call, the model file, the cache of shapes."""

    call: jobs.Call
    model: Path
    cache_dir: str


@dataclass(frozen=True)
class Job:
    """One measurement: ``fields``, ``generation``, ``completion``, ``time``, or an arm of ``ratio`` with a seed."""

    kind: str
    arm: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Name the file of its figures."""
        return "-".join(str(p).replace(" ", "_").replace(",", "") for p in (self.kind, self.arm, self.seed))


def stages() -> list[list[Job]]:
    """Return the jobs of the page, the most telling ones first."""
    from benchmarks.point_mge_measure import VIEWS

    shipped = [Job("fields"), *(Job("completion", view) for view in VIEWS), Job("time")]
    made = [Job("generation", arm, seed) for arm in ("by class", "any") for seed in SEEDS]
    return [shipped, made, [Job("ratio", arm, seed) for seed in SEEDS for arm in RATIOS]]


def work(job: Job, settings: Settings) -> dict[str, Any] | None:
    """Do one job unless its figures are there; None where it would begin too late."""
    kept = settings.call.work_dir / f"{job.name}.json"
    return jobs.do(job, kept, settings.call, lambda: MEASURES[job.kind](job, settings))


def _data(settings: Settings) -> tuple[Any, Any]:
    from benchmarks.point_mge_measure import open_split

    n_test = max(28, 14 * round(N_TEST * min(settings.call.scale, 1) / 14))
    return open_split("train", N_TRAIN, settings.cache_dir), open_split("test", n_test, settings.cache_dir)


def _fields(job: Job, settings: Settings) -> dict[str, Any]:
    from benchmarks.point_mge_measure import field_figures

    return field_figures(settings.model, _data(settings)[1])


def _completion(job: Job, settings: Settings) -> dict[str, Any]:
    from benchmarks.point_mge_measure import VIEWS, completion_figures

    return completion_figures(settings.model, *_data(settings), VIEWS[job.arm])


def _generation(job: Job, settings: Settings) -> dict[str, Any]:
    from benchmarks.point_mge_measure import generation_figures
    from training.evaluate.generation import N_EMD

    return generation_figures(settings.model, *_data(settings), job.seed, job.arm == "by class", N_EMD)


def _time(job: Job, settings: Settings) -> dict[str, Any]:
    import torch

    from benchmarks.point_mge_measure import time_figures

    torch.set_num_threads(2)
    return time_figures(settings.model)


def _ratio(job: Job, settings: Settings) -> dict[str, Any]:
    """Train stage 2 on the model's own tokenizer; measure features and new shapes."""
    from benchmarks.point_mge_measure import feature_figures, generation_figures
    from training.methods.masking_ratio import MaskingRatio
    from training.settings import read_config

    run = read_config("point_mge")
    method = replace(
        run.method, tokenizer=str(settings.model), class_drop=1.0, ratio=MaskingRatio(**RATIOS[job.arm])
    )
    folder = settings.call.work_dir / "runs" / job.name
    model = jobs.train_to_end(
        replace(
            run, method=method, seed=job.seed, n_scenes=N_TRAIN,
            max_steps=max(round(600 * settings.call.scale), 2), max_minutes=0.0, cache_dir=settings.cache_dir,
            work_dir=str(folder), threads=1, progress=False, resume=(folder / "last.pth").exists(),
        ).validate()
    )  # fmt: skip
    own, test = _data(settings)
    features = feature_figures(model, own, test)
    return features | generation_figures(model, own, test, job.seed, conditional=False)["generated"]


MEASURES: dict[str, Callable[[Job, Settings], dict[str, Any]]] = {
    "fields": _fields,
    "completion": _completion,
    "generation": _generation,
    "time": _time,
    "ratio": _ratio,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the page."""
    from benchmarks.point_mge_page import write_page
    from pc_perception.inference.model_file import shipped_models

    parser = jobs.parser(
        __doc__, "work_dirs/point_mge_figures", "docs/results/point_mge.md",
        scale="factor of steps and of test shapes", workers=1,
    )  # fmt: skip
    parser.add_argument("--model", type=Path, default=shipped_models().get("shapes"))
    parser.add_argument("--cache-dir", default="")
    args = parser.parse_args(argv)
    call = jobs.Call.of(args)
    settings = Settings(call, args.model, args.cache_dir)
    results = list(jobs.run_stages(stages(), partial(work, settings=settings), args.workers))
    write_page(args.page, settings.model, results, describe_machine(), args.scale)
    print(f"{args.page} ({call.minutes_used:.0f} minutes in this call)")


if __name__ == "__main__":
    main()
