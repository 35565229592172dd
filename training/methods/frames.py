# SPDX-License-Identifier: Apache-2.0
"""Sweeps with pictures as training samples: voxels, crops, point-pixel pairs, masks and rays, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.inference.contract import Prepared
from pc_perception.models.pyramid import Pyramid, pack
from training.data.crops import Crop, draw_mask

from .occupancy import OccupancyPairs


@dataclass(frozen=True)
class PixelPairs:
    """Voxels and the pixels at which their points are seen.

    Attributes:
        voxel: (P,) int64 rows of the finest level.
        picture: (P,) int64.
        pixel: (P, 2) int64 (v, u).
        depth: (P,) float32 metres.
        hidden: (P,) bool, whether masking hid the pixel.
    """

    voxel: Tensor
    picture: Tensor
    pixel: Tensor
    depth: Tensor
    hidden: Tensor

    def __len__(self) -> int:
        return len(self.voxel)

    def select(self, index: Tensor) -> PixelPairs:
        """Return the pairs that ``index`` (row numbers or a boolean mask) picks."""
        if index.dtype == torch.bool:
            index = index.nonzero()[:, 0]  # once: a GPU is waited for to know how many there are
        parts = (self.voxel, self.picture, self.pixel, self.depth, self.hidden)
        return PixelPairs(*(t[index] for t in parts))

    def to(self, device: torch.device) -> PixelPairs:
        """Return the pairs with all tensors on ``device``."""
        parts = (self.voxel, self.picture, self.pixel, self.depth, self.hidden)
        return PixelPairs(*(t.to(device) for t in parts))


@dataclass(frozen=True)
class FrameSample:
    """One sweep with its pictures.

    Attributes:
        prepared: what the point network takes.
        rgb: (n, H, W, 3) uint8, not masked.
        hidden: (n, H, W) bool.
        segments: (n, H, W) int64 superpixels numbered through the pictures; None where not used.
        pairs: see ``PixelPairs``.
        occupancy: see ``OccupancyPairs``.
        bad: names of samples that this one replaces.
    """

    prepared: Prepared
    rgb: Tensor
    hidden: Tensor
    segments: Tensor | None
    pairs: PixelPairs
    occupancy: OccupancyPairs
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrameBatch:
    """Sweeps behind each other; attributes as in ``FrameSample``, numbers counted through the batch."""

    features: Tensor
    pyramid: Pyramid
    rgb: Tensor
    hidden: Tensor
    segments: Tensor | None
    pairs: PixelPairs
    occupancy: OccupancyPairs
    n_scenes: int
    bad: tuple[str, ...] = ()

    def to(self, device: torch.device) -> FrameBatch:
        """Return the batch with all tensors on ``device``."""
        return replace(
            self,
            features=self.features.to(device),
            pyramid=self.pyramid.to(device),
            rgb=self.rgb.to(device),
            hidden=self.hidden.to(device),
            segments=None if self.segments is None else self.segments.to(device),
            pairs=self.pairs.to(device),
            occupancy=self.occupancy.to(device),
        )


def hide(crops: Sequence[Crop], picture: float, patch: float, rng: Generator) -> NDArray[np.bool_]:
    """Draw a mask for each crop, independently; see ``draw_mask``. Returns (n, H, W) bool."""
    return np.stack([draw_mask(crop.rgb.shape[:2], picture, patch, rng) for crop in crops])


def pair_up(
    crops: Sequence[Crop], hidden: NDArray[np.bool_], voxel_of_point: NDArray[np.int64]
) -> PixelPairs:
    """Join the points that crops show with their voxels; points without a voxel (-1) are left out."""
    picture = np.repeat(np.arange(len(crops)), [len(c.point) for c in crops])
    pixel = np.concatenate([c.pixel for c in crops])
    voxel = voxel_of_point[np.concatenate([c.point for c in crops])]
    depth = np.concatenate([c.depth for c in crops])
    pairs = PixelPairs(
        torch.from_numpy(voxel),
        torch.from_numpy(picture),
        torch.from_numpy(pixel),
        torch.from_numpy(depth),
        torch.from_numpy(hidden[picture, pixel[:, 0], pixel[:, 1]]),
    )
    return pairs.select(pairs.voxel >= 0)


def number_segments(crops: Sequence[Crop]) -> Tensor:
    """Return (n, H, W) int64 superpixels, each picture's numbers above those of the one before."""
    parts, start = [], 0
    for crop in crops:
        assert crop.segments is not None
        parts.append(crop.segments.astype(np.int64) + start)
        start = int(parts[-1].max()) + 1
    return torch.from_numpy(np.stack(parts))


def collate_frames(samples: Sequence[FrameSample]) -> FrameBatch:
    """Lay frames behind each other."""
    rows = [0, *accumulate(len(s.prepared.features) for s in samples)]
    pictures = [0, *accumulate(len(s.rgb) for s in samples)]
    pairs, rays, segments, n_segments = [], [], [], 0
    for sample, row, picture in zip(samples, rows, pictures, strict=False):
        own = sample.pairs
        pairs.append(replace(own, voxel=own.voxel + row, picture=own.picture + picture))
        rays.append(replace(sample.occupancy, voxel=sample.occupancy.voxel + row))
        if sample.segments is not None:
            segments.append(sample.segments + n_segments)
            n_segments = int(segments[-1].max()) + 1
    return FrameBatch(
        features=torch.cat([s.prepared.features for s in samples]),
        pyramid=pack([s.prepared.pyramid for s in samples]),
        rgb=torch.cat([s.rgb for s in samples]),
        hidden=torch.cat([s.hidden for s in samples]),
        segments=torch.cat(segments) if segments else None,
        pairs=PixelPairs(*_joined(pairs)),
        occupancy=OccupancyPairs(*_joined(rays)),
        n_scenes=len(samples),
        bad=tuple(name for s in samples for name in s.bad),
    )


def _joined(parts: Sequence[PixelPairs] | Sequence[OccupancyPairs]) -> list[Tensor]:
    return [torch.cat(tensors) for tensors in zip(*(vars(p).values() for p in parts), strict=True)]
