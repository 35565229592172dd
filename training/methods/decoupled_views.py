# SPDX-License-Identifier: Apache-2.0
"""Point-PQAE's views: two crops of each object, each in a frame of its own, and what ties them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

GUARD = 1e-6
"""Added to the extents that a view is divided by."""


@dataclass(frozen=True)
class View:
    """One crop of each of B objects, normalised and turned.

    Attributes:
        points: (M, 3) float32, each axis -1 .. 1 before the turn.
        offsets: object b owns the rows offsets[b] .. offsets[b + 1].
        center: (B, 3), middle of the crop's bounding box in the object's own coordinates.
    """

    points: Tensor
    offsets: tuple[int, ...]
    center: Tensor


def object_of(offsets: Sequence[int], device: torch.device) -> Tensor:
    """Return (N,) int64, which object each row belongs to."""
    sizes = torch.tensor(offsets).diff()
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device)


def crop(points: Tensor, offsets: Sequence[int], share: float) -> tuple[Tensor, tuple[int, ...]]:
    """Keep int(share * n) points of each object, at least one: those nearest to a random one of them, nearest first.

    Args:
        points: (N, 3), packed by ``offsets``.

    Returns:
        Points and offsets of the crops.
    """
    owner = object_of(offsets, points.device)
    starts = torch.tensor(offsets[:-1], device=points.device)
    sizes = torch.tensor(offsets, device=points.device).diff()
    seed = starts + (torch.rand(len(sizes), device=points.device) * sizes).long().clamp(max=sizes - 1)
    order = (points - points[seed][owner]).square().sum(1).argsort(stable=True)
    order = order[owner[order].argsort(stable=True)]  # by object, in it by distance
    kept = [max(int(share * (b - a)), 1) for a, b in pairwise(offsets)]
    rank = torch.arange(len(points), device=points.device) - starts[owner]
    near = rank < torch.tensor(kept, device=points.device)[owner]
    return points[order[near]], (0, *accumulate(kept))


def normalise(points: Tensor, offsets: Sequence[int], stretch: bool = True) -> View:
    """Move the bounding box of each object to the origin and stretch each axis to -1 .. 1.

    Args:
        stretch: False: only move.
    """
    owner = object_of(offsets, points.device)
    column = owner[:, None].expand_as(points)
    corner = points.new_zeros(len(offsets) - 1, 3)
    low = corner.scatter_reduce(0, column, points, "amin", include_self=False)
    high = corner.scatter_reduce(0, column, points, "amax", include_self=False)
    center = (low + high) / 2
    extent = (high - low)[owner] + GUARD
    placed = (points - low[owner]) / extent * 2 - 1 if stretch else points - center[owner]
    return View(placed, tuple(offsets), center)


def turned(view: View, up: str) -> View:
    """Rotate each object about an axis by an angle of its own, on the device that holds them."""
    angle = 2 * torch.pi * torch.rand(len(view.center), device=view.points.device)
    angle = angle[object_of(view.offsets, view.points.device)]
    i, j = [k for k in range(3) if k != "xyz".index(up)]
    points = view.points.clone()
    points[:, i] = angle.cos() * view.points[:, i] + angle.sin() * view.points[:, j]
    points[:, j] = angle.cos() * view.points[:, j] - angle.sin() * view.points[:, i]
    return View(points, view.offsets, view.center)


def draw_view(points: Tensor, offsets: Sequence[int], least: float, up: str) -> View:
    """Cut one view out of each object: the same random share of all of them.

    Args:
        least: lowest share; 1 keeps everything and does not stretch, as the published ablation.
    """
    share = least + (1 - least) * float(torch.rand(()))
    cut, ends = crop(points, offsets, share)
    return turned(normalise(cut, ends, stretch=least < 1), up)
