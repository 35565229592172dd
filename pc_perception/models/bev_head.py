# SPDX-License-Identifier: Apache-2.0
"""A centre-based head of 3D boxes, seen from above: a heat map of centres for each class, and the box at each centre.

Yin, Zhou, Krähenbühl, "Center-based 3D object detection and tracking", CVPR 2021 (CenterPoint), first stage. Ours
stands on the voxel features of a sparse U-Net instead of a pillar or voxel backbone, and has one head for all classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .pyramid import Level, Pyramid
from .sparse_unet import SparseUNet

STRIDE, CELLS = 4, 128
"""Voxels along an edge of a cell, and cells along an edge of the map: with voxels of 0.2 m, 0.8 m and +-51.2 m."""
BOX = 10
"""Channels of a box: offset of the centre inside its cell (x, y, in cells), z (m), log of length, width, height (m),
sine and cosine of the heading, velocity (x, y, m/s)."""
RARE = -2.19
"""First value of the heat map before its sigmoid, of 0.1 (CornerNet)."""


class BoxDetector(nn.Module):
    """Encoder over a ``Pyramid`` and a head over what it looks like from above."""

    def __init__(self, encoder: SparseUNet, n_classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, BevHead(encoder.width, n_classes)

    def forward(self, features: Tensor, pyramid: Pyramid) -> Tensor:
        """Return (S, n_classes + BOX, CELLS, CELLS): rows are x, columns y, the sensor in the middle."""
        return self.head(self.encoder(features, pyramid), pyramid.levels[0])


class BevHead(nn.Module):
    """Features of voxels to maps of heat and boxes.

    Args:
        width: of the voxel features.
        n_classes: heat maps.
        hidden: channels of the convolutions.
    """

    def __init__(self, width: int, n_classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        # Wider steps in the middle: a bus is eighteen cells long.
        convolutions = (_convolution(hidden, dilation) for dilation in (1, 2, 4, 1))
        self.context = nn.Sequential(*(layer for layers in convolutions for layer in layers))
        self.out = nn.Conv2d(hidden, n_classes + BOX, 1)
        bias = torch.cat([torch.full((n_classes,), RARE), torch.zeros(BOX)])
        self.out.bias = nn.Parameter(bias)

    def forward(self, features: Tensor, level: Level) -> Tensor:
        """Map (M, width) features of a level's voxels to the maps of its scenes; voxels beyond the map are left out."""
        lifted = self.lift(features)
        cell, n_scenes = cells(level), len(level.offsets) - 1
        inside = cell >= 0
        ground = lifted.new_zeros(n_scenes * CELLS * CELLS, lifted.shape[1])
        index = cell[inside][:, None].expand(-1, lifted.shape[1])
        ground = ground.scatter_reduce(0, index, lifted[inside], "amax")  # lifted is not negative
        maps = ground.unflatten(0, (n_scenes, CELLS, CELLS)).movedim(3, 1)
        return self.out(self.context(maps))


def cells(level: Level) -> Tensor:
    """Return (M,) int64, the cell that each voxel stands in, counted through the scenes; -1 beyond the map."""
    place = (level.xyz[:, :2] / (STRIDE * level.edge) + CELLS / 2).floor().long()
    counts = torch.tensor(level.offsets, device=place.device).diff()
    scene = torch.repeat_interleave(torch.arange(len(counts), device=place.device), counts)
    inside = ((place >= 0) & (place < CELLS)).all(1)
    return torch.where(inside, (scene * CELLS + place[:, 0]) * CELLS + place[:, 1], -1)


def decode(maps: Tensor, n_classes: int, cell_m: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes at the peaks of one scene's maps, the surest first.

    Args:
        maps: (n_classes + BOX, CELLS, CELLS).
        cell_m: edge of a cell, metres.
        most: so many at most.

    Returns:
        (K, 9) float32 boxes in the cloud's frame: centre x, y, z, length, width, height (m), heading (radians,
        counter-clockwise from x), velocity x, y (m/s); (K,) int64 classes; (K,) float32 scores 0 .. 1.
    """
    heat = maps[:n_classes].float().sigmoid()
    peak = heat == functional.max_pool2d(heat[None], 3, 1, 1)[0]
    score, index = (heat * peak).flatten().sort(descending=True, stable=True)
    score, index = score[:most], index[:most]
    found, place = index // (CELLS * CELLS), index % (CELLS * CELLS)
    at = maps[n_classes:].float().flatten(1)[:, place].T
    corner = torch.stack([place // CELLS, place % CELLS], 1) - CELLS / 2
    center = torch.cat([(corner + at[:, :2]) * cell_m, at[:, 2:3]], 1)
    size = at[:, 3:6].clamp(-3, 4).exp()
    heading = torch.atan2(at[:, 6], at[:, 7])
    return torch.cat([center, size, heading[:, None], at[:, 8:10]], 1), found, score


def encode(boxes: Tensor, cell_m: float) -> tuple[Tensor, Tensor]:
    """Return what ``decode`` would find: (K,) int64 cells of boxes (K, 9), -1 beyond the map, and (K, BOX) values."""
    place = boxes[:, :2] / cell_m + CELLS / 2
    corner = place.floor()
    inside = ((corner >= 0) & (corner < CELLS)).all(1)
    cell = torch.where(inside, corner[:, 0].long() * CELLS + corner[:, 1].long(), -1)
    heading = boxes[:, 6:7]
    parts = [place - corner, boxes[:, 2:3], boxes[:, 3:6].clamp(min=0.05).log(), heading.sin(), heading.cos()]
    return cell, torch.cat([*parts, boxes[:, 7:9]], 1)


def _convolution(width: int, dilation: int) -> list[nn.Module]:
    layer = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
    return [layer, nn.BatchNorm2d(width), nn.ReLU()]
