# SPDX-License-Identifier: Apache-2.0
"""Figures of segmentation as plain values and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pc_perception.metrics import Confusion
from training.metrics import COMMON_SHARE, mean_std, n_points, unlabeled_share

RULE = (
    "over all labelled points; points the model leaves unlabeled count as errors; mIoU and mAcc are means over "
    "classes present in the ground truth, absent ones are left out (not counted as 0 or as 1)"
)
FIGURES = ("miou", "miou_common", "macc", "accuracy")
"""Keys of the figures that sum up a model; ``accuracy`` is what papers call OA."""


def report(confusion: Confusion, classes: Sequence[str]) -> dict[str, Any]:
    """Return the figures of one model as plain values; NaN as None."""
    iou, share = confusion.iou, confusion.share
    return {
        "miou": confusion.mean_iou(),
        "miou_common": confusion.mean_iou(COMMON_SHARE),
        "macc": confusion.mean_recall(),
        "accuracy": confusion.accuracy,
        "unlabeled": unlabeled_share(confusion),
        "iou": _by_class(classes, iou),
        "recall": _by_class(classes, confusion.recall),
        "share": {c: float(v) for c, v in zip(classes, share, strict=True)},
        "absent": [c for c, v in zip(classes, iou, strict=True) if math.isnan(v)],
        "points": n_points(confusion),
    }


def _by_class(classes: Sequence[str], values: Any) -> dict[str, float | None]:
    return {c: None if math.isnan(v) else float(v) for c, v in zip(classes, values, strict=True)}


def summarise(reports: Sequence[dict[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    """Return [mean, sample std] over models of every figure."""
    out: dict[str, Any] = {key: list(mean_std([r[key] for r in reports])) for key in (*FIGURES, "unlabeled")}
    known = [c for c in classes if c not in reports[0]["absent"]]
    for key in ("iou", "recall"):
        out[key] = {c: list(mean_std([r[key][c] for r in reports])) for c in known}
    return out


def print_table(summary: dict[str, Any], reports: Sequence[dict[str, Any]], title: str) -> None:
    """Print the figures of one model, or mean and spread of several."""
    first, spread = reports[0], len(reports) > 1

    def show(pair: Sequence[float]) -> str:
        return f"{pair[0]:.3f} ± {pair[1]:.3f}" if spread else f"{pair[0]:.3f}"

    print(f"{title}, {first['points']:,} labelled points")
    print(f"{'class':<16} {'IoU':<15} {'recall':<15} share of points")
    for name, pair in summary["iou"].items():
        print(f"{name:<16} {show(pair):<15} {show(summary['recall'][name]):<15} {first['share'][name]:8.2%}")
    print(f"{'mIoU':<16} {show(summary['miou'])}")
    common = f"(classes with at least {COMMON_SHARE:.1%} of the points)"
    print(f"{'mIoU common':<16} {show(summary['miou_common'])}   {common}")
    print(f"{'mAcc':<16} {show(summary['macc'])}   (mean recall)")
    print(f"{'OA':<16} {show(summary['accuracy'])}   (share of points with the right label)")
    print(f"Rule: {RULE} ({summary['unlabeled'][0]:.2%} unlabeled).")
    if first["absent"]:
        print(f"Not in the ground truth: {', '.join(first['absent'])}.")
