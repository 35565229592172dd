# SPDX-License-Identifier: Apache-2.0
"""Two overlapping views of one scene, and which of their voxels are the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import Prepared
from pc_perception.models.pyramid import Pyramid, pack


@dataclass(frozen=True)
class PairSample:
    """Two views of one scene and which of their voxels are the same place.

    Attributes:
        views: both as the network takes them.
        pairs: (K, 2) int64, a voxel of the first view and one of the second.
        bad: names of samples that this one replaces.
    """

    views: tuple[Prepared, Prepared]
    pairs: Tensor
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairBatch:
    """All first views, then all second views, as one packed pyramid.

    Attributes:
        pairs: (P, 2) int64 rows of the finest level.
    """

    features: Tensor
    pyramid: Pyramid
    pairs: Tensor
    n_scenes: int
    bad: tuple[str, ...] = ()

    def to(self, device: torch.device) -> PairBatch:
        """Return the batch with all tensors on ``device``."""
        features, pairs = self.features.to(device), self.pairs.to(device)
        return replace(self, features=features, pairs=pairs, pyramid=self.pyramid.to(device))


def collate_pairs(samples: Sequence[PairSample]) -> PairBatch:
    """Lay the scenes' views behind each other: all first ones, then all second ones."""
    views = [s.views[side] for side in (0, 1) for s in samples]
    starts = np.cumsum([0, *(len(v.features) for v in views)])
    shift = [[int(starts[i]), int(starts[i + len(samples)])] for i in range(len(samples))]
    return PairBatch(
        features=torch.cat([v.features for v in views]),
        pyramid=pack([v.pyramid for v in views]),
        pairs=torch.cat([s.pairs + torch.tensor(d) for s, d in zip(samples, shift, strict=True)]),
        n_scenes=len(samples),
        bad=tuple(name for s in samples for name in s.bad),
    )


def nearest(cloud: PointCloud, n: int, rng: Generator) -> PointCloud:
    """Return the ``n`` points that are horizontally nearest to a random one."""
    if n >= len(cloud):
        return cloud
    distance = np.square(cloud.xyz[:, :2] - cloud.xyz[rng.integers(len(cloud)), :2]).sum(1)
    return cloud.select(np.sort(np.argpartition(distance, n)[:n]))


def matched_voxels(
    place: Sequence[NDArray], voxel: Sequence[NDArray], rng: Generator, most: int
) -> NDArray[np.int64]:
    """Pair voxels of two views that hold points from the same place.

    Args:
        place: for each view the (N,) number of the cell, in the cloud that both were cut from, of every
            point.
        voxel: for each view the (N,) voxel of every point, -1 where it has none.

    Returns:
        (K, 2) int64, each voxel of the first view at most once, K at most ``most``.
    """
    seen = [v >= 0 for v in voxel]
    firsts = [np.unique(p[s], return_index=True) for p, s in zip(place, seen, strict=True)]
    _, a, b = np.intersect1d(firsts[0][0], firsts[1][0], assume_unique=True, return_indices=True)
    columns = (v[s][f[1][i]] for v, s, f, i in zip(voxel, seen, firsts, (a, b), strict=True))
    pairs = np.stack(list(columns), axis=1).astype(np.int64)
    pairs = pairs[rng.permutation(len(pairs))]
    pairs = pairs[np.unique(pairs[:, 0], return_index=True)[1]]
    return pairs[rng.permutation(len(pairs))[:most]]
