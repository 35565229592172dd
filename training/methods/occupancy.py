# SPDX-License-Identifier: Apache-2.0
"""Occupancy along LiDAR rays: free before a return, full just behind it (ALSO, arXiv 2212.05867; CMCR's part of it)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.ops.neighbors import ball_query

FRONT, FAR, BEHIND = 0, 1, 2
SHELL_M = 0.1
"""Front and behind queries lie at most this far from their return."""


@dataclass(frozen=True)
class Queries:
    """Places on rays and what is known of them.

    Attributes:
        place: (Q, 3) float32 metres, sensor frame.
        full: (Q,) float32, 1 behind a return, else 0.
        kind: (Q,) int64 ``FRONT``, ``FAR`` or ``BEHIND``.
        source: (Q,) int64 the return whose ray it is.
    """

    place: NDArray[np.float32]
    full: NDArray[np.float32]
    kind: NDArray[np.int64]
    source: NDArray[np.int64]


def draw_queries(xyz: NDArray[np.float32], n: int, rng: Generator) -> Queries:
    """Draw ``n`` places on rays from the origin to (N, 3) returns: a third front, a third far, the rest behind."""
    direction = xyz / np.maximum(np.linalg.norm(xyz, axis=1, keepdims=True), 1e-6)
    kind = np.repeat([FRONT, FAR, BEHIND], [n // 3, n // 3, n - 2 * (n // 3)])
    source = rng.choice(len(xyz), n, replace=len(xyz) < n)
    u = rng.random((n, 1), dtype=np.float32)
    p, unit = xyz[source], direction[source]
    # A return within the shell must not push its front query through the sensor.
    shell = np.minimum(SHELL_M, np.linalg.norm(p, axis=1, keepdims=True)).astype(np.float32)
    place = np.select(
        [kind[:, None] == FRONT, kind[:, None] == FAR], [p - shell * u * unit, p * u], p + SHELL_M * u * unit
    )
    return Queries(place.astype(np.float32), (kind == BEHIND).astype(np.float32), kind, source)


@dataclass(frozen=True)
class OccupancyPairs:
    """Queries with the voxels around them.

    Attributes:
        voxel: (P,) int64 rows of the finest level.
        offset: (P, 3) float32, query minus the voxel's mean point, metres.
        full: (P,) float32, 1 where the query lies behind a return.
        intensity: (P,) float32 of the query's return, 0 .. 1; NaN for far queries and where it is unknown.
    """

    voxel: Tensor
    offset: Tensor
    full: Tensor
    intensity: Tensor

    def to(self, device: torch.device) -> OccupancyPairs:
        """Return the pairs with all tensors on ``device``."""
        return OccupancyPairs(*(t.to(device) for t in (self.voxel, self.offset, self.full, self.intensity)))


def pair_queries(
    queries: Queries,
    intensity: NDArray[np.float32] | None,
    voxels: Tensor,
    radius: float,
    most: int,
) -> OccupancyPairs:
    """Pair every query with the voxels whose mean point lies within ``radius``, at most ``most`` nearest ones.

    Args:
        intensity: (N,) of the returns, 0 .. 1, or None.
        voxels: (M, 3) float32 mean points.
    """
    place = torch.from_numpy(queries.place)
    index, _ = ball_query(voxels, radius, most, place)
    row, slot = (index >= 0).nonzero().unbind(1)
    voxel = index[row, slot]
    known = np.full(len(queries.kind), np.nan, np.float32)
    if intensity is not None:
        known = np.where(queries.kind == FAR, np.nan, intensity[queries.source]).astype(np.float32)
    return OccupancyPairs(
        voxel, place[row] - voxels[voxel], torch.from_numpy(queries.full)[row], torch.from_numpy(known)[row]
    )


class OccupancyDecoder(nn.Module):
    """Features of a voxel and an offset from it to the logit of "full" and the intensity (CMCR's widths)."""

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(width + 3, hidden), nn.Linear(hidden, 2)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))

    def forward(self, features: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Map (P, C) and (P, 3) to (P,) logits and (P,) intensities. Only relative places enter."""
        x = self.enter(torch.cat([features, offset], 1))
        for layer in self.layers:
            x = layer(functional.relu(x))
        logit, intensity = self.leave(x).unbind(1)
        return logit, intensity


def occupancy_losses(logit: Tensor, intensity: Tensor, pairs: OccupancyPairs) -> tuple[Tensor, Tensor]:
    """Return cross-entropy of occupancy over all pairs, and L1 of intensity over those where it is known.

    Both are 0 where there is no pair.
    """
    if not len(logit):
        return logit.sum(), intensity.sum()
    known = ~pairs.intensity.isnan()
    target = pairs.intensity.nan_to_num()
    l1 = ((intensity - target).abs() * known).sum() / known.sum().clamp(min=1)
    return functional.binary_cross_entropy_with_logits(logit, pairs.full), l1


@torch.no_grad()
def occupancy_iou(logit: Tensor, full: Tensor) -> Tensor:
    """Return intersection over union of "full" over pairs; 0 where neither is."""
    said, true = logit > 0, full > 0.5
    return (said & true).sum() / (said | true).sum().clamp(min=1)
