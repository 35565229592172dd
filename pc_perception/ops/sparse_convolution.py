# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution over kernel maps: in plain torch, by Numba's adding on the CPU, by Triton on the GPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from .backend import resolve
from .kernel_maps import KernelMap
from .parallel import run_blocks


def sparse_convolution(
    features: Tensor, weight: Tensor, kernel_map: KernelMap, backend: str | None = None
) -> Tensor:
    """Convolve voxel features: gather, multiply and add up, offset by offset.

    Args:
        features: (M, C) float, rows of the map's input.
        weight: (K, C, D) of the same dtype. Under autocast both are brought to its dtype, and so is the result.

    Returns:
        (n_out, D), with gradient to features and weight. By Triton sums of half precision run in float32, and the
        host never waits; float64 takes the reference. By Numba nothing but the arguments is kept for the gradient,
        where the reference keeps the gathered rows of every offset. O(E C D).

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
    chosen = resolve(features.device, backend, package="spconv")
    # Float64 is for checking; older versions of Triton have no product for it.
    if chosen == "triton" and features.dtype != torch.float64:
        from .gpu.sparse_convolution import sparse_convolution as by_triton

        pairs = (kernel_map.in_row, kernel_map.out_row, kernel_map.starts)
        return by_triton(features, weight, *pairs, kernel_map.n_out)
    if chosen == "spconv":
        from .spconv_adapter import sparse_convolution as by_spconv

        return by_spconv(features, weight, kernel_map)
    if chosen == "numba" and features.dtype in (torch.float32, torch.float64):
        return _Convolution.apply(features, weight, kernel_map)
    edges = kernel_map.starts.tolist()
    out = features.new_zeros(kernel_map.n_out, weight.shape[2])
    for k, (start, stop) in enumerate(pairwise(edges)):
        rows = kernel_map.in_row[start:stop]
        out = out.index_add(0, kernel_map.out_row[start:stop], features[rows] @ weight[k])
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.map, ctx.edges = kernel_map, kernel_map.starts.tolist()
        out = features.new_zeros(kernel_map.n_out, weight.shape[2])
        source, in_row, out_row = features.detach(), kernel_map.in_row, kernel_map.out_row
        fixed = weight.detach()
        # Output rows ascend within an offset, so that threads can share the output without meeting.
        run_blocks(lambda a, b: _add_up(source, fixed, in_row, out_row, ctx.edges, out, a, b), len(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        in_row, out_row, grad = ctx.map.in_row, ctx.map.out_row, grads[0].contiguous()
        by_features, by_weight = None, None
        if ctx.needs_input_grad[0]:
            by_features = torch.zeros_like(features, memory_format=torch.contiguous_format)
            turned = weight.transpose(1, 2)
            for k, (start, stop) in enumerate(pairwise(ctx.edges)):
                _add(by_features, in_row[start:stop], grad[out_row[start:stop]] @ turned[k])
        if ctx.needs_input_grad[1]:
            by_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
            for k, (start, stop) in enumerate(pairwise(ctx.edges)):
                torch.mm(
                    features[in_row[start:stop]].T, grad[out_row[start:stop]], out=by_weight[k]
                )  # zero where there is no pair
        return by_features, by_weight, None


def _add_up(
    features: Tensor,
    weight: Tensor,
    in_row: Tensor,
    out_row: Tensor,
    edges: list[int],
    out: Tensor,
    first: int,
    last: int,
) -> None:
    """Write the output rows ``first`` .. ``last``, which are zero so far."""
    ascending = out_row.numpy()
    for k, (start, stop) in enumerate(pairwise(edges)):
        if (first, last) != (0, len(out)):
            cut = np.searchsorted(ascending[start:stop], (first, last))
            start, stop = start + int(cut[0]), start + int(cut[1])
        rows, to = in_row[start:stop], out_row[start:stop]
        if stop - start == last - first and torch.equal(rows, to):  # every voxel with itself
            out[first:last].addmm_(features[first:last], weight[k])
        elif stop > start:
            _add(out, to, features[rows] @ weight[k])


def _add(out: Tensor, to: Tensor, values: Tensor) -> None:
    _add_rows(out.numpy(), to.numpy(), values.numpy())


@njit(cache=True, nogil=True)
def _add_rows(out: np.ndarray, to: np.ndarray, values: np.ndarray) -> None:
    for i in range(len(to)):
        row = to[i]
        for c in range(values.shape[1]):
            out[row, c] += values[i, c]
