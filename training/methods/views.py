# SPDX-License-Identifier: Apache-2.0
"""Multi-region views of one scene: a candidate region, few large parts of it and many small ones.

Source: PointCSP, arXiv 2605.01759: candidate region of 60 %, n = 2 global views of 40 .. 80 % of it, m = 8
local ones of 10 .. 30 %, global views thinned by uniform voxel sampling and local ones by farthest points,
1,024 points each. Ours, since it is not said there: shares are of points, and regions are columns around a random
point, not balls, because heights above the ground are an input and a ball in the air has no ground.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.cloud import PointCloud
from pc_perception.inference.contract import Prepared
from pc_perception.models.pyramid import Pyramid, pack
from pc_perception.ops.sampling import farthest_point_sampling
from pc_perception.ops.voxelize import voxelize
from training.augment import Augmentation, move_and_recolor, thin

Sampler = Callable[[PointCloud, int, Generator], PointCloud]


@dataclass(frozen=True)
class Views:
    """How views are cut.

    Attributes:
        n_global, n_local: how many; at least two global ones.
        candidate: share of the scene's points that all views are cut from.
        global_coverage, local_coverage: (low, high) share of the candidate region in a view.
        global_points, local_points: a view is thinned to so many points; 0 keeps all.
    """

    n_global: int = 2
    n_local: int = 8
    candidate: float = 0.6
    global_coverage: tuple[float, ...] = (0.4, 0.8)
    local_coverage: tuple[float, ...] = (0.1, 0.3)
    global_points: int = 1024
    local_points: int = 1024

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if self.n_global < 2 or self.n_local < 0:
            raise ValueError(
                f"views need n_global of at least 2 and n_local of at least 0; got {self.n_global}, {self.n_local}"
            )
        if not 0 < self.candidate <= 1:
            raise ValueError(f"views.candidate must lie in 0 .. 1, got {self.candidate}")
        for name in ("global_coverage", "local_coverage"):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= 1:
                raise ValueError(f"views.{name} must be two shares in 0 .. 1, low and high; got {pair}")

    def needed(self, least: int) -> int:
        """Return how many points a scene must have for its smallest view to have ``least``."""
        low = min(self.global_coverage[0], self.local_coverage[0] if self.n_local else 1.0)
        return int(np.ceil(least / (low * self.candidate)))


@dataclass(frozen=True)
class ViewSample:
    """The views of one scene.

    Attributes:
        large: the global views as the network takes them.
        small: the local ones.
        pairs: (K, 2) int64, a voxel of the first global view and one of the second at the same place.
        bad: names of samples that this one replaces.
    """

    large: tuple[Prepared, ...]
    small: tuple[Prepared, ...]
    pairs: Tensor
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class ViewBatch:
    """Views of B scenes, packed by their number: the first view of every scene, then every second one ...

    Attributes:
        large, small: (features, pyramid) of n_global * B and n_local * B views; ``small`` may be None.
        pairs: (P, 2) int64 rows of ``large``'s finest level.
        n_scenes: B.
    """

    large: tuple[Tensor, Pyramid]
    small: tuple[Tensor, Pyramid] | None
    pairs: Tensor
    n_scenes: int
    bad: tuple[str, ...] = ()

    def to(self, device: torch.device) -> ViewBatch:
        """Return the batch with all tensors on ``device``."""

        def move(part: tuple[Tensor, Pyramid]) -> tuple[Tensor, Pyramid]:
            return part[0].to(device), part[1].to(device)

        small = None if self.small is None else move(self.small)
        return replace(self, large=move(self.large), small=small, pairs=self.pairs.to(device))


def collate_views(samples: Sequence[ViewSample]) -> ViewBatch:
    """Pack the views of several scenes."""
    large = [s.large[i] for i in range(len(samples[0].large)) for s in samples]
    small = [s.small[i] for i in range(len(samples[0].small)) for s in samples]
    starts = np.cumsum([0, *(len(v.features) for v in large)])
    shift = [torch.tensor([int(starts[i]), int(starts[i + len(samples)])]) for i in range(len(samples))]
    return ViewBatch(
        large=_packed(large),
        small=_packed(small) if small else None,
        pairs=torch.cat([s.pairs + d for s, d in zip(samples, shift, strict=True)]),
        n_scenes=len(samples),
        bad=tuple(name for s in samples for name in s.bad),
    )


def _packed(views: Sequence[Prepared]) -> tuple[Tensor, Pyramid]:
    return torch.cat([v.features for v in views]), pack([v.pyramid for v in views])


def cut_views(
    cloud: PointCloud, how: Views, augmentation: Augmentation, rng: Generator
) -> tuple[list[PointCloud], list[PointCloud]]:
    """Cut the global and the local views of a cloud of finite points, and change each by itself."""
    region = nearest(cloud, round(how.candidate * len(cloud)), rng)

    def view(coverage: Sequence[float], sample: Sampler, n: int) -> PointCloud:
        part = nearest(region, round(rng.uniform(coverage[0], coverage[1]) * len(region)), rng)
        return move_and_recolor(sample(thin(part, augmentation, rng), n, rng), augmentation, rng)

    large = [view(how.global_coverage, sample_evenly, how.global_points) for _ in range(how.n_global)]
    small = [view(how.local_coverage, sample_farthest, how.local_points) for _ in range(how.n_local)]
    return large, small


def nearest(cloud: PointCloud, n: int, rng: Generator) -> PointCloud:
    """Return the ``n`` points that are horizontally nearest to a random one."""
    if n >= len(cloud):
        return cloud
    x, y = (cloud.xyz - cloud.xyz[rng.integers(len(cloud))]).T[:2]
    distance = x * x + y * y
    return cloud.select(np.sort(np.argpartition(distance, n)[:n]))


def sample_evenly(cloud: PointCloud, n: int, rng: Generator) -> PointCloud:
    """Thin to ``n`` points, each from another voxel, of the largest voxels (to a tenth) of which there are ``n``."""
    if not n or len(cloud) <= n:
        return cloud
    xyz = torch.from_numpy(cloud.xyz)
    edge = float(np.ptp(cloud.xyz, axis=0).max()) / n ** (1 / 3) + 1e-6
    voxels = voxelize(xyz, edge)
    while len(voxels) < n and edge > 1e-4:
        edge *= 0.9
        voxels = voxelize(xyz, edge)
    row = voxels.inverse.numpy()
    mixed = rng.permutation(len(cloud))
    one_each = mixed[np.unique(row[mixed], return_index=True)[1]]
    if len(one_each) < n:  # fewer distinct places than points wanted
        one_each = mixed
    return cloud.select(np.sort(rng.permutation(one_each)[:n]))


def sample_farthest(cloud: PointCloud, n: int, rng: Generator) -> PointCloud:
    """Thin to ``n`` points by farthest point sampling from a random first one."""
    if not n or len(cloud) <= n:
        return cloud
    start = int(rng.integers(len(cloud)))
    chosen = farthest_point_sampling(torch.from_numpy(cloud.xyz)[None], n, start=start)[0]
    return cloud.select(np.sort(chosen.numpy()))


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
