# SPDX-License-Identifier: Apache-2.0
"""Features of a data set's objects from a frozen encoder.

Anything that is called with (B, N, 3) points and returns (B, F) features can be probed: an encoder's
``describe``, or ``shape_statistics`` as the baseline that an encoder has to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from training.data.objects import ObjectDataset, check_share
from training.object_views import MODELNET40

Describe = Callable[[Tensor], Tensor]
"""(B, N, 3) float32 points to (B, F) features; the callable moves them to its own device."""
View = Callable[[PointCloud], NDArray[np.float32]]
"""An object to (n, 3) points: an ``ObjectView``, or what a model's own contract does."""


@dataclass(frozen=True)
class Described:
    """Features of a data set's objects.

    Attributes:
        features: (M, F) float32; labels: (M,) int64.
        names, instances: of the M objects; classes: as the data set has them.
        bad: objects that were skipped, with the reason.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    instances: tuple[str, ...]
    classes: tuple[str, ...]
    bad: tuple[str, ...] = ()

    def take(self, rows: Sequence[int]) -> Described:
        """Return some of the objects."""
        names, things = ([values[i] for i in rows] for values in (self.names, self.instances))
        return replace(
            self,
            features=self.features[list(rows)],
            labels=self.labels[list(rows)],
            names=tuple(names),
            instances=tuple(things),
        )


def describe_all(
    describe: Describe, data: ObjectDataset, view: View = MODELNET40, batch_size: int = 64
) -> Described:
    """Describe the labelled objects of a data set, each in its test view, in batches of objects of one size.

    Objects that cannot be used (unreadable, NaN, a single point) are named, counted and skipped.

    Raises:
        ValueError: they are more than 1 %, no object has a label, or the features are not finite (B, F).
    """
    rows = [i for i in range(len(data)) if data.label(i) >= 0]
    if not rows:
        raise ValueError("no object of the data has a class")
    waiting: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
    found: dict[int, NDArray[np.float32]] = {}
    bad: list[str] = []
    for i in rows:
        try:
            points = view(data[i])
        except (ValueError, OSError) as error:
            bad.append(f"{data.name(i)}: {error}")
            continue
        waiting.setdefault(len(points), []).append((i, points))
        if len(waiting[len(points)]) == batch_size:
            found |= _features(describe, waiting.pop(len(points)))
    check_share(bad, len(rows))
    for batch in waiting.values():
        found |= _features(describe, batch)
    kept = sorted(found)
    return Described(
        features=np.stack([found[i] for i in kept]),
        labels=np.array([data.label(i) for i in kept], np.int64),
        names=tuple(data.name(i) for i in kept),
        instances=tuple(data.instance(i) for i in kept),
        classes=data.classes,
        bad=tuple(bad),
    )


def _features(
    describe: Describe, batch: Sequence[tuple[int, NDArray[np.float32]]]
) -> dict[int, NDArray[np.float32]]:
    """Return the features of objects of one size by their numbers."""
    with torch.inference_mode():
        out = describe(torch.from_numpy(np.stack([points for _, points in batch])))
    values = out.float().cpu().numpy()
    if values.ndim != 2 or len(values) != len(batch):
        raise ValueError(f"the encoder must return ({len(batch)}, F) features, it returned {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("the encoder returned features that are NaN or infinite")
    return {i: row for (i, _), row in zip(batch, values, strict=True)}


def on_published_axes(describe: Describe) -> Describe:
    """Turn objects to y up before they are described: for weights trained on ShapeNet or ModelNet as published."""
    return lambda points: describe(torch.stack([points[..., 0], points[..., 2], -points[..., 1]], -1))


def shape_statistics(points: Tensor) -> Tensor:
    """Describe objects by 24 plain numbers, the baseline of all probes.

    Extents, root eigenvalues of the covariance, their ratios, and the distribution of radius and height.

    Args:
        points: (B, N, 3) float32, in the unit sphere.

    Returns:
        (B, 24) float32.
    """
    low, high = points.amin(1), points.amax(1)
    centered = points - points.mean(1, keepdim=True)
    spread = torch.linalg.eigvalsh(centered.transpose(1, 2) @ centered / points.shape[1]).clamp_min(0).sqrt()
    ratios = torch.stack(
        [spread[:, 0] / spread[:, 2].clamp_min(1e-6), spread[:, 1] / spread[:, 2].clamp_min(1e-6)], 1
    )
    steps = torch.linspace(0.1, 0.9, 6, device=points.device)
    radius = torch.quantile(centered.norm(dim=2), steps, dim=1).T
    height = torch.quantile(centered[..., 2], steps, dim=1).T
    flat = centered[..., :2].norm(dim=2)
    level = torch.stack(
        [flat.mean(1), flat.std(1), centered[..., 2].std(1), centered[..., 2].pow(3).mean(1)], 1
    )
    return torch.cat([high - low, spread, ratios, radius, height, level], 1)
