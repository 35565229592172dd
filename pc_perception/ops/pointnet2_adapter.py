# SPDX-License-Identifier: Apache-2.0
"""Farthest points and balls by pointnet2_ops 3.0, where that package was built: the one place that knows it.

Asked for by ``backend="pointnet2"`` or ``PC_PERCEPTION_BACKEND=pointnet2``, on CUDA, for runs that must follow
published ones kernel by kernel. The package covers a part of our operations; what it cannot do is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor


def farthest_points(points: Tensor, n_samples: int) -> Tensor:
    """Do what ``ops.farthest_point_sampling`` documents with ``skip_origin`` and start 0.

    Args:
        points: (B, N, 3) float32 on CUDA.

    Returns:
        (B, n_samples) int64.
    """
    from pointnet2_ops.pointnet2_utils import furthest_point_sample

    return furthest_point_sample(points.contiguous(), n_samples).long()


def balls(points: Tensor, queries: Tensor, radius: float, k: int) -> tuple[Tensor, Tensor]:
    """Do what ``ops.ball_query`` documents with ``by_index``.

    pointnet2_ops fills a list with its first entry and returns point 0 where it found none; both become -1 here.

    Args:
        points: (B, N, 3) float32 on CUDA.
        queries: (B, Q, 3), the same.

    Returns:
        (B, Q, k) int64 and float32 distances, inf where there is none.
    """
    from pointnet2_ops.pointnet2_utils import ball_query

    filled = ball_query(radius, k, points.contiguous(), queries.contiguous()).long()
    return unfilled(filled, points, queries, radius)


def unfilled(filled: Tensor, points: Tensor, queries: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Take the repetitions out of (B, Q, k) lists that are filled as pointnet2_ops does; add distances."""
    found = points.gather(1, filled.flatten(1)[..., None].expand(-1, -1, 3)).unflatten(1, filled.shape[1:])
    dx, dy, dz = (queries[:, :, None] - found).unbind(-1)
    squared = dx * dx + dy * dy + dz * dz
    none = squared[..., :1] >= points.new_tensor(radius).square()
    # A list ascends, so only what was filled in repeats its first entry.
    none = none | torch.cat([torch.zeros_like(none), filled[..., 1:] == filled[..., :1]], -1)
    return filled.masked_fill(none, -1), squared.sqrt().masked_fill(none, torch.inf)
