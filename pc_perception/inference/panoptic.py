# SPDX-License-Identifier: Apache-2.0
"""From classes and centre offsets of voxels to objects: voxels whose shifted places meet are one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc_perception.ops.clusters import euclidean_clusters
from pc_perception.ops.scatter import scatter_mean

MERGE_M = 0.5
"""Shifted voxels that chains of steps of this length connect, seen from above, belong to one object (our choice)."""


def group_instances(place: Tensor, offset: Tensor, logits: Tensor, things: Tensor) -> tuple[Tensor, Tensor]:
    """Tell the objects of a scene apart, and let each agree on its class.

    Args:
        place: (M, 3) float32, voxels, metres.
        offset: (M, 3) float32, from a voxel to the centre of its object, metres.
        logits: (M, C).
        things: (C,) bool, classes that are made of single objects.

    Returns:
        (M, C) logits, the mean of its voxels for every object, and (M,) int64 objects from 1 on, 0 for none.
    """
    rows = things[logits.argmax(1)].nonzero()[:, 0]
    center = place[rows] + offset[rows].to(place.dtype)
    center[:, 2] = 0
    cluster = euclidean_clusters(center, MERGE_M)
    kept = cluster >= 0  # not so where an offset is no number
    rows, cluster = rows[kept], cluster[kept]
    agreed = logits.clone()
    if len(rows):
        agreed[rows] = scatter_mean(logits[rows], cluster, int(cluster.max()) + 1)[cluster]
    instance = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    instance[rows] = cluster + 1
    instance[~things[agreed.argmax(1)]] = 0
    return agreed, instance


def of_points(instance: Tensor, inverse: Tensor) -> NDArray[np.uint32]:
    """Carry (M,) objects of voxels to the (N,) points; 0 where ``inverse`` is -1."""
    return torch.cat([instance, instance.new_zeros(1)])[inverse].cpu().numpy().astype(np.uint32)
