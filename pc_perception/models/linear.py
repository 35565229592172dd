# SPDX-License-Identifier: Apache-2.0
"""Linear layers that may multiply in bfloat16, where a CPU does that in half the time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pc_perception.ops.backend import resolve
from pc_perception.ops.dense_rows import HAS_PAIRS, Packed, dense, pack

PRECISIONS = ("auto", "float32", "bfloat16")


class Linear(nn.Linear):
    """``nn.Linear``; after ``set_precision``, factors may be rounded to bfloat16, sums are kept in float32.

    What goes in and comes out stays float32: residuals, norms and memories never see the rounding of others. For
    inference: in training, casts and the compilation of ever new shapes cost as much as the products gain (measured).
    On a CPU the products are our own then, in either precision (``ops.dense_rows``).
    """

    _rounded: tuple[Tensor, Tensor | None] | None = None
    _fixed = False
    _packed: Packed | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if x.dtype != torch.float32 or not self._fixed:
            return super().forward(x)
        if torch.is_inference_mode_enabled() and resolve(x.device) == "numba":
            return dense(x.reshape(-1, self.in_features), self.packed()).view(
                *x.shape[:-1], self.out_features
            )
        if self._rounded is None:
            return super().forward(x)
        return functional.linear(x.bfloat16(), *self._rounded).float()

    def factors(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias as they enter the product: float32, or rounded to bfloat16."""
        return self._rounded or (self.weight, self.bias)

    def packed(self) -> Packed:
        """Return the same for products within kernels on the CPU; the bias, which is no factor, stays float32."""
        if self._packed is not None:
            return self._packed
        packed = pack(self.weight, self.bias, self._rounded is not None)
        if self._fixed:
            self._packed = packed
        return packed

    def choose(self, precision: str) -> None:
        """Multiply in ``precision`` from now on; the weights must not change any more."""
        low = (None if t is None else t.detach().bfloat16() for t in (self.weight, self.bias))
        self._rounded = tuple(low) if precision == "bfloat16" else None  # type: ignore[assignment]
        self._fixed, self._packed = True, None


def set_precision(network: nn.Module, precision: str, device: torch.device) -> str:
    """Choose what the linear layers of ``network``, which is trained no further, multiply in.

    Args:
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 on CPUs and GPUs that have instructions for it.

    Returns:
        The choice.

    Raises:
        ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}' is unknown; use one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    for layer in network.modules():
        if isinstance(layer, Linear):
            layer.choose(precision)
    return precision


def has_bfloat16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 natively, on CPUs in our own products."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and HAS_PAIRS
