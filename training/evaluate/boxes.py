# SPDX-License-Identifier: Apache-2.0
"""``python -m training.evaluate.boxes MODEL --data nuscenes:DIR``: mAP and NDS by nuscenes-devkit's own evaluator.

The devkit's command takes its own splits or a file inside the data set; here any samples are handed to its classes.
Its means are over all ten classes, those that the data lacks with an AP of 0; ``present`` leaves them out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.geometry import pose, rotation_to_quaternion, rotation_z
from pc_perception.inference.detector import DetectionResult, Detector
from pc_perception.inference.loading import load_detector
from pc_perception.refusals import run_command
from training.data.boxes import BoxCloud
from training.data.nuscenes import NuScenesClouds
from training.data.nuscenes_results import write_detections

MOVES_M_S = 0.2
"""From this speed on an object counts as moving."""


def evaluate(model: Detector, data: NuScenesClouds, path: Path, progress: bool = False) -> dict[str, Any]:
    """Find the boxes of all samples, write them in the challenge's form, and compare them with the annotations.

    Args:
        data: opened with ``boxes``.
        path: of the result file.

    Returns:
        mAP, NDS, the means of the errors, and ``present``: AP of each class that the samples show.
    """
    from tqdm import tqdm

    results = {}
    for k in tqdm(range(len(data)), desc="evaluating", unit="cloud", disable=not progress):
        cloud = data[k]
        assert isinstance(cloud, BoxCloud)
        results[cloud.sample] = challenge_boxes(model(cloud), cloud)
    write_detections(path, results)
    return score(data.tables, path)


def challenge_boxes(found: DetectionResult, cloud: BoxCloud) -> list[dict[str, Any]]:
    """Return the boxes in the world, as rows of the challenge's result file."""
    R, rows = cloud.T_world_cloud[:3, :3], []
    for box, label, confidence in zip(found.boxes.astype(float), found.labels, found.scores, strict=True):
        name = found.label_set.classes[label]
        T = cloud.T_world_cloud @ pose(box[:3], rotation_z(box[6]))
        velocity = (R @ [box[7], box[8], 0])[:2]
        x, y, z, w = rotation_to_quaternion(T[:3, :3]).tolist()
        rows.append(
            {
                "sample_token": cloud.sample,
                "translation": T[:3, 3].tolist(),
                "size": [box[4], box[3], box[5]],
                "rotation": [w, x, y, z],
                "velocity": velocity.tolist(),
                "detection_name": name,
                "detection_score": float(confidence),
                "attribute_name": attribute(name, velocity),
            }
        )
    return rows


def attribute(name: str, velocity: NDArray) -> str:
    """Return the attribute that goes with a class and a speed, as far as one can tell from these."""
    moving = bool(np.linalg.norm(velocity) > MOVES_M_S)
    if name in ("traffic_cone", "barrier"):
        return ""
    if name == "pedestrian":
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if name in ("bicycle", "motorcycle"):
        return "cycle.with_rider" if moving else "cycle.without_rider"
    return "vehicle.moving" if moving else "vehicle.parked"


def score(tables: Any, path: Path) -> dict[str, Any]:
    """Compare a result file with the annotations of its samples, as ``DetectionEval`` does those of a split."""
    from nuscenes.eval.common.loaders import (
        add_center_dist,
        filter_eval_boxes,
        load_gt_of_sample_tokens,
        load_prediction_of_sample_tokens,
    )
    from nuscenes.eval.detection.config import config_factory
    from nuscenes.eval.detection.data_classes import DetectionBox
    from nuscenes.eval.detection.evaluate import DetectionEval

    tokens = list(json.loads(path.read_text(encoding="utf-8"))["results"])
    judge: Any = DetectionEval.__new__(DetectionEval)  # its __init__ knows only named splits
    judge.cfg, judge.verbose = config_factory("detection_cvpr_2019"), False
    most = judge.cfg.max_boxes_per_sample
    found = load_prediction_of_sample_tokens(str(path), most, DetectionBox, sample_tokens=tokens)[0]
    truth = load_gt_of_sample_tokens(tables, tokens, DetectionBox)
    judge.pred_boxes, judge.gt_boxes = (
        filter_eval_boxes(tables, add_center_dist(tables, boxes), judge.cfg.class_range)
        for boxes in (found, truth)
    )
    metrics = judge.evaluate()[0].serialize()
    present = sorted({box.detection_name for box in judge.gt_boxes.all})
    return {
        "mAP": metrics["mean_ap"],
        "NDS": metrics["nd_score"],
        "errors": metrics["tp_errors"],
        "present": {name: metrics["mean_dist_aps"][name] for name in present},
        "samples": len(tokens),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a model, print figures, write the result file; problems are told in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate.boxes",
        description="mAP and NDS by nuscenes-devkit's own evaluator.",
    )
    add = parser.add_argument
    add("model", help="model file of boxes: pc-train boxes")
    add("--data", required=True, help="nuscenes:DIR")
    add("--version", default="", help="nuScenes tables, such as v1.0-mini")
    add("--split", default="", help="such as val")
    add("--results", default="results_nusc.json", help="result file of the official form")
    add("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    return run_command("training.evaluate.boxes", lambda: _measure(args), lines=True)


def _measure(args: argparse.Namespace) -> None:
    model = load_detector(args.model)
    kind, _, root = args.data.partition(":")
    if kind != "nuscenes":
        raise ValueError(f"boxes are measured on nuscenes:DIR, not on '{args.data}'")
    data = NuScenesClouds(root, model.label_set, args.version, split=args.split, boxes=True)
    found = evaluate(model, data, Path(args.results), progress=not args.json)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['samples']} samples: mAP {found['mAP']:.4f}, NDS {found['NDS']:.4f}")
    print("errors: " + ", ".join(f"{name} {value:.3f}" for name, value in found["errors"].items()))
    print("AP: " + ", ".join(f"{name} {value:.3f}" for name, value in found["present"].items()))


if __name__ == "__main__":
    sys.exit(main())
