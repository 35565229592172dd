# SPDX-License-Identifier: Apache-2.0
"""What pre-training gives on real objects: ``python -m benchmarks.objects --page docs/results/objects.md``.

Pre-trains every arm with three seeds on the training parts, without labels, of all real sets and on simulated shapes;
then probes, and fine-tunes with few and with all labels. All splits are by instance. Finished runs and
measurements are kept in ``--work-dir``; an interrupted script goes on where it was, the most telling runs come
first, and the page says what is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import jobs
from benchmarks.norms import settling
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
    "Point-PQAE, crops of 0.8 and more": ("point_pqae_pretrain", ("method.crop=0.8",)),
    "Point-PQAE, whole objects": ("point_pqae_pretrain", ("method.crop=1.0",)),
}
"""Config and overrides of each pre-training."""
MAIN = (RANDOM, *list(ARMS)[:4])
CONTROLS = tuple(list(ARMS)[4:])
PRETRAIN_STEPS, PRETRAIN_BATCH = 250, 32
"""Steps at ``--scale 1`` of each of a config's cycles: PointACL and its control have two."""
AS_IS, WORSE = "as they are", 2
"""Which of ``robustness.LEVELS`` objects are made worse by: the middle one of five."""
TUNE_STEPS, TUNE_BATCH = {1: 100, 5: 100, 20: 150, 0: 200}, 16
"""Steps by the number of labels."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        kind: ``pretrain``, ``svm`` (a probe, with all numbers of labels), ``linear``, ``mlp3``, ``full``, ``few``
            (few-shot folds), or ``worse``: what ``full`` left, on objects made worse.
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

    out = []
    for seed in SEEDS:  # a seed that is whole tells more than three halves
        out.append([Job("pretrain", arm, seed) for arm in MAIN[1:]])
        out.append(jobs(["svm"], MAIN, seeds=(seed,)) + jobs(["full"], MAIN, (5, 0), (seed,)))
    frozen = ("linear", "mlp3")
    return [
        *out,
        jobs(["worse"], MAIN) + [Job("few", arm, seed) for seed in SEEDS for arm in MAIN],
        [Job("pretrain", arm, seed) for arm in CONTROLS for seed in SEEDS],
        jobs(["svm"], CONTROLS) + jobs(["full"], CONTROLS, (5,)),
        jobs(["full"], MAIN, (1, 20)),
        jobs(frozen, MAIN, (0, 5, 20, 1)),
    ]


def pretrain(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Pre-train on all training parts; return the last losses of the log."""
    from training.settings import read_config

    config, overrides = ARMS[job.arm]
    run = read_config(config, overrides)
    steps = max(round(run.cycles * PRETRAIN_STEPS * scale), 2)
    if run.method.task == "shapes":
        data = {"data": FIELDS}
    else:
        real = [f"objects:{root / file}" for file in SETS.values()]
        data = {
            "data": ",".join([*real, SHAPES]),
            "data_shares": SHARES,
            "split_seed": job.seed,
            "y_up": Y_UP,
        }
    jobs.train_to_end(
        replace(
            run, **data, split="train", seed=job.seed, batch_size=PRETRAIN_BATCH, max_steps=steps, max_minutes=0.0,
            threads=1, progress=False, checkpoint_minutes=1.0, work_dir=str(work_dir),
            resume=(work_dir / "last.pth").exists(),
        ).validate()
    )  # fmt: skip
    return {"steps": steps}


def _weights(job: Job, work_dir: Path) -> Path | None:
    """Return the file that a job starts from: a pre-trained encoder, or what was fine-tuned."""
    if job.kind == "worse":
        return work_dir.parent / replace(job, kind="full").name / "model.safetensors"
    if job.arm == RANDOM:
        return None
    return work_dir.parent / Job("pretrain", job.arm, job.seed).name / "model.safetensors"


def _described(job: Job, work_dir: Path, data: Any) -> Any:
    """Return all objects' features from the frozen encoder that a job starts from."""
    import torch

    from pc_perception.inference.model_file import load_object_encoder
    from pc_perception.models.object_encoder import SIZES, ObjectEncoder
    from training.evaluate.features import describe_all

    torch.manual_seed(job.seed)
    file = _weights(job, work_dir)
    encoder = load_object_encoder(file, "cpu") if file else ObjectEncoder(**SIZES["tiny"])
    if not file:
        describe_all(settling(encoder, encoder.describe), data)
        encoder.eval()
    return describe_all(encoder.describe, data)


def probe(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Return the accuracy of a linear SVM on frozen features, its strength chosen on validation, by labels."""
    from training.data.object_files import open_object_files
    from training.evaluate.objects import ProbeSettings, probe_features

    data = open_object_files(root / SETS[job.data], Y_UP)
    features = _described(job, work_dir, data)
    found = {}
    for n in LABELS:
        settings = ProbeSettings(
            job.data, job.arm, ("svm",), per_class=n, standardise=True, seeds=(job.seed,)
        )
        found[str(n)] = probe_features(features, data, settings)[0].scores["svm, chosen on validation"]
    return {"accuracy": found}


def tune(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Fine-tune, or train a head, and measure the last weights and those best on validation on the test part."""
    from pc_perception.inference.model_file import load_classifier
    from pc_perception.models.object_encoder import SIZES
    from training.data.object_sets import in_label_set
    from training.data.object_specs import open_all_objects
    from training.evaluate.classification import evaluate, files_of
    from training.methods.classification import Classification
    from training.settings import read_config

    file = _weights(job, work_dir)
    run = replace(
        read_config("classify_tiny"), method=Classification(job.kind),
        encoder=read_config(ARMS[job.arm][0]).encoder if job.arm in ARMS else SIZES["tiny"],
        data=f"objects:{root / SETS[job.data]}", split="train", split_seed=job.seed, per_class=job.labels, y_up=Y_UP,
        seed=job.seed, max_steps=TUNE_STEPS[job.labels], batch_size=TUNE_BATCH,
        validate_steps=TUNE_STEPS[job.labels] // 4 if job.kind == "full" else 0, threads=1, progress=False,
        log_steps=20, init=str(file) if file else "", work_dir=str(work_dir), checkpoint_minutes=0.0,
    )  # fmt: skip
    jobs.train_to_end(run.validate())
    (work_dir / "last.pth").unlink(missing_ok=True)
    test = open_all_objects(run.data, replace(run.data_options(), split="test"))
    out: dict[str, Any] = {"instances": [f"{job.data} {test.instance(i)}" for i in range(len(test))]}
    for path, name in files_of(str(work_dir)).items():
        model = load_classifier(path, "cpu")
        found = evaluate(model, in_label_set(test, model.label_set))
        out[name] = {"accuracy": found.accuracy, "mean": found.mean_recall, "correct": found.correct.tolist()}
    return out


def few_shot(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Return the mean accuracy over ten few-shot folds of a linear SVM on frozen features, by way and shot."""
    from training.data.few_shot_folds import Fold, draw_folds
    from training.data.object_splits import split_by_instance
    from training.data.simulated_objects import open_simulated_objects
    from training.data.simulation import HELD_OUT
    from training.evaluate.features import Described
    from training.evaluate.few_shot import run_folds
    from training.evaluate.probes import Probe, run_probe

    data = open_simulated_objects(FEW_SHAPES, seed=HELD_OUT)
    features = _described(job, work_dir, data)
    row = {name: k for k, name in enumerate(features.names)}

    def side(part: Any) -> Described:
        names, labels = zip(*((part.name(i), part.label(i)) for i in range(len(part))), strict=True)
        chosen = features.take([row[name] for name in names])
        return replace(chosen, labels=np.array(labels), classes=part.classes)

    def learn(fold: Fold, number: int) -> float:
        return run_probe(Probe(standardise=True), side(fold.train), side(fold.test)).accuracy

    parts = split_by_instance(data, (0.65, 0.35), job.seed)
    folds = {f"{way} way, {shot} shot": draw_folds(*parts, way, shot, seed=job.seed) for way, shot in FEW}
    return {"accuracy": {name: run_folds(drawn, learn).mean for name, drawn in folds.items()}}


def measure_worse(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Return the accuracy of a fully fine-tuned model on its test part as it is, and made worse in each way."""
    from pc_perception.inference.model_file import load_classifier
    from training.data.object_sets import in_label_set
    from training.data.object_specs import open_all_objects
    from training.data.specs import DataOptions
    from training.evaluate.classification import evaluate
    from training.evaluate.robustness import LEVELS, Worsened

    model = load_classifier(_weights(job, work_dir), "cpu")
    options = DataOptions(None, split="test", split_seed=job.seed, y_up=Y_UP)
    test = in_label_set(open_all_objects(f"objects:{root / SETS[job.data]}", options), model.label_set)
    found = {AS_IS: evaluate(model, test).accuracy}
    for kind, (_, levels) in LEVELS.items():
        level = levels[WORSE]
        found[f"{kind} {level:g}"] = evaluate(model, Worsened(test, kind, level, job.seed)).accuracy
    return {"accuracy": found}


WORK = {
    "pretrain": pretrain, "svm": probe, "linear": tune, "mlp3": tune, "full": tune, "few": few_shot,
    "worse": measure_worse,
}  # fmt: skip


def work(job: Job, call: jobs.Call, root: Path) -> dict[str, Any] | None:
    """Do one job unless it is done; None where it would begin too late or what it starts from is missing."""
    folder = call.work_dir / job.name
    kept, start = folder / "figures.json", _weights(job, folder) if job.kind != "pretrain" else None
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
    minutes = call.minutes_used
    write_objects_page(args.page, results, [job for stage in planned for job in stage], args.scale, minutes)
    print(f"{args.page} ({minutes:.0f} minutes in this call)")


if __name__ == "__main__":
    main()
