# SPDX-License-Identifier: Apache-2.0
"""``pc-evaluate MODEL [MODEL ...] --data SPEC``: IoU over all points, through the real inference path.

Whole scenes are labelled and every raw point is counted, as in the full-scene protocols of ScanNet and S3DIS;
figures on sampled points of 1 m blocks (the other habit on S3DIS) are not comparable.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pc_perception.inference.model_file import build, load_segmenter, read_model_file, save_model
from pc_perception.inference.segmenter import Segmenter
from pc_perception.inference.windows import WindowedSegmenter, Windows
from pc_perception.labels import LabelSet
from pc_perception.metrics import Confusion
from training.data.dataset import CloudDataset, Joined, warn_once
from training.data.simulation import HELD_OUT
from training.data.specs import KINDS, DataOptions, open_data
from training.metrics import mean_std, n_points, pooled

from .report import FIGURES, RULE, print_table, report, summarise
from .six_fold import check_models, open_folds


def evaluate(model: Segmenter, data: CloudDataset, limit: int = 0, progress: bool = False) -> Confusion:
    """Label the data set's clouds one by one and count.

    Args:
        limit: use only this many clouds, spread evenly over the data; 0 for all.

    Raises:
        ValueError: a cloud cannot be used, or none has labels.
    """
    from tqdm import tqdm

    n = len(data) if not limit else min(limit, len(data))
    confusion = Confusion(len(model.label_set))
    for i in tqdm(range(n), desc="evaluating", unit="cloud", disable=not progress):
        cloud, name = data[i * len(data) // n], data.name(i * len(data) // n)
        if "label" not in cloud.fields:
            raise ValueError(f"{name} has no labels to compare with")
        truth = np.asarray(cloud.fields["label"])
        if not (truth < len(model.label_set)).any():
            warn_once(f"{name}: no point has a label of the model's label set; it counts for nothing")
            continue
        confusion.add(truth, model(cloud).labels)
    if not n_points(confusion):
        raise ValueError("no point of the data has a label of the model's label set; check label_source")
    return confusion


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pc-evaluate``; problems are told in one line, missing files in one each."""
    args = _parser().parse_args(argv)
    try:
        _run(args)
    except (ValueError, OSError) as error:
        print(f"pc-evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pc-evaluate", description=f"Measure models of segmentation, {RULE}."
    )
    add = parser.add_argument
    add("models", nargs="+", help="model files or names of shipped ones; several: mean and std")
    add("--data", required=True, help="; ".join(KINDS.values()))
    add("--label-source", default="", help="id space of the labels (nyu40, pandaset43 ...) or .yaml map")
    add("--label-field", default="", help="field of a folder's clouds that holds the labels")
    add("--version", default="", help="nuScenes tables, such as v1.0-mini")
    add("--split", default="", help="nuScenes or ScanNet split, such as val, or file with a list of scenes")
    add("--sequences", default="", help="SemanticKITTI sequences, such as 08")
    add("--areas", default="", help="S3DIS areas, such as 5")
    add("--six-fold", action="store_true", help="six models, one for each area of S3DIS; counts are pooled")
    add("--topic", default="", help="topic of a bag")
    add("--n-scenes", type=int, default=25, help="simulated streets or rooms")
    add("--per-scene", type=int, default=4, help="clouds of each")
    add("--seed", type=int, default=HELD_OUT, help="first simulated scene; training uses those from 0")
    add("--cache-dir", default="", help="folder for simulated clouds, clouds of bags and parsed rooms")
    add("--limit", type=int, default=0, help="use only this many clouds (of each area)")
    add("--window", type=float, default=0.0, help="cut scenes into squares of this many metres; 0: whole")
    add("--overlap", type=float, default=2.0, help="metres that windows share")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    add("--threads", type=int, default=0, help="threads of torch")
    add("--json", action="store_true", help="print one JSON object")
    add("--record", action="store_true", help="add the figures to the model files' provenance")
    return parser


def _run(args: argparse.Namespace) -> None:
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.six_fold:
        check_models(args.models, [read_model_file(m)[0].provenance for m in args.models])
    models = _load(args)
    classes = models[0].label_set.classes
    tests = _open(args, models)
    pairs = list(zip(models, tests, strict=True))
    found = [evaluate(model, test, args.limit, progress=not args.json) for model, test in pairs]
    each = [report(confusion, classes) for confusion in found]
    n_clouds = [min(args.limit or len(test), len(test)) for test in tests]
    if args.record:
        for k, (path, figures) in enumerate(zip(args.models, each, strict=True)):
            record(path, _described(args, k, n_clouds[k]), figures)
    if args.six_fold:
        _tell(args, each, [report(pooled(found), classes)], sum(n_clouds))
    else:
        _tell(args, each, each, n_clouds[0])


def _open(args: argparse.Namespace, models: Sequence[Segmenter]) -> Sequence[CloudDataset]:
    """Return the test data of each model."""
    options = _options(args, models[0].label_set)
    if args.six_fold:
        return open_folds(args.data, options)
    return [Joined(open_data(args.data, options))] * len(models)


def _tell(args: argparse.Namespace, each: list[dict], whole: list[dict], n_clouds: int) -> None:
    """Print ``whole``, what is to be summed up over models: of six folds the pooled figures alone."""
    summary = summarise(whole, list(whole[0]["iou"]))
    if args.six_fold:
        summary["mean_of_areas"] = mean_std([figures["miou"] for figures in each])[0]
    if args.json:
        names = [Path(m).name for m in args.models]
        plain = {"models": names, "data": args.data, "clouds": n_clouds, "rule": RULE}
        plain |= {"six_fold": args.six_fold, "window_m": args.window}
        print(json.dumps(plain | {"each": each, "summary": summary}))
        return
    print_table(summary, whole, f"{len(args.models)} model(s), {n_clouds} clouds of {args.data}")
    if args.six_fold:
        areas = ", ".join(f"{figures['miou']:.3f}" for figures in each)
        print(
            f"mIoU of areas 1 to 6: {areas}; their mean, {summary['mean_of_areas']:.3f}, is not the protocol's."
        )


def _load(args: argparse.Namespace) -> list[Segmenter]:
    models = [load_segmenter(m, args.device) for m in args.models]
    other = [
        m for m, loaded in zip(args.models, models, strict=True) if loaded.label_set != models[0].label_set
    ]
    if other:
        raise ValueError(f"'{other[0]}' has other classes than '{args.models[0]}'; evaluate them one by one")
    if not args.window:
        return models
    windows = Windows(args.window, args.overlap)
    return [WindowedSegmenter(model, windows) for model in models]


def _options(args: argparse.Namespace, label_set: LabelSet) -> DataOptions:
    return DataOptions(
        label_set=label_set,
        version=args.version,
        split=args.split,
        label_source=args.label_source,
        label_field=args.label_field,
        sequences=tuple(s for s in args.sequences.split(",") if s),
        areas=tuple(a for a in args.areas.split(",") if a),
        topic=args.topic,
        n_scenes=args.n_scenes,
        per_scene=args.per_scene,
        seed=args.seed,
        cache_dir=args.cache_dir,
    )


def _described(args: argparse.Namespace, number: int, n_clouds: int) -> str:
    """Say on what model ``number`` was measured, without a machine's folders."""
    kind, _, where = args.data.partition(":")
    area = f" area {number + 1}" if args.six_fold else f" areas {args.areas}" if args.areas else ""
    split = f" {Path(args.split).name}" if args.split else ""
    window = f", windows of {args.window:g} m" if args.window else ""
    return f"{kind}:{Path(where).name}{split}{area}, {n_clouds} clouds{window}"


def record(model: str, data: str, figures: dict[str, Any]) -> None:
    """Add what was measured, and on what, to a model file's provenance (the tensors stay as they are).

    Raises:
        FileNotFoundError, ValueError: as ``read_model_file``.
    """
    header, tensors = read_model_file(model)
    network = build(header)
    network.load_state_dict(tensors, assign=True)
    rounded = {key: round(figures[key], 4) for key in FIGURES}
    metrics = {**header.provenance.get("metrics", {}), data: rounded}
    save_model(model, network, replace(header, provenance={**header.provenance, "metrics": metrics}))


if __name__ == "__main__":
    sys.exit(main())
