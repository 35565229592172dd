# SPDX-License-Identifier: Apache-2.0
"""What a model of pictures and points sees, as one picture for TensorBoard."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .frames import PixelPairs


def principal_axes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) of features (N, D) and three principal axes (D, 3), on which 2 deviations measure 1/2."""
    mean = rows.mean(0)
    _, size, axes = torch.linalg.svd((rows - mean).T @ (rows - mean) / max(len(rows), 1))
    return mean, axes[:3].T / (4 * size[:3].clamp(min=1e-12).sqrt())


def frame_panel(
    hidden: Tensor, rebuilt: Tensor, pixels: Tensor, points: Tensor, pairs: PixelPairs
) -> NDArray[np.uint8]:
    """Lay pictures beside each other; below each its reconstruction and the features of its pixels and points.

    Colours are principal components of the pixels' features, the same for the points', so that equal places should
    have equal colours.

    Args:
        hidden: (n, 3, h, w) pictures with what was masked black, 0 .. 1.
        rebuilt: (n, 3, h, w).
        pixels: (n, D, h, w) features; points: (M, D) those of voxels.
        pairs: where the voxels' points are seen, at the resolution of the pictures.

    Returns:
        (4 h, n w, 3) uint8.
    """
    mean, axes = principal_axes(pixels.movedim(1, 3).flatten(0, 2))
    seen = ((pixels.movedim(1, 3) - mean) @ axes + 0.5).movedim(3, 1)
    dots = torch.zeros_like(rebuilt)
    v, u = pairs.pixel.unbind(1)
    dots[pairs.picture, :, v, u] = (points[pairs.voxel] - mean) @ axes + 0.5
    rows = [torch.cat(list(part), 2) for part in (hidden, rebuilt, seen, dots)]
    panel = (torch.cat(rows, 1).clamp(0, 1) * 255).byte()
    return panel.movedim(0, 2).contiguous().cpu().numpy()
