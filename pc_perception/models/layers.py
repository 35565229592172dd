# SPDX-License-Identifier: Apache-2.0
"""The blocks that scene encoders are made of: each takes and returns packed tokens (T, C)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.ops.backend import resolve
from pc_perception.ops.dense_rows import norm_dense, pack
from pc_perception.ops.grouping import Neighborhood, neighbor_max
from pc_perception.ops.neighborhood import BlockWeights, neighborhood_block
from pc_perception.ops.parallel import by_rows
from pc_perception.ops.recurrence import Offsets, checked_offsets, gated_delta_rule
from pc_perception.ops.short_convolution import convolve_whole, short_convolution

from .linear import Linear


class NormLinear(nn.Sequential):
    """Layer norm, then a linear layer with bias: one kernel in inference, which on the CPU shares the rows itself."""

    def __init__(self, norm: nn.LayerNorm, linear: nn.Linear) -> None:
        super().__init__(norm, linear)

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, C) to (T, D)."""
        norm: Any
        linear: Any
        norm, linear = self
        backend = (
            resolve(x.device) if torch.is_inference_mode_enabled() and x.dtype == torch.float32 else "torch"
        )
        if backend == "numba":
            layer = (
                linear.packed() if isinstance(linear, Linear) else pack(linear.weight, linear.bias, low=False)
            )
            return norm_dense(x, _arrays(norm), layer)
        if backend == "triton":
            from pc_perception.ops.gpu import neighborhood as kernels

            weight, bias = linear.factors() if isinstance(linear, Linear) else (linear.weight, linear.bias)
            if x.shape[1] <= kernels.most_channels(x.device, weight.dtype) and bias is not None:
                return kernels.norm_linear(x.contiguous(), norm.weight, norm.bias, weight, bias, norm.eps)
        return super().forward(x)


class NeighborhoodBlock(nn.Module):
    """Residual block: maximum over edge features of the neighbours, then an MLP per token.

    The edge feature W x_j + P (p_j - p_i) splits into (W x_j + P p_j) - P p_i, so only tokens are
    multiplied, never edges, and one gather-maximum does the rest (the cheap EdgeConv of DeLA /
    CamPoint; PointCSP's paper leaves the host open).
    """

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        self.edge_norm = nn.LayerNorm(width)
        self.edge = Linear(width, width, bias=False)
        self.position = nn.Linear(3, width, bias=False)
        self.mix = Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            Linear(width, expansion * width),
            nn.ReLU(inplace=True),
            Linear(expansion * width, width),
        )

    def forward(self, x: Tensor, position: Tensor, neighbors: Neighborhood) -> Tensor:
        """Map (T, C) features at (T, 3) positions (in units of the level's voxel edge) to (T, C)."""
        if torch.is_inference_mode_enabled() and x.dtype == torch.float32:
            backend = resolve(x.device)
            if backend == "numba":
                return neighborhood_block(x.contiguous(), position, neighbors, self._weights())
            if backend == "triton":
                from pc_perception.ops.gpu import neighborhood as kernels

                weights = kernels.Weights(*self._tensors())
                if x.shape[1] <= kernels.most_channels(x.device, weights.edge.dtype):
                    return kernels.neighborhood_block(x, position, neighbors, weights, self.edge_norm.eps)
        here = self.position(position)
        offered = by_rows(lambda x, here: self.edge(self.edge_norm(x)) + here, x, here)
        return by_rows(self._update, x, neighbor_max(offered, neighbors), here)

    def _weights(self) -> BlockWeights:
        mlp: Any = self.mlp
        position = np.ascontiguousarray(self.position.weight.numpy().T)
        layers = (layer.packed() for layer in (self.edge, self.mix, mlp[1], mlp[3]))
        return BlockWeights(_arrays(self.edge_norm), _arrays(mlp[0]), position, *layers)

    def _tensors(self) -> tuple[Tensor, ...]:
        # The layers' own: nothing is copied, and whatever replaces them is followed.
        mlp: Any = self.mlp
        offer = (self.edge_norm.weight, self.edge_norm.bias, self.edge.factors()[0], self.position.weight)
        mix = (*self.mix.factors(), mlp[0].weight, mlp[0].bias)
        return *offer, *mix, *mlp[1].factors(), *mlp[3].factors()  # type: ignore[return-value]

    def _update(self, x: Tensor, strongest: Tensor, here: Tensor) -> Tensor:
        # In place where nothing is needed for a gradient (the maximum itself is, by the torch backend): a live
        # sweep spends a tenth of its time on tensors that are used once.
        x = self.mix((strongest - here).relu_()).add_(x)
        return self.mlp(x).add_(x)


def _arrays(norm: nn.LayerNorm) -> tuple[np.ndarray, np.ndarray]:
    return norm.weight.numpy(), norm.bias.numpy()


@dataclass(frozen=True)
class MixerState:
    """What a ``GatedDeltaNet`` remembers of each of S sequences; its size does not depend on their lengths.

    Attributes:
        memory: (S, H, d_key, d_value) float32 matrices of the gated delta rule.
        recent: (S, conv - 1, channels) last tokens, of queries, keys and values, that the convolution looks back at.
    """

    memory: Tensor
    recent: Tensor


class GatedDeltaNet(nn.Module):
    """Linear-time sequence mixer: gated delta rule with short convolution and output gate.

    Source: arXiv 2412.06464, section 3.4 (initial decays as there; shape of the memory and count of heads are
    ours). The state and the convolution's buffer start empty at every sequence: whatever
    lies in another sequence of the call has no influence.

    Args:
        width: channels of a token.
        n_heads, d_key, d_value: count and shape of the memories.
        conv: tokens that the convolution sees.
        negative: let a write reflect, beta in (0, 2): transitions then have eigenvalues down to -1, which lets the
            memory count modulo two. Optional in the paper's code, off there.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        d_key: int,
        d_value: int,
        conv: int = 4,
        negative: bool = False,
    ) -> None:
        super().__init__()
        self.n_heads, self.d_key, self.d_value, self.conv = n_heads, d_key, d_value, conv
        self.largest_write = 2.0 if negative else 1.0
        keys, values = n_heads * d_key, n_heads * d_value
        self.split = (2 * keys + values, values, n_heads, n_heads)
        self.project = Linear(width, sum(self.split), bias=False)
        self.kernel = nn.Parameter(torch.empty(2 * keys + values, 1, conv))
        self.log_A, self.step_bias = (nn.Parameter(torch.empty(n_heads)) for _ in range(2))
        # On "meta", where the network of a model file is built, there is nothing to fill, and arithmetic would import
        # torch._dynamo: a second and 140 MB.
        if not self.kernel.is_meta:
            self._begin()
        self.norm_weight = nn.Parameter(torch.ones(d_value))
        self.out = Linear(values, width, bias=False)

    @torch.no_grad()
    def _begin(self) -> None:
        """Draw the convolution; exp(A) over 1..16 and a step of 1e-3..1e-1, as Mamba-2 and Gated DeltaNet start."""
        self.kernel.copy_(torch.randn(self.kernel.shape) / self.conv**0.5)
        self.log_A.copy_(torch.linspace(1, 16, self.n_heads).log())
        step = torch.logspace(-3, -1, self.n_heads)
        self.step_bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, x: Tensor, offsets: Offsets, order: Tensor | None = None) -> Tensor:
        """Mix (T, C) tokens along sequences.

        Args:
            x: (T, C), sequences one behind the other.
            offsets: where sequences begin and end; the state is reset at each.
            order: (T,) int64 permutation, row of the t-th token of the sequences; None: as they lie.

        Returns:
            (T, C), rows as in x.
        """
        if torch.is_inference_mode_enabled() and x.dtype == torch.float32 and resolve(x.device) == "triton":
            from pc_perception.ops.gpu import mixer as kernels

            if max(self.d_key, self.d_value) <= kernels.MOST_CHANNELS:
                projected = self.project(x)
                edges = torch.as_tensor(checked_offsets(offsets, len(x)), device=x.device)
                given = projected, order, edges
                steps = self.log_A, self.step_bias, self.largest_write
                tokens = kernels.tokens(*given, self.kernel, *steps, self.d_key, self.d_value)
                read, _ = gated_delta_rule(*tokens, edges)
                return self.out(kernels.gated(read, *given, self.norm_weight))
        if order is not None:
            mixed = self(x.index_select(0, order), offsets)
            return torch.zeros_like(mixed).index_copy(0, order, mixed)
        qkv, *gates = self._projected(x)
        qkv = convolve_whole(qkv, self.kernel.to(qkv.dtype), offsets)
        return self._remember(qkv, gates, offsets, None)[0]

    def resume(self, x: Tensor, offsets: Offsets, state: MixerState | None) -> tuple[Tensor, MixerState]:
        """Do the same from where ``state`` left each sequence (None: empty); sequences may come in pieces.

        Returns:
            (T, C) and the state after each sequence.
        """
        memory, recent = (state.memory, state.recent) if state else (None, None)
        qkv, *gates = self._projected(x)
        qkv, recent = short_convolution(qkv, self.kernel.to(qkv.dtype), offsets, recent)
        mixed, memory = self._remember(qkv, gates, offsets, memory)
        return mixed, MixerState(memory, recent)

    def _projected(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.project(x).split(self.split, -1)

    def _remember(
        self, qkv: Tensor, gates: Sequence[Tensor], offsets: Offsets, memory: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        gate, decay, write = gates
        keys = self.n_heads * self.d_key
        q, k, v = qkv.split((keys, keys, gate.shape[-1]), -1)
        q, k, v = by_rows(self._query, q), by_rows(self._key, k), by_rows(self._heads, v)
        wide = torch.promote_types(decay.dtype, torch.float32)
        log_decay = -self.log_A.exp() * functional.softplus(decay.to(wide) + self.step_bias)
        beta = write.to(wide).sigmoid() * self.largest_write
        read, memory = gated_delta_rule(q, k, v, log_decay, beta, offsets, memory)
        return by_rows(self._finish, read, gate), memory

    def _heads(self, x: Tensor) -> Tensor:
        return functional.silu(x).unflatten(-1, (self.n_heads, -1))

    def _key(self, x: Tensor) -> Tensor:
        return _unit(self._heads(x))

    def _query(self, x: Tensor) -> Tensor:
        return self._key(x) * self.d_key**-0.5

    def _finish(self, read: Tensor, gate: Tensor) -> Tensor:
        # In the weight's precision: under autocast that is float32, and what was read is not.
        read = read.to(self.norm_weight.dtype)
        read = functional.rms_norm(read, (self.d_value,), self.norm_weight, eps=1e-5).flatten(-2)
        return self.out(read * functional.silu(gate))


def _unit(t: Tensor) -> Tensor:
    """Scale the last axis to length one, at least in float32 (a zero vector stays zero)."""
    wide = t.to(torch.promote_types(t.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + 1e-6)).to(t.dtype)


class SequenceBlock(nn.Module):
    """Residual gated-delta-net block that walks tokens in a given order.

    It takes an order and reset positions and knows nothing more: cross-sample propagation is made by
    the caller's choice of both (training/methods). Arguments as those of its ``GatedDeltaNet``.
    """

    def __init__(self, width: int, n_heads: int, d_key: int, d_value: int, negative: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixer = GatedDeltaNet(width, n_heads, d_key, d_value, negative=negative)

    def forward(self, x: Tensor, order: Tensor, resets: Offsets) -> Tensor:
        """Map (T, C) to (T, C).

        Args:
            order: (T,) int64 permutation; token order[t] is the t-th of the walk.
            resets: boundaries of sequences in walk positions, from 0 to T.
        """
        return x + self.mixer(self.norm(x), resets, order)
