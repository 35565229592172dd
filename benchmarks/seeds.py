# SPDX-License-Identifier: Apache-2.0
"""The shipped segmenters over seeds: ``python -m benchmarks.seeds --page docs/results/seeds.md``.

Two questions. How much does a figure move with the seed? Both encoders are trained from random weights on a schedule
much shorter than the shipped models'. Would the shipped models gain from more training, with PointCSP's SPD or without?
Both go on from their own weights, on the data that they were trained on, either way.
Test scenes are held-out seeds of the simulator that no run trains on; the last averaged weights of each run are
measured. Finished runs are kept in ``--work-dir``; an interrupted script goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import jobs
from benchmarks.machine import describe_machine

SEEDS = (0, 1, 2)
WAYS = ("from random weights", "gone on with", "gone on with by SPD")
FROM_RANDOM, GO_ON, BY_SPD = WAYS
CONFIGS = {
    ("street", FROM_RANDOM): "street_sim",
    ("room", FROM_RANDOM): "room_sim",
    ("street", GO_ON): "street",
    ("room", GO_ON): "room_sim",
}
N_SHORT, STEPS = 420, 300
"""Scenes of the runs from random weights, and batches of those that go on."""
N_TEST = 60
"""Held-out scenes of each kind, two clouds of each: mIoU of fifteen and of sixty of them differed by up to 0.04."""
PANDASET = "nuscenes/pandaset002_nusc_dev"
"""The real drive that ``street`` is trained on as well, below ``PC_PERCEPTION_DATA``."""


@dataclass(frozen=True)
class Job:
    """One training run of one shipped model's encoder, or (no ``way``) the shipped model as it is."""

    model: str
    way: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Name the folder of the run."""
        return f"{self.model}-{self.way.replace(' ', '-') or 'shipped'}-{self.seed}"


def stages() -> list[list[Job]]:
    """Return all jobs: none waits for another."""
    models = ("street", "room")
    return [[Job(m) for m in models] + [Job(m, way, seed) for seed in SEEDS for way in WAYS for m in models]]


def settings(job: Job, work_dir: Path, scale: float) -> Any:
    """Return the ``RunSettings`` of a job.

    Raises:
        FileNotFoundError: the real drive is not there.
    """
    from pc_perception.inference.model_file import shipped_models
    from training.methods.spd import Spd
    from training.settings import read_config

    if job.way == FROM_RANDOM:
        run = replace(read_config(CONFIGS[job.model, FROM_RANDOM]), n_scenes=N_SHORT, max_steps=500)
    else:
        run = read_config(CONFIGS[job.model, GO_ON])
        method = Spd(run.method) if job.way == BY_SPD else run.method
        init = str(shipped_models()[job.model])
        run = replace(run, method=method, init=init, lr=5e-4, batch_size=4, max_steps=STEPS)
    if "nuscenes" in run.data:
        run = replace(run, data_root=str(drive()))
    folder = work_dir / job.name
    return replace(
        run, seed=job.seed, max_minutes=0, threads=1, progress=False, work_dir=str(folder),
        max_steps=max(round(run.max_steps * scale), 2), resume=(folder / "last.pth").exists(),
    ).validate()  # fmt: skip


def drive() -> Path:
    """Return the folder of the real drive.

    Raises:
        FileNotFoundError: ``PC_PERCEPTION_DATA`` does not hold it.
    """
    folder = Path(os.environ.get("PC_PERCEPTION_DATA", "/nowhere")) / PANDASET
    if not folder.is_dir():
        raise FileNotFoundError(
            f"'street' goes on with the PandaSet keyframes too: PC_PERCEPTION_DATA must hold '{PANDASET}'"
        )
    return folder


def work(job: Job, call: jobs.Call) -> dict[str, Any] | None:
    """Do and measure one job unless that is done; None where it would begin too late."""
    kept = call.work_dir / job.name / "figures.json"
    if not job.way:
        return jobs.do(job, kept, call, lambda: figures(job.model, job.model))
    run = settings(job, call.work_dir, call.scale)
    return jobs.do(
        job, kept, call, lambda: figures(str(jobs.train_to_end(run)), job.model), jobs.is_current(kept, run)
    )


def figures(file: str, model: str) -> dict[str, Any]:
    """Return what is measured of a model file, or of a shipped model by its name: for each set of clouds a report."""
    from pc_perception.inference.loading import load_segmenter
    from training.evaluate.report import report
    from training.evaluate.segmentation import evaluate

    segmenter = load_segmenter(file, "cpu")
    classes = segmenter.label_set.classes
    return {title: report(evaluate(segmenter, data), classes) for title, data in test_sets(model)}


def test_sets(model: str) -> Iterator[tuple[str, Any]]:
    """Yield (title, clouds): held-out simulation, and real clouds that no run trains on where they are there."""
    from benchmarks.real_clouds import room_sets, street_sets
    from training.data.simulation import HELD_OUT, SimulatedClouds

    kinds, labels = (("street", "drive"), "street8") if model == "street" else (("room",), "room9")
    for kind in kinds:
        yield f"sim:{kind}", SimulatedClouds(kind, labels, N_TEST, 2, HELD_OUT)
    real = street_sets if model == "street" else room_sets
    for title, word, clouds in real(Path(os.environ.get("PC_PERCEPTION_DATA", "/nowhere"))):
        if word != "pandaset":
            yield title.split(",")[0], clouds


def page(results: Sequence[dict[str, Any]], command: str, minutes: float, scale: float) -> list[str]:
    """Return the blocks of the page."""

    def found(model: str, way: str, of: str, key: str = "miou", name: str = "") -> str:
        each = [r["figures"][of] for r in results if (r["model"], r["way"]) == (model, way)]
        values = [f[key] if not name else f[key][name] for f in each]
        return f"{values[0]:.3f}" if not way and values else jobs.spread(values)

    blocks = [
        "# Seeds\n",
        f"Command: `{command}` ({minutes:.0f} minutes in this call), on {describe_machine()}. {len(SEEDS)} seeds, mean "
        f"± sample standard deviation; mIoU on {N_TEST} held-out scenes, two clouds of each, and on real clouds; each "
        "run's last averaged weights, one thread each.\n",
        f"From random weights: {round(500 * scale)} steps of 2 clouds, {N_SHORT} simulated scenes: how much a figure "
        f"moves, not how good the models are. Gone on with: {round(STEPS * scale)} steps of 4 clouds from the shipped "
        "weights, on the data of its config, highest learning rate 5e-4, by its task alone or by SPD around it.\n",
    ]
    for model in ("street", "room"):
        measured = [r["figures"] for r in results if r["model"] == model]
        if not measured:
            continue
        rows = [[of, *(found(model, way, of) for way in ("", *WAYS))] for of in measured[0]]
        blocks += [f"## {model}\n", jobs.table(["measured on", "shipped", *WAYS], rows), "", "By class:\n"]
        of = f"sim:{model}"
        names = measured[0][of]["iou"]
        rows = [[name, *(found(model, way, of, "iou", name) for way in ("", *WAYS))] for name in names]
        blocks += [jobs.table([of, "shipped", *WAYS], rows), ""]
    return blocks


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write the page."""
    args = jobs.parser(__doc__, "work_dirs/seeds", "docs/results/seeds.md").parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    call = jobs.Call.of(args)
    results = list(jobs.run_stages(stages(), partial(work, call=call), args.workers))
    command = jobs.command("seeds", argv)
    jobs.write_page(args.page, page(results, command, call.minutes_used, args.scale))
    print(f"{args.page} ({call.minutes_used:.0f} minutes in this call)")


if __name__ == "__main__":
    main()
