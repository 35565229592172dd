# SPDX-License-Identifier: Apache-2.0
"""What ``pc-evaluate`` says of models of segmentation: IoU over all points, through the real inference path.

Whole scenes are labelled and every raw point is counted, as in the full-scene protocols of ScanNet and S3DIS;
figures on sampled points of 1 m blocks (the other habit on S3DIS) are not comparable.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.segmenter import Segmenter
from pc_perception.inference.windows import WindowedSegmenter, Windows
from pc_perception.metrics import Confusion
from training.data.dataset import CloudDataset, Joined, warn_of_few_labels, warn_once
from training.data.specs import open_data
from training.metrics import mean_std, n_points, pooled

from .options import data_options, described, record
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
    confusion, n_all = Confusion(len(model.label_set)), 0
    for i in tqdm(range(n), desc="evaluating", unit="cloud", disable=not progress):
        cloud, name = data[i * len(data) // n], data.name(i * len(data) // n)
        if "label" not in cloud.fields:
            raise ValueError(f"{name} has no labels to compare with")
        truth = np.asarray(cloud.fields["label"])
        n_all += len(truth)
        if not (truth < len(model.label_set)).any():
            warn_once(f"{name}: no point has a label of the model's label set; it counts for nothing")
            continue
        confusion.add(truth, model(cloud).labels)
    if not n_points(confusion):
        raise ValueError("no point of the data has a label of the model's label set; check label_source")
    warn_of_few_labels(n_points(confusion), n_all, "points")
    return confusion


def run(args: argparse.Namespace) -> None:
    """Measure the models that ``pc-evaluate`` was given, and tell.

    Raises:
        FileNotFoundError, ValueError: models or data cannot be used.
    """
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
            record(path, _described(args, k, n_clouds[k]), {key: figures[key] for key in FIGURES})
    if args.six_fold:
        _tell(args, each, [report(pooled(found), classes)], sum(n_clouds))
    else:
        _tell(args, each, each, n_clouds[0])


def _open(args: argparse.Namespace, models: Sequence[Segmenter]) -> Sequence[CloudDataset]:
    """Return the test data of each model."""
    options = data_options(args, models[0].label_set)
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
    windows = Windows.asked(args.window, args.overlap)
    models = [load_segmenter(m, args.device) for m in args.models]
    other = [
        m for m, loaded in zip(args.models, models, strict=True) if loaded.label_set != models[0].label_set
    ]
    if other:
        raise ValueError(f"'{other[0]}' has other classes than '{args.models[0]}'; evaluate them one by one")
    return [WindowedSegmenter(model, windows) for model in models] if windows else models


def _described(args: argparse.Namespace, number: int, n_clouds: int) -> str:
    """Say on what model ``number`` was measured, without a machine's folders."""
    area = f" area {number + 1}" if args.six_fold else f" areas {args.areas}" if args.areas else ""
    window = f", windows of {args.window:g} m" if args.window else ""
    return f"{described(args)}{area}, {n_clouds} clouds{window}"
