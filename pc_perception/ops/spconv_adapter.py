# SPDX-License-Identifier: Apache-2.0
"""Sparse convolution by spconv 2.3 over our kernel maps, where that optional package is installed."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernel_maps import KernelMap


def sparse_convolution(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Do what ``ops.sparse_convolution`` documents, by spconv's gather-multiply-scatter, with its gradients.

    On the CPU this is right with one thread alone (spconv's threads share a buffer): there ``ops.backend`` refuses
    it, and only the tests come here.
    """
    from spconv.core import ConvAlgo
    from spconv.pytorch.functional import indice_conv

    counts, offset = kernel_map.starts.diff(), kernel_map.offset
    if not len(offset):
        return features.sum() * 0 + weight.sum() * 0 + features.new_zeros(kernel_map.n_out, weight.shape[2])
    column = torch.arange(len(offset), device=offset.device) - kernel_map.starts[offset]
    pairs = torch.full((2, len(counts), int(counts.max())), -1, dtype=torch.int32, device=offset.device)
    pairs[0, offset, column] = kernel_map.in_row.int()
    pairs[1, offset, column] = kernel_map.out_row.int()
    filters = weight.permute(2, 0, 1).contiguous()  # spconv keeps (out, offsets, in)
    return indice_conv(features, filters, pairs, counts.int(), kernel_map.n_out, ConvAlgo.Native)
