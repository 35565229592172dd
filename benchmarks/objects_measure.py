# SPDX-License-Identifier: Apache-2.0
"""What the jobs of ``benchmarks.objects`` do, and what they find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import jobs
from benchmarks.norms import settling
from benchmarks.objects import (
    ARMS,
    AS_IS,
    FEW,
    FEW_SHAPES,
    FIELDS,
    LABELS,
    PART_POINTS,
    PART_SHAPES,
    PART_STEPS,
    PART_TESTS,
    PRETRAIN_BATCH,
    PRETRAIN_STEPS,
    RANDOM,
    SETS,
    SHAPES,
    SHARES,
    TUNE_BATCH,
    TUNE_STEPS,
    WORSE,
    Y_UP,
    Job,
)
from pc_perception.inference.loading import load_classifier, load_object_encoder
from pc_perception.inference.object_contract import ObjectContract
from pc_perception.models.object_encoder import SIZES, ObjectEncoder
from training.data.few_shot_folds import Fold, draw_folds
from training.data.object_files import open_object_files
from training.data.object_sets import in_label_set
from training.data.object_specs import open_all_objects
from training.data.object_splits import split_by_instance
from training.data.simulated_objects import open_simulated_objects
from training.data.simulated_parts import CATEGORIES, LABEL_SET, open_simulated_parts
from training.data.simulation import HELD_OUT
from training.data.specs import DataOptions
from training.evaluate.classification import evaluate, files_of
from training.evaluate.features import Described, describe_all
from training.evaluate.few_shot import run_folds
from training.evaluate.objects import ProbeSettings, probe_features
from training.evaluate.part_models import load_part_segmenter
from training.evaluate.parts import evaluate_parts
from training.evaluate.probes import Probe, run_probe
from training.evaluate.robustness import LEVELS, Worsened
from training.methods.classification import Classification
from training.object_views import SHAPENETPART
from training.settings import read_config


def pretrain(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Pre-train on all training parts; return how many steps it took."""
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


def weights(job: Job, work_dir: Path) -> Path | None:
    """Return the file that a job starts from: a pre-trained encoder, or what was fine-tuned."""
    if job.kind == "worse":
        return work_dir.parent / replace(job, kind="full").name / "model.safetensors"
    if job.arm == RANDOM:
        return None
    return work_dir.parent / Job("pretrain", job.arm, job.seed).name / "model.safetensors"


def _described(job: Job, work_dir: Path, data: Any) -> Any:
    """Return all objects' features from the frozen encoder that a job starts from."""
    torch.manual_seed(job.seed)
    file = weights(job, work_dir)
    encoder = load_object_encoder(file, "cpu") if file else ObjectEncoder(**SIZES["tiny"])
    if not file:
        describe_all(settling(encoder, encoder.describe), data)
        encoder.eval()
    return describe_all(encoder.describe, data)


def probe(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Return the accuracy of a linear SVM on frozen features, its strength chosen on validation, by labels."""
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
    file = weights(job, work_dir)
    steps = TUNE_STEPS[job.labels] // (1 if job.kind == "full" else 2)
    run = replace(
        read_config("classify_tiny"), method=Classification(job.kind),
        encoder=_encoder(job),
        data=f"objects:{root / SETS[job.data]}", split="train", split_seed=job.seed, per_class=job.labels, y_up=Y_UP,
        seed=job.seed, max_steps=steps, batch_size=TUNE_BATCH,
        validate_steps=steps // 4 if job.kind == "full" else 0, threads=1, progress=False,
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


def _encoder(job: Job) -> dict[str, Any]:
    return read_config(ARMS[job.arm][0]).encoder if job.arm in ARMS else SIZES["tiny"]


def parts(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Fine-tune for the parts of simulated shapes, five of each class; return the mIoU over unseen ones.

    Classes are equally common, so that the mean over shapes is the one over classes.
    """
    file = weights(job, work_dir)
    run = read_config("parts_tiny", [f"label_set={LABEL_SET}", f"method.n_categories={len(CATEGORIES)}"])
    run = replace(
        run, encoder=_encoder(job), data=f"sim:parts:{PART_SHAPES}", seed=job.seed, data_seed=job.seed * PART_SHAPES,
        contract=ObjectContract(PART_POINTS), max_steps=PART_STEPS, batch_size=TUNE_BATCH // 2, lr=1e-3,
        threads=1, progress=False, log_steps=20,
        init=str(file) if file else "", work_dir=str(work_dir), checkpoint_minutes=0.0,
    )  # fmt: skip
    segment, _ = load_part_segmenter(jobs.train_to_end(run.validate()), "cpu")
    (work_dir / "last.pth").unlink(missing_ok=True)
    view = replace(SHAPENETPART, n_points=PART_POINTS)
    _, found = evaluate_parts(segment, open_simulated_parts(PART_TESTS, HELD_OUT), view)
    return {"accuracy": {"mIoU": found["instance_miou"]}}


def few_shot(job: Job, root: Path, work_dir: Path, scale: float) -> dict[str, Any]:
    """Return the mean accuracy over ten few-shot folds of a linear SVM on frozen features, by way and shot."""
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
    model = load_classifier(weights(job, work_dir), "cpu")
    options = DataOptions(None, split="test", split_seed=job.seed, y_up=Y_UP)
    test = in_label_set(open_all_objects(f"objects:{root / SETS[job.data]}", options), model.label_set)
    found = {AS_IS: evaluate(model, test).accuracy}
    for kind, (_, levels) in LEVELS.items():
        level = levels[WORSE]
        found[f"{kind} {level:g}"] = evaluate(model, Worsened(test, kind, level, job.seed)).accuracy
    return {"accuracy": found}


WORK = {
    "pretrain": pretrain, "svm": probe, "linear": tune, "mlp3": tune, "full": tune, "few": few_shot,
    "parts": parts, "worse": measure_worse,
}  # fmt: skip
