# SPDX-License-Identifier: Apache-2.0
"""The layers of sparse U-Nets: rows of voxels in, rows of voxels out, relations in ``Lattice``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.ops.kernel_maps import KernelMap, strided_map, submanifold_map
from pc_perception.ops.sparse_convolution import sparse_convolution

from .pyramid import Pyramid


@dataclass(frozen=True)
class Lattice:
    """Kernel maps of a pyramid, fine to coarse.

    Attributes:
        around: of each level, 27 offsets: the voxels around each one.
        down: from each level but the coarsest to the next, 8 offsets.
        up: the same pairs from coarse to fine; both levels are in Z-order, so output rows ascend here too.
    """

    around: Sequence[KernelMap]
    down: Sequence[KernelMap]
    up: Sequence[KernelMap]

    @classmethod
    def of(cls, pyramid: Pyramid) -> Lattice:
        """Find which voxels meet; scenes stay apart. Where rows lie in coarser levels follows the pyramid."""
        around = [submanifold_map(level.coords, level.offsets) for level in pyramid.levels]
        down = [strided_map(level.coords, level.offsets)[0] for level in pyramid.levels[:-1]]
        up = [pairs.turned(len(finer)) for pairs, finer in zip(down, pyramid.levels, strict=False)]
        return cls(around, down, up)


class SparseConvolution(nn.Module):
    """Weights (K, C, D) over the offsets of a kernel map, without bias."""

    def __init__(self, n_offsets: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_offsets, n_in, n_out))
        # On "meta" there is nothing to fill, and torch._dynamo would be imported for it: a second and 140 MB.
        if not self.weight.is_meta:
            nn.init.normal_(self.weight, std=(2 / (n_offsets * n_out)) ** 0.5)  # He et al. 2015, fan out

    def forward(self, x: Tensor, pairs: KernelMap) -> Tensor:
        """Map (M, C) to (pairs.n_out, D)."""
        return sparse_convolution(x, self.weight, pairs)


class BatchNorm(nn.Module):
    """Batch normalisation of rows; without torch's integer counter, which model files do not hold."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, C) to (M, C), by the batch's statistics in training, by the running ones otherwise."""
        # The coarsest level of a small scene may be one voxel, which has no variance.
        live = self.training and len(x) > 1
        statistics = (self.running_mean, self.running_var, self.weight, self.bias)
        return functional.batch_norm(x, *statistics, live, self.momentum)


class Unit(nn.Module):
    """Convolution, normalisation and, where wanted, a rectifier."""

    def __init__(self, n_offsets: int, n_in: int, n_out: int, relu: bool = True) -> None:
        super().__init__()
        self.convolution, self.norm = SparseConvolution(n_offsets, n_in, n_out), BatchNorm(n_out)
        self.relu = relu

    def forward(self, x: Tensor, pairs: KernelMap) -> Tensor:
        """Map (M, C) to (pairs.n_out, D)."""
        x = self.norm(self.convolution(x, pairs))
        return functional.relu(x) if self.relu else x


class Stage(nn.ModuleList):
    """Residual blocks behind each other, the first of which changes the width."""

    def __init__(self, n_in: int, n_out: int, n_blocks: int) -> None:
        super().__init__(ResidualBlock(n_out if i else n_in, n_out) for i in range(n_blocks))

    def forward(self, x: Tensor, around: KernelMap) -> Tensor:
        """Map (M, n_in) to (M, n_out)."""
        for block in self:
            x = block(x, around)
        return x


class ResidualBlock(nn.Module):
    """Two submanifold convolutions of 3^3 with a shortcut, 1x1 where the width changes (ResNet's basic block)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = Unit(27, n_in, n_out), Unit(27, n_out, n_out, relu=False)
        self.shortcut: nn.Sequential | None = None
        if n_in != n_out:
            self.shortcut = nn.Sequential(nn.Linear(n_in, n_out, bias=False), BatchNorm(n_out))

    def forward(self, x: Tensor, around: KernelMap) -> Tensor:
        """Map (M, C) to (M, D)."""
        beside = x if self.shortcut is None else self.shortcut(x)
        return functional.relu(self.second(self.first(x, around), around) + beside)
