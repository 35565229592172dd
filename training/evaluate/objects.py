# SPDX-License-Identifier: Apache-2.0
"""``python -m training.evaluate.objects --data objects:DIR --seeds 0,1,2``: probes on frozen features."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pc_perception.inference.loading import load_object_encoder
from pc_perception.refusals import run_command
from training.data.object_specs import open_all_objects
from training.data.object_splits import SHARES, few_labels, split_by_instance
from training.data.objects import ObjectDataset
from training.data.specs import DataOptions
from training.export import without_places
from training.object_views import MODELNET40, ObjectView

from .features import Describe, Described, describe_all, shape_statistics
from .options import words
from .probes import CHOICES, SVM_C, Probe, ProbeResult, run_probe
from .results import SeedRun, about, table, write_result


@dataclass(frozen=True)
class ProbeSettings:
    """What is measured.

    Attributes:
        data: the spec that the result file names.
        model: whose features.
        probes: kinds; each with its published strength, where it has one, and with one chosen on validation.
        per_class: training instances of each class; 0 for all.
        standardise: see ``Probe``.
        view: how objects become points.
        seeds: each draws its own split (where the data has none) and its own training instances.
    """

    data: str
    model: str = "shape statistics"
    probes: tuple[str, ...] = ("svm", "linear", "knn")
    per_class: int = 0
    standardise: bool = False
    view: ObjectView = MODELNET40
    seeds: tuple[int, ...] = (0, 1, 2)


def probe_objects(
    describe: Describe, data: ObjectDataset, settings: ProbeSettings, test: ObjectDataset | None = None
) -> list[SeedRun]:
    """Probe features once for each seed.

    Args:
        data: all objects, or the official training part where ``test`` is given; validation objects are taken
            out of it by instance, the same for all numbers of labels.
        test: the official test part.

    Raises:
        ValueError: objects cannot be split or described.
    """
    if len({data.name(i) for i in range(len(data))}) != len(data):
        raise ValueError("two objects of the data have one name; results could not be told apart")
    features = describe_all(describe, data, settings.view)
    held_out = describe_all(describe, test, settings.view) if test is not None else None
    return probe_features(features, data, settings, held_out)


def probe_features(
    features: Described, data: ObjectDataset, settings: ProbeSettings, held_out: Described | None = None
) -> list[SeedRun]:
    """Probe features that are there, of all objects of ``data``; else as ``probe_objects``."""
    known = {name: k for k, name in enumerate(features.names)}
    bad = features.bad + (held_out.bad if held_out else ())
    runs = []
    for seed in settings.seeds:
        parts = split_by_instance(data, SHARES if held_out is None else SHARES[:2], seed)
        parts[0] = few_labels(parts[0], settings.per_class, seed)
        chosen = [_pick(features, part, known) for part in parts]
        runs.append(_run(settings, seed, chosen[0], chosen[1], held_out or chosen[2], bad))
    return runs


def _pick(features: Described, part: ObjectDataset, known: dict[str, int]) -> Described:
    """Return the features of a part's objects, less those that could not be described."""
    names = (part.name(i) for i in range(len(part)))
    return features.take([known[name] for name in names if name in known])


def _run(
    settings: ProbeSettings,
    seed: int,
    train: Described,
    validation: Described,
    test: Described,
    bad: Sequence[str],
) -> SeedRun:
    scores: dict[str, float] = {}
    details: dict[str, Any] = {"bad": bad}
    for kind in settings.probes:
        for strength in (SVM_C, 0) if kind == "svm" else (0,):
            found = run_probe(Probe(kind, strength, settings.standardise, seed), train, test, validation)
            name = f"{kind} {strength:g}" if strength else f"{kind}, chosen on validation"
            scores[name] = found.accuracy
            details[name] = _figures(found)
    return SeedRun(seed, scores, details)


def _figures(found: ProbeResult) -> dict[str, Any]:
    story = asdict(found)
    del story["test"]["correct"]
    story["test"]["confusion"] = story["test"]["confusion"].tolist()
    return story


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; problems are told in one line."""
    args = _parser().parse_args(argv)
    return run_command("training.evaluate.objects", lambda: _evaluate(args), lines=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate.objects",
        description="Probe frozen features of objects, split and bootstrapped by instance.",
    )
    parser.add_argument(
        "--data", required=True, help="objects:DIR, modelnet40:DIR, sim:objects, instances:FILE ..."
    )
    parser.add_argument("--test-split", default="", help="official split to test on, such as test")
    parser.add_argument("--model", default="", help="model file; without one, plain shape statistics")
    parser.add_argument("--seeds", default="0,1,2", help="one split and one draw of training objects each")
    parser.add_argument(
        "--per-class", type=int, default=0, help="training instances of each class, 0 for all"
    )
    parser.add_argument("--probes", default="svm,linear,knn", help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--standardise", action="store_true", help="bring features to mean 0, variance 1")
    parser.add_argument("--points", type=int, default=1024, help="points of an object")
    parser.add_argument("--metric", action="store_true", help="keep metres: no scaling to the unit sphere")
    parser.add_argument("--variant", default="", help="of ScanObjectNN: bg, only, hardest")
    parser.add_argument("--y-up", default="", help="object files in which y is up, such as modelnet40_*")
    parser.add_argument("--label-set", default="", help="classes of labelled clouds, for instances:")
    parser.add_argument("--label-source", default="", help="id space of their labels")
    parser.add_argument("--n-scenes", type=int, default=320, help="shapes of sim:objects")
    parser.add_argument("--per-scene", type=int, default=1, help="views of each")
    parser.add_argument("--cache-dir", default="", help="folder of simulated objects and of cut ones")
    parser.add_argument("--out", default="", help="result file (JSON)")
    return parser


def _evaluate(args: argparse.Namespace) -> None:
    options = DataOptions(
        label_set=args.label_set or None,
        label_source=args.label_source,
        variant=args.variant,
        y_up=words(args.y_up),
        n_scenes=args.n_scenes,
        per_scene=args.per_scene,
        cache_dir=args.cache_dir,
    )
    settings = ProbeSettings(
        data=without_places(args.data),
        model=Path(args.model).name or ProbeSettings.model,
        probes=words(args.probes),
        per_class=args.per_class,
        standardise=args.standardise,
        view=ObjectView(args.points, unit_sphere=not args.metric),
        seeds=tuple(int(s) for s in words(args.seeds)),
    )
    if args.test_split:
        data = open_all_objects(args.data, replace(options, split="train"))
        test = open_all_objects(args.data, replace(options, split=args.test_split))
        roles = {"train": about(data), "test": about(test)}
    else:
        data, test = open_all_objects(args.data, options), None
        roles = {"all": about(data)}
    describe = load_object_encoder(args.model, "cpu").describe if args.model else shape_statistics
    runs = probe_objects(describe, data, settings, test)
    for role, story in roles.items():
        print(f"{role}: " + ", ".join(f"{name} {n}" for name, n in story["classes"].items() if n))
    print(table(runs))
    if args.out:
        write_result(args.out, "probe", settings, roles, runs)


if __name__ == "__main__":
    sys.exit(main())
