# SPDX-License-Identifier: Apache-2.0
"""What ``pc-evaluate`` says of models that label the points of objects or of S3DIS's blocks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pc_perception.inference.loading import choose_device
from pc_perception.inference.model_file import ModelHeader, build, read_model_file
from pc_perception.models.object_parts import ObjectPartSegmenter
from training.data.s3dis_blocks import S3DISBlocks
from training.data.specs import open_one
from training.metrics import mean_std
from training.object_views import SHAPENETPART

from .blocks import RULE, evaluate_blocks
from .options import data_options, described, record
from .parts import evaluate_parts
from .report import report


def load_part_segmenter(
    model: str | Path, device: str = "auto"
) -> tuple[Callable[[Tensor, Tensor], Tensor], ModelHeader]:
    """Return a function from (B, N, 3) points and (B,) categories to (B, N, C) scores, and the model file's header.

    Raises:
        FileNotFoundError, ValueError: as ``read_model_file``, or the model is for another task.
    """
    chosen = choose_device(device)
    header, tensors = read_model_file(model)
    network = build(header)
    if not isinstance(network, ObjectPartSegmenter) or header.labels is None:
        raise ValueError(f"'{model}' holds a model for '{header.task}', this needs 'parts'")
    network.load_state_dict(tensors, assign=True)
    network = network.to(chosen).eval().requires_grad_(False)
    return lambda points, category: network(points.to(chosen), category.to(chosen)).cpu(), header


def run(args: argparse.Namespace) -> None:
    """Measure the models that ``pc-evaluate`` was given, and tell.

    Raises:
        FileNotFoundError, ValueError: models or data cannot be used.
    """
    each = []
    for model in args.models:
        segment, header = load_part_segmenter(model, args.device)
        data: Any = open_one(args.data, data_options(args, header.labels))
        each.append(_measure(segment, header, data))
        if args.record:
            record(model, described(args), {k: v for k, v in each[-1].items() if k.endswith("miou")})
    if args.json:
        print(
            json.dumps({"models": [Path(m).name for m in args.models], "data": described(args), "each": each})
        )
        return
    for key in (k for k in each[0] if k.endswith("miou") or k == "accuracy"):
        mean, std = mean_std([figures[key] for figures in each])
        print(f"{key:<14} {mean:.3f}" + (f" ± {std:.3f}" if len(each) > 1 else ""))
    for name, value in each[0]["by"].items():
        print(f"{name:<14} {value:.3f}")
    print(f"Rule: {each[0]['rule']}; {each[0]['shapes']} of them, {len(each[0]['bad'])} left out.")


def _measure(segment: Callable[[Tensor, Tensor], Tensor], header: ModelHeader, data: Any) -> dict[str, Any]:
    """Return the figures of one model on shapes with parts, as many points of each as it knows, or on blocks."""
    if isinstance(data, S3DISBlocks):
        none = torch.zeros(0, dtype=torch.int64)
        confusion, bad = evaluate_blocks(lambda points: segment(points, none), data)
        figures = report(confusion, header.labels.classes)
        by = {name: value for name, value in figures["iou"].items() if value is not None}
        kept = {"miou": figures["miou"], "accuracy": figures["accuracy"]}
        return kept | {"by": by, "rule": RULE, "shapes": len(data) - len(bad), "bad": bad}
    if not hasattr(data, "part_ids"):
        raise ValueError(
            "these objects have no labelled parts; give shapenetpart:DIR, sim:parts or s3dis-blocks:DIR"
        )
    view = replace(SHAPENETPART, n_points=header.contract.n_points)
    _, found = evaluate_parts(segment, data, view)
    kept = {key: found[key] for key in ("instance_miou", "class_miou", "shapes", "bad")}
    rule = f"IoU over {view.n_points:,} sampled points of a shape, restricted to its category's parts, {found['views']}"
    return kept | {"by": found["by_category"], "rule": rule}
