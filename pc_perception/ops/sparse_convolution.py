# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution over kernel maps: in plain torch, and by Triton on the GPU."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .backend import resolve
from .kernel_maps import KernelMap


def sparse_convolution(
    features: Tensor, weight: Tensor, kernel_map: KernelMap, backend: str | None = None
) -> Tensor:
    """Convolve voxel features: gather, multiply and add up, offset by offset.

    Args:
        features: (M, C) float, rows of the map's input.
        weight: (K, C, D) of the same dtype. Under autocast both are brought to its dtype, and so is the result.

    Returns:
        (n_out, D), with gradient to features and weight. By Triton sums of half precision run in float32, and the
        host never waits; float64 takes the reference. O(E C D).

    Raises:
        ValueError: a weight of another shape or dtype.
    """
    n_offsets = len(kernel_map.starts) - 1
    if weight.ndim != 3 or len(weight) != n_offsets or weight.shape[1] != features.shape[1]:
        wanted = f"({n_offsets}, {features.shape[1]}, D)"
        raise ValueError(f"the weight must be {wanted}, it is {tuple(weight.shape)}")
    if torch.is_autocast_enabled(features.device.type):
        dtype = torch.get_autocast_dtype(features.device.type)
        features, weight = features.to(dtype), weight.to(dtype)
    if features.dtype != weight.dtype:
        raise ValueError(f"features are {features.dtype} and the weight {weight.dtype}; convert one of them")
    # Float64 is for checking; older versions of Triton have no product for it.
    if resolve(features.device, backend) == "triton" and features.dtype != torch.float64:
        from .gpu.sparse_convolution import sparse_convolution as by_triton

        pairs = (kernel_map.in_row, kernel_map.out_row, kernel_map.starts)
        return by_triton(features, weight, *pairs, kernel_map.n_out)
    edges = kernel_map.starts.tolist()
    out = features.new_zeros(kernel_map.n_out, weight.shape[2])
    for k, (start, stop) in enumerate(pairwise(edges)):
        rows = kernel_map.in_row[start:stop]
        out = out.index_add(0, kernel_map.out_row[start:stop], features[rows] @ weight[k])
    return out
