# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution in plain torch: what faster ones are held against."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from .kernel_maps import KernelMap


def sparse_convolution(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve voxel features: gather, multiply and add up, offset by offset.

    Args:
        features: (M, C) float, rows of the map's input.
        weight: (K, C, D) of the same dtype.

    Returns:
        (n_out, D), with gradient to features and weight. O(E C D).
    """
    edges = kernel_map.starts.tolist()
    if weight.ndim != 3 or len(weight) != len(edges) - 1 or weight.shape[1] != features.shape[1]:
        wanted = f"({len(edges) - 1}, {features.shape[1]}, D)"
        raise ValueError(f"the weight must be {wanted}, it is {tuple(weight.shape)}")
    out = features.new_zeros(kernel_map.n_out, weight.shape[2])
    for k, (start, stop) in enumerate(pairwise(edges)):
        rows = kernel_map.in_row[start:stop]
        out = out.index_add(0, kernel_map.out_row[start:stop], features[rows] @ weight[k])
    return out
