# SPDX-License-Identifier: Apache-2.0
"""``python -m training.evaluate.panoptic MODEL --data SPEC``: PQ, SQ and RQ by nuscenes-devkit's own class.

The devkit's command looks scenes up in fixed lists; its ``PanopticEval`` takes any. As there, objects of fewer than
``MIN_POINTS`` points neither miss nor are missed. Means are over the classes that the ground truth shows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.inference.instances import find_instances, things_of
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.segmenter import Segmenter
from pc_perception.refusals import run_command
from training.data.dataset import CloudDataset, Joined
from training.data.nuscenes import NuScenesClouds
from training.data.nuscenes_results import LabelResults, official_ids
from training.data.specs import KINDS, DataOptions, open_data

MIN_POINTS = 15


def evaluate(
    model: Segmenter,
    data: CloudDataset,
    limit: int = 0,
    results: LabelResults | None = None,
    cluster: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Label the data set's clouds one by one and compare objects.

    Args:
        limit: use only this many clouds, spread evenly over the data; 0 for all.
        results: writes what was found, where the data is of nuScenes' format.
        cluster: tell objects apart by the distances between their points (``inference/instances.py``), which any
            segmenter's labels allow, instead of by the model's offsets.

    Returns:
        ``all`` and each class of the ground truth: PQ, SQ, RQ, IoU, shares.

    Raises:
        ValueError: the model tells no objects apart, or a cloud has no instance ids.
    """
    from nuscenes.eval.panoptic.panoptic_seg_evaluator import PanopticEval
    from tqdm import tqdm

    counter = PanopticEval(len(model.label_set) + 1, ignore=[0], min_points=MIN_POINTS)
    things = things_of(model.label_set.classes)
    shown: set[int] = set()
    n = len(data) if not limit else min(limit, len(data))
    for k in tqdm(range(n), desc="evaluating", unit="cloud", disable=not progress):
        index = k * len(data) // n
        cloud, name = data[index], data.name(index)
        if "label" not in cloud.fields or "instance" not in cloud.fields:
            raise ValueError(f"{name} has no labels with instance ids to compare with")
        found = model(cloud)
        if cluster:
            objects = find_instances(cloud.xyz, found.labels, things).index + 1
            found = replace(found, instance=objects.astype(np.uint32))
        if found.instance is None:
            raise ValueError(
                "the model tells no objects apart; use --cluster, or train one: pc-train panoptic"
            )
        truth = official_ids(np.asarray(cloud.fields["label"]))
        counter.addBatch(
            official_ids(found.labels).astype(np.int64),
            numbered(found.labels, found.instance),
            truth.astype(np.int64),
            numbered(np.asarray(cloud.fields["label"]), np.asarray(cloud.fields["instance"])),
        )
        shown |= set(np.unique(truth).tolist()) - {0}
        if results is not None:
            results.add(_token(data, index), found.labels, found.instance)
    return _figures(counter, sorted(shown), model.label_set.classes)


def numbered(labels: NDArray[np.uint16], instance: NDArray) -> NDArray[np.int64]:
    """Return (N,) ids that are unique over classes, as in the devkit; without its limit of 999 objects."""
    return np.unique(instance, return_inverse=True)[1] + official_ids(labels).astype(np.int64) * 1_000_000


def _figures(counter: Any, shown: Sequence[int], classes: Sequence[str]) -> dict[str, Any]:
    _, _, _, *each = counter.getPQ()
    each.append(counter.getSemIoU()[1])
    names = ("PQ", "SQ", "RQ", "IoU")
    out = {"all": {n: float(np.mean(v[shown])) for n, v in zip(names, each, strict=True)}}
    for c in shown:
        out[classes[c - 1]] = {n: float(v[c]) for n, v in zip(names, each, strict=True)}
    return out


def _token(data: CloudDataset, index: int) -> str:
    if isinstance(data, Joined):
        data, index = data.find(index)
    if not isinstance(data, NuScenesClouds):
        raise ValueError("results are written for nuScenes-format data alone; leave --results out")
    return data.frames[index][1]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a model, print a table or JSON, write results; problems are told in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate.panoptic",
        description="Panoptic quality (PQ, SQ, RQ) by nuscenes-devkit's own class.",
    )
    add = parser.add_argument
    add("model", help="model file with offsets (pc-train panoptic); with --cluster any segmenter's")
    add("--data", required=True, help="; ".join(KINDS[k] for k in ("nuscenes", "semantickitti")))
    add("--version", default="", help="nuScenes tables, such as v1.0-mini")
    add("--split", default="", help="such as val")
    add("--limit", type=int, default=0, help="use only this many clouds")
    add("--results", default="", help="folder for files of the official form (label_set=nuscenes16)")
    add("--cluster", action="store_true", help="objects by distances between points, for any segmenter")
    add("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    return run_command("training.evaluate.panoptic", lambda: _measure(args), lines=True)


def _measure(args: argparse.Namespace) -> None:
    model = load_segmenter(args.model)
    options = DataOptions(model.label_set, version=args.version, split=args.split, instances=True)
    if args.results and model.label_set.name != "nuscenes16":
        raise ValueError(
            f"results of the official form need the classes nuscenes16, not {model.label_set.name}"
        )
    results = LabelResults(args.results, args.split or "all", "panoptic") if args.results else None
    data = Joined(open_data(args.data, options))
    found = evaluate(model, data, args.limit, results, args.cluster, progress=not args.json)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{'class':<22}" + "".join(f"{name:>8}" for name in found["all"]))
    for name, figures in found.items():
        print(f"{name:<22}" + "".join(f"{100 * v:8.1f}" for v in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
