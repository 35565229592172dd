# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution over kernel maps: in plain torch, by Numba on the CPU, by Triton on the GPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .backend import resolve
from .kernel_maps import KernelMap
from .parallel import run_blocks, team
from .row_products import add_products, lanes

WORTH_A_THREAD = 1 << 22
"""Multiplications; fewer take less time than waking one."""


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
        ctx.map = kernel_map
        return _convolve(features, weight, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        in_row, out_row, starts = ctx.map.in_row, ctx.map.out_row, ctx.map.starts
        by_features, by_weight = None, None
        if ctx.needs_input_grad[0]:
            by_features = _convolve(grads[0], weight.transpose(1, 2), ctx.map.turned(len(features)))
        if ctx.needs_input_grad[1]:
            by_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
            for k, (start, stop) in enumerate(pairwise(starts.tolist())):
                rows, grad = features[in_row[start:stop]], grads[0][out_row[start:stop]]
                torch.mm(rows.T, grad, out=by_weight[k])  # zero where there is no pair
        return by_features, by_weight, None


def _convolve(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Map (M, C) by (K, C, D) to a new (n_out, D); threads share the columns."""
    width, step = weight.shape[2], lanes(x.element_size())
    padded = functional.pad(weight.detach(), (0, -width % step)).contiguous()
    out = x.new_zeros(kernel_map.n_out, padded.shape[2])
    source, matrices, total = x.detach().contiguous().numpy(), padded.numpy(), out.numpy()
    in_row, out_row, starts = (t.numpy() for t in (kernel_map.in_row, kernel_map.out_row, kernel_map.starts))

    def work(begin: int, end: int) -> None:
        add_products(source, matrices, in_row, out_row, starts, total, begin * step, end * step)

    with team():
        least = 1 + WORTH_A_THREAD // (len(in_row) * x.shape[1] * step + 1)
        run_blocks(work, padded.shape[2] // step, least)
    return out[:, :width].contiguous()
