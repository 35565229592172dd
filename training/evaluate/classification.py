# SPDX-License-Identifier: Apache-2.0
"""What ``pc-evaluate`` says of classifiers of single objects: accuracy, by class, and which classes are mixed up.

Data of other classes is brought to the model's by name (``labels.other_names``). Intervals are bootstrapped by
instance. The weights of a run's end and those that were best on validation are two numbers; the best epoch on the
test is none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pc_perception.inference.classifier import Classifier
from pc_perception.inference.loading import load_classifier
from pc_perception.inference.model_file import read_model_file
from pc_perception.labels import LabelSet
from pc_perception.metrics import Confusion
from training.data.object_sets import ObjectSubset, in_label_set
from training.data.object_specs import open_all_objects
from training.data.objects import ObjectDataset, labels_of
from training.export import BEST as BEST_FILE
from training.export import NAME

from .accuracy import Accuracy, measure_classifier
from .options import data_options, described, record, words
from .results import BEST, LAST, SeedRun, about, summarise, table, write_result


@dataclass(frozen=True)
class Measured:
    """One model on one test.

    Attributes:
        file: the model's.
        name: ``LAST`` or ``BEST`` of a run, empty for a file by itself.
        found: its figures.
    """

    file: Path
    name: str
    found: Accuracy

    @property
    def scores(self) -> dict[str, float]:
        """Overall and mean accuracy by what they are called."""
        of = f"{self.name}: " if self.name else ""
        return {f"{of}accuracy": self.found.accuracy, f"{of}mean accuracy": self.found.mean_recall}


def files_of(model: str) -> dict[Path, str]:
    """Return the model files of a path and what each is: a run's folder may hold two, everything else is one."""
    folder = Path(model)
    if not folder.is_dir():
        return {folder: ""}
    kept = {folder / NAME: LAST, folder / BEST_FILE: BEST}
    found = {file: name for file, name in kept.items() if file.is_file()}
    if not found:
        raise FileNotFoundError(
            f"'{folder}' holds no {NAME}; give the folder of a finished run or a model file"
        )
    return found


def run(args: argparse.Namespace) -> None:
    """Measure the models that ``pc-evaluate`` was given, and tell.

    Raises:
        FileNotFoundError, ValueError: models or data cannot be used.
    """
    if args.seeds and not args.split:
        args.split = "test"
    tests: dict[int, tuple[ObjectDataset, int]] = {}
    runs, roles, label_set = [], {}, None
    for model, seed in _pairs(args):
        measured = []
        for file, name in files_of(model).items():
            loaded = load_classifier(file, args.device)
            loaded = loaded.among(words(args.among)) if args.among else loaded
            label_set = label_set or loaded.label_set
            if loaded.label_set != label_set:
                raise ValueError(
                    f"'{model}' has other classes than the first model; evaluate them one by one"
                )
            if seed not in tests:
                tests[seed] = _open(args, label_set, seed)
                roles[f"{args.split or 'all'}, seed {seed}" if args.seeds else args.split or "all"] = about(
                    tests[seed][0]
                )
            measured.append(Measured(file, name, evaluate(loaded, *tests[seed])))
        runs.append((seed, measured))
    assert label_set is not None
    if args.record:
        _record(args, runs)
    _tell(args, label_set, runs, roles)


def _pairs(args: argparse.Namespace) -> list[tuple[str, int]]:
    """Return each model with the seed of its test; one model is tried on all of them."""
    try:
        seeds = [int(seed) for seed in words(args.seeds)]
    except ValueError:
        raise ValueError(f"--seeds must be whole numbers separated by commas, got '{args.seeds}'") from None
    if not seeds:
        return [(model, 0) for model in args.models]
    if len(args.models) == 1:
        return [(args.models[0], seed) for seed in seeds]
    if len(args.models) != len(seeds):
        raise ValueError(
            f"{len(args.models)} models and {len(seeds)} seeds: give one model, or one for each seed, in order"
        )
    return list(zip(args.models, seeds, strict=True))


def _open(args: argparse.Namespace, label_set: LabelSet, seed: int) -> tuple[ObjectDataset, int]:
    """Return the test objects in the model's classes, and how many are of no class of it."""
    data = open_all_objects(args.data, replace(data_options(args, label_set), split_seed=seed))
    kept = in_label_set(data, label_set)
    unknown = int((labels_of(data) >= 0).sum()) - len(kept)
    n = min(args.limit or len(kept), len(kept))
    return ObjectSubset(kept, [i * len(kept) // n for i in range(n)]), unknown


def evaluate(model: Classifier, data: ObjectDataset, unknown: int = 0) -> Accuracy:
    """Classify labelled objects, whose classes are the model's.

    Args:
        unknown: objects that were left out before, to be told of.

    Raises:
        ValueError: more than 1 % of them cannot be used.
    """
    classes = model.label_set.classes
    found = measure_classifier(lambda clouds: [r.label for r in model(clouds)], classes, data)
    return replace(found, unknown=found.unknown + unknown)


def _record(args: argparse.Namespace, runs: Sequence[tuple[int, list[Measured]]]) -> None:
    for seed, measured in runs:
        for one in measured:
            part = f" of seed {seed}" if args.seeds else ""
            among = f", among {args.among}" if args.among else ""
            where = f"{described(args)}{part}, {one.found.n_objects} objects{among}"
            figures = {"accuracy": one.found.accuracy, "macc": one.found.mean_recall}
            record(one.file, where, figures | {"low": one.found.low, "high": one.found.high})


def _tell(
    args: argparse.Namespace,
    label_set: LabelSet,
    found: Sequence[tuple[int, list[Measured]]],
    roles: dict[str, Any],
) -> None:
    runs = [
        SeedRun(
            seed,
            {name: score for one in measured for name, score in one.scores.items()},
            {one.name or "model": _details(one) for one in measured},
        )
        for seed, measured in found
    ]
    names = [Path(m).name for m in args.models]
    config = {"models": names, "data": described(args), "limit": args.limit, "classes": label_set.classes}
    config["among"] = words(args.among)
    if args.out:
        write_result(args.out, "classification", config, roles, runs)
    if args.json:
        print(json.dumps(config | {"summary": summarise(runs), "runs": [asdict(r) for r in runs]}))
        return
    for name in dict.fromkeys(one.name for _, measured in found for one in measured):
        own = [one.found for _, measured in found for one in measured if one.name == name]
        n_things = sum(f.n_instances for f in own)
        print(
            f"{name or 'model'}: {sum(f.n_objects for f in own)} objects, {n_things} instances, {described(args)}"
        )
        _print_classes(label_set, own)
        each = ", ".join(f"{100 * f.low:.1f} .. {100 * f.high:.1f} %" for f in own)
        print(f"accuracy, 95 % bootstrapped by instance: {each}")
        if own[0].unknown:
            print(f"{own[0].unknown} objects are of no class of the model and were left out")
        for line in own[0].bad:
            print(f"skipped: {line}")
    print(table(runs))


def _details(one: Measured) -> dict[str, Any]:
    """Return what the result file says of a model's test, and of how the model came about."""
    story = asdict(one.found)
    del story["correct"]
    made = read_model_file(one.file)[0].provenance
    kept = ("method", "data", "seed", "commit", "config", "validation_accuracy")
    return story | {
        "confusion": one.found.confusion.tolist(),
        "model": {k: made[k] for k in kept if k in made},
    }


def _print_classes(label_set: LabelSet, found: Sequence[Accuracy]) -> None:
    """Print recall, precision and what is mixed up, of all tests together."""
    counts = Confusion(len(label_set))
    counts.matrix = sum(f.confusion for f in found)  # type: ignore[assignment]
    matrix, recall = counts.matrix, counts.recall
    predicted = np.maximum(matrix[:, :-1].sum(0), 1)
    names = (*label_set.classes, "none")
    print(f"{'class':<16} {'objects':>7} {'recall':>7} {'precision':>9}  taken for")
    for c in np.flatnonzero(matrix.any(1) | matrix[:, :-1].any(0)):
        wrong = [(int(n), names[k]) for k, n in enumerate(matrix[c]) if n and k != c]
        mixed = ", ".join(f"{name} {n}" for n, name in sorted(wrong, reverse=True))
        share = f"{recall[c]:7.3f}" if matrix[c].any() else f"{'-':>7}"
        print(f"{names[c]:<16} {matrix[c].sum():>7} {share} {matrix[c, c] / predicted[c]:>9.3f}  {mixed}")
