# SPDX-License-Identifier: Apache-2.0
"""What Point-MGE gives on procedural shapes: ``python -m benchmarks.point_mge --page docs/results/point_mge.md``.

Measures the `shapes` model on unseen shapes of its classes; trains both stages anew with three seeds, on a shorter
schedule; then stage 2 on the shipped tokenizer with several rules for the masking ratio, three seeds each and no
labels. Finished runs and measurements are kept in ``--work-dir``; an interrupted script goes on where it was, and
the page says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import jobs
from benchmarks.machine import describe_machine

if TYPE_CHECKING:
    from training.data.fields import FieldDataset
    from training.settings import RunSettings

SEEDS = (0, 1, 2)
RATIOS = {
    "sliding, 0.55 to 1": {"kind": "sliding"},
    "constant 0.55": {"kind": "constant", "start": 0.55},
    "constant 0.85": {"kind": "constant", "start": 0.85},
    "beta-power": {"kind": "beta-power"},
}
N_TRAIN = 420
N_TEST, N_SETS = 140, 42
"""Unseen shapes: for fields and probes, and for what takes long of each, sets of new shapes and completions."""
STEPS = 1000
"""Of each training at ``--scale 1``: the first stage, the second, an arm of the masking ratio; 16 shapes each."""


@dataclass(frozen=True)
class Settings:
    """What all jobs need: this call, the model file, the cache of shapes."""

    call: jobs.Call
    model: Path
    cache_dir: str


@dataclass(frozen=True)
class Job:
    """One measurement of the model: ``fields``, ``features``, ``generation``, ``completion``, ``time``; or a training.

    ``training`` is of both stages with a seed, ``ratio`` of the second with a rule (``arm``) and a seed.
    """

    kind: str
    arm: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Name the file of its figures."""
        return "-".join(str(p).replace(" ", "_").replace(",", "") for p in (self.kind, self.arm, self.seed))


def stages() -> list[list[Job]]:
    """Return the jobs of the page, the most telling ones first; times are taken with nothing beside."""
    from benchmarks.point_mge_measure import VIEWS

    trained = [Job("training", seed=seed) for seed in SEEDS]
    shipped = [Job("fields"), Job("features"), *(Job("completion", view) for view in VIEWS)]
    made = [Job("generation", arm, seed) for seed in SEEDS for arm in ("by class", "any")]
    ratios = [Job("ratio", arm, seed) for seed in SEEDS for arm in RATIOS]
    return [[*trained, *shipped, *ratios, *made], [Job("time")]]


def work(job: Job, settings: Settings) -> dict[str, Any] | None:
    """Do one job unless its figures are there; None where it would begin too late."""
    kept = settings.call.work_dir / f"{job.name}.json"
    return jobs.do(job, kept, settings.call, lambda: MEASURES[job.kind](job, settings))


def _data(settings: Settings, n_test: int = N_SETS) -> tuple[FieldDataset, FieldDataset]:
    from benchmarks.point_mge_measure import open_split

    return open_split("train", N_TRAIN, settings.cache_dir), open_split("test", n_test, settings.cache_dir)


def _fields(job: Job, settings: Settings, model: Path | None = None) -> dict[str, Any]:
    from benchmarks.point_mge_measure import field_figures

    return field_figures(model or settings.model, _data(settings, N_TEST)[1])


def _features(job: Job, settings: Settings, model: Path | None = None) -> dict[str, Any]:
    from benchmarks.point_mge_measure import feature_figures

    return feature_figures(model or settings.model, *_data(settings, N_TEST))


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


def _training(job: Job, settings: Settings) -> dict[str, Any]:
    """Train both stages from random weights; measure what is measured of the shipped model."""
    from benchmarks.point_mge_measure import VIEWS, completion_figures, generation_figures
    from training.settings import read_config

    one = read_config("point_mge_tokenizer")
    tokenizer = _trained(one, settings, f"{job.name}-1", job.seed)
    two = read_config("point_mge")
    two = replace(two, method=replace(two.method, tokenizer=str(tokenizer)))
    model = _trained(two, settings, f"{job.name}-2", job.seed)
    sets = _data(settings)
    views = {view: completion_figures(model, *sets, n_rays) for view, n_rays in VIEWS.items()}
    made = generation_figures(model, *sets, job.seed, conditional=True)["generated"]
    return _fields(job, settings, model) | _features(job, settings, model) | made | {"views": views}


def _ratio(job: Job, settings: Settings) -> dict[str, Any]:
    """Train stage 2 on the model's own tokenizer; measure features and new shapes."""
    from benchmarks.point_mge_measure import generation_figures
    from training.methods.masking_ratio import MaskingRatio
    from training.settings import read_config

    run = read_config("point_mge")
    ratio = MaskingRatio(**RATIOS[job.arm])
    method = replace(run.method, tokenizer=str(settings.model), class_drop=1.0, ratio=ratio)
    model = _trained(replace(run, method=method), settings, job.name, job.seed)
    made = generation_figures(model, *_data(settings), job.seed, conditional=False)["generated"]
    return _features(job, settings, model) | made


def _trained(run: RunSettings, settings: Settings, name: str, seed: int) -> Path:
    """Train with the script's numbers of steps and shapes; return the model file."""
    folder = settings.call.work_dir / "runs" / name
    return jobs.train_to_end(
        replace(
            run, seed=seed, n_scenes=N_TRAIN, batch_size=16, max_steps=max(round(STEPS * settings.call.scale), 2),
            max_minutes=0.0, cache_dir=settings.cache_dir, work_dir=str(folder), threads=1, progress=False,
            resume=(folder / "last.pth").exists(),
        ).validate()
    )  # fmt: skip


MEASURES: dict[str, Callable[[Job, Settings], dict[str, Any]]] = {
    "training": _training,
    "fields": _fields,
    "features": _features,
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
        __doc__, "work_dirs/point_mge_figures", "docs/results/point_mge.md", scale="factor of steps"
    )
    parser.add_argument("--model", type=Path, default=shipped_models().get("shapes"))
    parser.add_argument("--cache-dir", default="")
    args = parser.parse_args(argv)
    call = jobs.Call.of(args)
    settings = Settings(call, args.model, args.cache_dir)
    results = list(jobs.run_stages(stages(), partial(work, settings=settings), args.workers))
    how = f"`{jobs.command('point_mge', argv)}` ({call.minutes_used:.0f} minutes in this call)"
    write_page(args.page, settings.model, results, f"{how}, on {describe_machine()}", args.scale)
    print(f"{args.page} ({call.minutes_used:.0f} minutes in this call)")


if __name__ == "__main__":
    main()
