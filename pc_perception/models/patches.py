# SPDX-License-Identifier: Apache-2.0
"""An object as patches: farthest point centres with their nearest points, and one feature of each patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.ops.backend import resolve
from pc_perception.ops.neighbors import k_nearest
from pc_perception.ops.packed import numbers_on
from pc_perception.ops.parallel import by_rows
from pc_perception.ops.sampling import farthest_point_sampling
from pc_perception.ops.serialize import z_order

from .linear import Linear

AT_ONCE = 48
"""Patches in one pass of the embedding at inference on a CPU."""
ALIGNED = 8
"""Inputs of a layer for bfloat16 rows of 16 bytes."""
CELLS = 1024
"""Cells per axis, over -1 .. 1, that Z-order sorts centres by."""


@dataclass(frozen=True)
class Patches:
    """The patches of B objects.

    Attributes:
        centers: (B, G, 3) float32, points of the object.
        points: (B, G, M, 3) float32, the points nearest to each centre, relative to it, nearest first.
    """

    centers: Tensor
    points: Tensor

    def take(self, index: Tensor) -> Patches:
        """Return the patches that ``index`` (B, K) int64 names in each object, in its order."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return replace(self, centers=self.centers[rows, index], points=self.points[rows, index])


def make_patches(
    points: Tensor,
    n_patches: int,
    patch_size: int,
    offsets: Sequence[int] | None = None,
    skip_origin: bool = False,
) -> Patches:
    """Cut objects into patches; sampling starts at the first point, as published.

    Args:
        points: (B, N, 3) or packed (N, 3) float32, finite, on the unit sphere.
        offsets: of packed points: object b owns the rows offsets[b] .. offsets[b + 1], at least one.
        skip_origin: sample as pointnet2_ops, which never takes a point near the origin.

    Returns:
        Patches of their own object alone. One with fewer points than ``n_patches`` repeats its centres, one
        with fewer than ``patch_size`` the points of each patch, in turn.

    Raises:
        ValueError: an object has no point, or points are not finite.
    """
    if points.ndim == 3:
        offsets = range(0, points.shape[0] * points.shape[1] + 1, max(points.shape[1], 1))
    elif offsets is None:
        offsets = (0, len(points))
    xyz = points.detach().reshape(-1, 3).float()
    sizes = [end - begin for begin, end in pairwise(offsets)]
    if min(sizes, default=0) < 1:
        raise ValueError("an object has no point; leave empty objects out")
    n_chosen = [min(n, n_patches) for n in sizes]
    chosen = farthest_point_sampling(xyz, n_chosen, offsets, skip_origin=skip_origin)
    begin, taken = (numbers_on(xyz.device, v)[:, None] for v in ([0, *accumulate(n_chosen[:-1])], n_chosen))
    turn = begin + torch.arange(n_patches, device=xyz.device) % taken
    centers = xyz[chosen[turn].flatten()]
    bounds = range(0, len(centers) + 1, n_patches)
    index, _ = k_nearest(xyz, patch_size, centers, offsets, bounds)
    index = index.view(len(sizes), n_patches, patch_size)
    if min(sizes) < patch_size:
        found = numbers_on(xyz.device, [min(n, patch_size) for n in sizes])[:, None]
        column = torch.arange(patch_size, device=xyz.device) % found
        index = index.gather(2, column[:, None].expand_as(index))
    centers = centers.view(len(sizes), n_patches, 3)
    return Patches(centers, xyz[index] - centers[:, :, None])


def walk_order(centers: Tensor) -> Tensor:
    """Go from each centre to the nearest one not yet visited, from the first on (PointGPT's "simplified Morton").

    Args:
        centers: (B, G, 3).

    Returns:
        (B, G) int64, a permutation of each object's centres.
    """
    distance = torch.cdist(centers, centers)
    at = torch.zeros(len(centers), dtype=torch.int64, device=centers.device)
    rows, order = torch.arange(len(centers), device=centers.device), [at]
    for _ in range(centers.shape[1] - 1):
        distance[rows, :, at] = torch.inf
        at = distance[rows, at].argmin(1)
        order.append(at)
    return torch.stack(order, 1)


def z_curve_order(centers: Tensor) -> Tensor:
    """Return (B, G) int64: the centres (B, G, 3) of each object along a Z-curve over -1 .. 1."""
    cells = ((centers + 1) * (CELLS / 2)).long().clamp(0, CELLS - 1)
    return z_order(cells.view(-1, 3)).view(centers.shape[:2]).argsort(dim=1, stable=True)


class PatchEmbedding(nn.Module):
    """Mini-PointNet: one feature per patch (Point-MAE, arXiv 2203.06604; layer sizes as in its public code).

    Args:
        width: channels of the result.
        hidden: channels of the three layers before it.
    """

    def __init__(self, width: int, hidden: Sequence[int]) -> None:
        super().__init__()
        a, b, c = hidden
        self.first = nn.Sequential(nn.Linear(3, a), nn.BatchNorm1d(a), nn.ReLU(inplace=True), Linear(a, b))
        self.second = nn.Sequential(
            Linear(2 * b, c), nn.BatchNorm1d(c), nn.ReLU(inplace=True), Linear(c, width)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Map (B, G, M, 3) to (B, G, width)."""
        patches = points.flatten(0, 1)
        if self.training or torch.is_grad_enabled() or points.device.type != "cpu":
            return self._embed(patches).unflatten(0, points.shape[:2])

        # Few at a time: what lies between the layers then stays in the nearest cache.
        def embed(part: Tensor) -> Tensor:
            return torch.cat([self._embed(few) for few in part.split(AT_ONCE)])

        return by_rows(embed, patches, least_rows=AT_ONCE // 2).unflatten(0, points.shape[:2])

    def _embed(self, patches: Tensor) -> Tensor:
        """Map (P, M, 3) to (P, width)."""
        if self._has_kernels(patches):
            return self._embed_by_kernels(patches)
        n_points = patches.shape[1]
        local = self.first(patches.flatten(0, 1))
        overall = local.unflatten(0, (-1, n_points)).amax(1)
        # The layer sees (overall, local). What it makes of a patch's maximum is the same for all of its points:
        # multiply that part, and add the bias, once per patch.
        mix: Any = self.second[0]
        n = local.shape[1]
        shared = functional.linear(overall, mix.weight[:, :n], mix.bias)
        own = functional.linear(local, mix.weight[:, n:]).unflatten(0, (-1, n_points))
        x = self.second[1:]((own + shared[:, None]).flatten(0, 1))
        return x.unflatten(0, (-1, n_points)).amax(1)

    def _has_kernels(self, patches: Tensor) -> bool:
        """Whether this is a training step on a GPU, with norms over this process's batch alone."""
        norms = self.first[1], self.second[1]
        return (
            patches.dtype == torch.float32
            and all(type(m) is nn.BatchNorm1d and m.training and m.momentum is not None for m in norms)
            and resolve(patches.device) == "triton"
        )

    def _embed_by_kernels(self, patches: Tensor) -> Tensor:
        from pc_perception.ops.gpu.patches import linear_and_max, norm_relu, patch_max

        n_points = patches.shape[1]
        first: Any = self.first
        second: Any = self.second
        (lift, norm, _, widen), (mix, wide_norm, _, last) = first, second
        # Rows of three would be loaded number by number.
        xyz, weight = (functional.pad(t, (0, ALIGNED - 3)) for t in (patches.flatten(0, 1), lift.weight))
        local = widen(norm_relu(functional.linear(xyz, weight, lift.bias), None, norm, n_points))
        n = local.shape[1]
        own, overall = linear_and_max(local, mix.weight[:, n:].to(local.dtype), n_points)
        shared = functional.linear(overall, mix.weight[:, :n], mix.bias)
        x = norm_relu(own, shared, wide_norm, n_points)
        # A maximum moves with what is added to all: the bias comes after it, on fewer rows.
        best = patch_max(functional.linear(x, last.weight), n_points)
        return best + last.bias.to(best.dtype)
