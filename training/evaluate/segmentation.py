# SPDX-License-Identifier: Apache-2.0
"""``pc-evaluate MODEL [MODEL ...] --data SPEC``: IoU over all points, through the real inference path."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pc_perception.inference.model_file import build, load_segmenter, read_model_file, save_model
from pc_perception.inference.segmenter import Segmenter
from pc_perception.metrics import Confusion
from training.data.dataset import CloudDataset, Joined
from training.data.simulation import HELD_OUT
from training.data.specs import DataOptions, open_data
from training.metrics import COMMON_SHARE, mean_std, n_points, unlabeled_share

RULE = (
    "over all labelled points; points the model leaves unlabeled count as errors; mIoU is the mean over "
    "classes present in the ground truth"
)


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
        cloud = data[i * len(data) // n]
        if "label" not in cloud.fields:
            raise ValueError(f"{data.name(i * len(data) // n)} has no labels to compare with")
        confusion.add(np.asarray(cloud.fields["label"]), model(cloud).labels)
    if not n_points(confusion):
        raise ValueError("no point of the data has a label of the model's label set; check label_source")
    return confusion


def report(confusion: Confusion, classes: Sequence[str]) -> dict[str, Any]:
    """Return the figures of one model as plain values; NaN as None."""
    iou, share = confusion.iou, confusion.share
    return {
        "miou": confusion.mean_iou(),
        "miou_common": confusion.mean_iou(COMMON_SHARE),
        "accuracy": confusion.accuracy,
        "unlabeled": unlabeled_share(confusion),
        "iou": {c: None if math.isnan(v) else float(v) for c, v in zip(classes, iou, strict=True)},
        "share": {c: float(v) for c, v in zip(classes, share, strict=True)},
        "absent": [c for c, v in zip(classes, iou, strict=True) if math.isnan(v)],
        "points": n_points(confusion),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pc-evaluate``; problems are told in one line."""
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
    parser.add_argument(
        "models", nargs="+", help="model files or names of shipped ones; several: mean and std"
    )
    parser.add_argument(
        "--data",
        required=True,
        help="sim:street, sim:drive, sim:room, nuscenes:DIR, semantickitti:DIR, folder:DIR, bag:FILE",
    )
    parser.add_argument(
        "--label-source", default="", help="id space of the labels, such as nyu40 or pandaset43"
    )
    parser.add_argument("--version", default="", help="nuScenes tables, such as v1.0-mini")
    parser.add_argument("--split", default="", help="nuScenes split, such as val")
    parser.add_argument("--sequences", default="", help="SemanticKITTI sequences, such as 08")
    parser.add_argument("--topic", default="", help="topic of a bag")
    parser.add_argument("--n-scenes", type=int, default=25, help="simulated streets or rooms")
    parser.add_argument("--per-scene", type=int, default=4, help="clouds of each")
    parser.add_argument(
        "--seed", type=int, default=HELD_OUT, help="first simulated scene; training uses those from 0"
    )
    parser.add_argument("--cache-dir", default="", help="folder of simulated clouds")
    parser.add_argument("--limit", type=int, default=0, help="use only this many clouds")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--record", action="store_true", help="add the figures to the model files' provenance"
    )
    return parser


def _run(args: argparse.Namespace) -> None:
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    models = [load_segmenter(m, args.device) for m in args.models]
    label_set = models[0].label_set
    other = [m for m, loaded in zip(args.models, models, strict=True) if loaded.label_set != label_set]
    if other:
        raise ValueError(f"'{other[0]}' has other classes than '{args.models[0]}'; evaluate them one by one")
    options = DataOptions(
        label_set=label_set.name,
        version=args.version,
        split=args.split,
        label_source=args.label_source,
        sequences=tuple(s for s in args.sequences.split(",") if s),
        topic=args.topic,
        n_scenes=args.n_scenes,
        per_scene=args.per_scene,
        seed=args.seed,
        cache_dir=args.cache_dir,
    )
    data = Joined(open_data(args.data, options))
    reports = [
        report(evaluate(m, data, args.limit, progress=not args.json), label_set.classes) for m in models
    ]
    summary = summarise(reports, label_set.classes)
    n_clouds = min(args.limit or len(data), len(data))
    if args.record:
        for path, figures in zip(args.models, reports, strict=True):
            kind, _, where = args.data.partition(":")
            record(path, f"{kind}:{Path(where).name}, {n_clouds} clouds", figures)
    if args.json:
        names = [Path(m).name for m in args.models]
        plain = {"models": names, "data": args.data, "clouds": n_clouds, "rule": RULE}
        print(json.dumps(plain | {"each": reports, "summary": summary}))
        return
    _print(summary, reports, f"{len(models)} model(s), {n_clouds} clouds of {args.data}")


def record(model: str, data: str, figures: dict[str, Any]) -> None:
    """Add what was measured, and on what, to a model file's provenance (the tensors stay as they are).

    Raises:
        FileNotFoundError, ValueError: as ``read_model_file``.
    """
    header, tensors = read_model_file(model)
    network = build(header)
    network.load_state_dict(tensors, assign=True)
    rounded = {key: round(figures[key], 4) for key in ("miou", "miou_common", "accuracy")}
    metrics = {**header.provenance.get("metrics", {}), data: rounded}
    save_model(model, network, replace(header, provenance={**header.provenance, "metrics": metrics}))


def summarise(reports: Sequence[dict[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    """Return [mean, sample std] over models of every figure."""
    keys = ("miou", "miou_common", "accuracy", "unlabeled")
    out: dict[str, Any] = {key: list(mean_std([r[key] for r in reports])) for key in keys}
    known = [c for c in classes if c not in reports[0]["absent"]]
    out["iou"] = {c: list(mean_std([r["iou"][c] for r in reports])) for c in known}
    return out


def _print(summary: dict[str, Any], reports: Sequence[dict[str, Any]], title: str) -> None:
    first, spread = reports[0], len(reports) > 1

    def show(pair: Sequence[float]) -> str:
        return f"{pair[0]:.3f} ± {pair[1]:.3f}" if spread else f"{pair[0]:.3f}"

    print(f"{title}, {first['points']:,} labelled points")
    print(f"{'class':<16} {'IoU':<15} share of points")
    for name, pair in summary["iou"].items():
        print(f"{name:<16} {show(pair):<15} {first['share'][name]:8.2%}")
    print(f"{'mIoU':<16} {show(summary['miou'])}")
    print(
        f"{'mIoU common':<16} {show(summary['miou_common'])}   (classes with at least {COMMON_SHARE:.1%} of the points)"
    )
    print(f"{'accuracy':<16} {show(summary['accuracy'])}")
    print(f"Rule: {RULE} ({summary['unlabeled'][0]:.2%} unlabeled).")
    if first["absent"]:
        print(f"Not in the ground truth: {', '.join(first['absent'])}.")


if __name__ == "__main__":
    sys.exit(main())
