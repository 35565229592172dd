# SPDX-License-Identifier: Apache-2.0
"""Shapes with their occupancy as training samples: points of the surface, and places with what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor


class FieldRecord(Protocol):
    """What a data set of fields gives, all in -1 .. 1: points (N, 3) and places (Q, 3) float32, occupancy (Q,)."""

    points: NDArray[np.float32]
    queries_vol: NDArray[np.float32]
    occupancy_vol: NDArray
    queries_near: NDArray[np.float32]
    occupancy_near: NDArray
    label: int


@dataclass(frozen=True)
class FieldSample:
    """One shape of a batch.

    Attributes:
        points: (N, 3) float32 of the surface.
        queries: (2, Q, 3) float32: places anywhere in the cube, and near the surface.
        occupied: (2, Q) bool.
        label: its class; -1 where unknown.
        bad: names of samples that could not be used and were replaced by this one, with the reason.
    """

    points: Tensor
    queries: Tensor
    occupied: Tensor
    label: int = -1
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class FieldBatch:
    """B shapes: points (B, N, 3), queries (B, 2, Q, 3), occupied (B, 2, Q), labels (B,) int64, -1 where unknown."""

    points: Tensor
    queries: Tensor
    occupied: Tensor
    labels: Tensor
    bad: tuple[str, ...] = ()

    @property
    def n_scenes(self) -> int:
        """Number of shapes."""
        return len(self.labels)

    def to(self, device: torch.device) -> FieldBatch:
        """Return the batch with all tensors on ``device``."""
        moved = {k: getattr(self, k).to(device) for k in ("points", "queries", "occupied", "labels")}
        return replace(self, **moved)


def draw_field(record: FieldRecord, rng: Generator, n_points: int, n_queries: int) -> FieldSample:
    """Draw points and places of one shape; those that it has too few of come twice.

    Raises:
        ValueError: it has no point or no place, or nothing in the cube is inside it.
    """
    if not len(record.points) or not len(record.queries_vol) or not len(record.queries_near):
        raise ValueError("it has no point of its surface, or no place with known occupancy")
    if not np.any(record.occupancy_vol) and not np.any(record.occupancy_near):
        raise ValueError("its field is empty: no place is inside it")
    points = record.points[_rows(len(record.points), n_points, rng)]
    parts = [
        (record.queries_vol, record.occupancy_vol),
        (record.queries_near, record.occupancy_near),
    ]
    rows = [_rows(len(queries), n_queries, rng) for queries, _ in parts] if n_queries else [[], []]
    queries = np.stack([q[r] for (q, _), r in zip(parts, rows, strict=True)])
    occupied = np.stack([np.asarray(o)[r] > 0.5 for (_, o), r in zip(parts, rows, strict=True)])
    return FieldSample(
        torch.from_numpy(np.ascontiguousarray(points, np.float32)),
        torch.from_numpy(np.ascontiguousarray(queries, np.float32)),
        torch.from_numpy(occupied),
        int(record.label),
    )


def _rows(n: int, wanted: int, rng: Generator) -> NDArray[np.int64]:
    """Draw ``wanted`` of ``n`` rows, without repeats as long as there are enough."""
    if wanted > n:
        return np.concatenate([rng.permutation(n), rng.integers(n, size=wanted - n)])
    # As good as distinct where few of many are wanted, at a tenth of a permutation's price.
    return rng.integers(n, size=wanted) if n > 8 * wanted else rng.permutation(n)[:wanted]


def collate_fields(samples: Sequence[FieldSample]) -> FieldBatch:
    """Stack shapes of equally many points and places."""
    return FieldBatch(
        points=torch.stack([s.points for s in samples]),
        queries=torch.stack([s.queries for s in samples]),
        occupied=torch.stack([s.occupied for s in samples]),
        labels=torch.tensor([s.label for s in samples]),
        bad=tuple(name for s in samples for name in s.bad),
    )
