# SPDX-License-Identifier: Apache-2.0
"""Part segmentation as on ShapeNetPart: instance mIoU and class mIoU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.objects import ObjectDataset, check_share
from training.object_views import SHAPENETPART, ObjectView, scaled_and_shifted

from .voting import label

Segment = Callable[[Tensor, Tensor], Tensor]
"""(B, N, 3) float32 points and (B,) int64 categories to (B, N, P) scores."""


class PartDataset(ObjectDataset, Protocol):
    """Objects whose field ``label`` holds part ids.

    Attributes:
        part_ids: of each class, 0 .. P-1; they run on from class to class.
    """

    part_ids: tuple[tuple[int, ...], ...]


def shape_iou(truth: NDArray, predicted: NDArray, parts: Sequence[int]) -> float:
    """Return the mean IoU of one shape over its category's parts; a part absent in both counts as 1.

    Args:
        truth, predicted: (N,) part ids.
        parts: ids of the category.
    """
    ious = []
    for part in parts:
        true, found = truth == part, predicted == part
        union = (true | found).sum()
        ious.append((true & found).sum() / union if union else 1.0)
    return float(np.mean(ious))


class PartScores:
    """Shape IoUs by category.

    Args:
        categories: C names.
        part_ids: of each category.

    Attributes:
        shapes: for each category the IoUs of its shapes.
    """

    def __init__(self, categories: Sequence[str], part_ids: Sequence[Sequence[int]]) -> None:
        self.categories, self.part_ids = categories, part_ids
        self.shapes: list[list[float]] = [[] for _ in categories]

    def add(self, category: int, truth: NDArray, scores: NDArray) -> None:
        """Count one shape; the prediction is the best of its own category's parts.

        Args:
            category: 0 .. C-1.
            truth: (N,) part ids.
            scores: (N, P), larger is likelier.

        Raises:
            ValueError: shapes differ, or a true part is not the category's.
        """
        n_parts = self.part_ids[-1][-1] + 1
        if scores.shape != (len(truth), n_parts):
            raise ValueError(f"scores must be ({len(truth)}, {n_parts}), they are {scores.shape}")
        parts = np.array(self.part_ids[category])
        if not np.isin(truth, parts).all():
            raise ValueError(
                f"parts {sorted(set(truth.tolist()))} are not all of {self.categories[category]}"
            )
        self.shapes[category].append(shape_iou(truth, parts[scores[:, parts].argmax(1)], parts.tolist()))

    @property
    def instance_miou(self) -> float:
        """Mean over all shapes."""
        return float(np.mean([iou for shapes in self.shapes for iou in shapes]))

    @property
    def class_miou(self) -> float:
        """Mean over categories of the mean of their shapes; categories without a shape are left out."""
        return float(np.mean([np.mean(shapes) for shapes in self.shapes if shapes]))

    @property
    def by_category(self) -> dict[str, float]:
        """Mean of the shapes of each category that has any."""
        return {n: float(np.mean(s)) for n, s in zip(self.categories, self.shapes, strict=True) if s}


def evaluate_parts(
    segment: Segment, data: PartDataset, view: ObjectView = SHAPENETPART, votes: int = 0, seed: int = 0
) -> tuple[PartScores, dict[str, object]]:
    """Segment each shape's sampled points (2,048, as published) and score them.

    Args:
        votes: 0 scores one view; otherwise scores of the same points under that many random scales and
            shifts are averaged, and the report says so.

    Returns:
        The scores, and a report: both mIoUs, how views were taken, shapes that were skipped.

    Raises:
        ValueError: more than 1 % of the shapes cannot be used.
    """
    scores, bad = PartScores(data.classes, data.part_ids), []
    for i in range(len(data)):
        try:
            cloud = data[i]
            points, rows = view.with_rows(cloud)
        except (ValueError, OSError) as error:
            bad.append(f"{data.name(i)}: {error}")
            continue
        found = _vote(segment, points, data.label(i), votes, np.random.default_rng([seed, 15, i]))
        scores.add(data.label(i), np.asarray(cloud.fields["label"])[rows].astype(np.int64), found)
    check_share(bad, len(data))
    report = {
        "instance_miou": scores.instance_miou,
        "class_miou": scores.class_miou,
        "by_category": scores.by_category,
        "views": label(votes),
        "shapes": len(data) - len(bad),
        "bad": bad,
    }
    return scores, report


def _vote(segment: Segment, points: NDArray, category: int, votes: int, rng: np.random.Generator) -> NDArray:
    views = [scaled_and_shifted(points, rng) for _ in range(votes)] or [points]
    with torch.inference_mode():
        found = segment(torch.from_numpy(np.stack(views)), torch.full((len(views),), category))
    return found.float().mean(0).cpu().numpy()
