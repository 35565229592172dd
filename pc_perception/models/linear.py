# SPDX-License-Identifier: Apache-2.0
"""Linear layers that may multiply in bfloat16, where a CPU does that in half the time."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

PRECISIONS = ("auto", "float32", "bfloat16")


class Linear(nn.Linear):
    """``nn.Linear``; once ``set_precision`` asks for it, factors are rounded to bfloat16 and sums kept in float32.

    What goes in and comes out stays float32: residuals, norms and memories never see the rounding of others.
    """

    low = False
    _ready: tuple[Tensor, Tensor | None] | None = None

    def forward(self, x: Tensor, keep: bool = False) -> Tensor:
        """Map (..., in_features) to (..., out_features).

        Args:
            x: float; bfloat16 only as an earlier layer kept it.
            keep: leave the result in bfloat16, for a next layer that would round it to that anyway.
        """
        if not self.low or x.dtype not in (torch.float32, torch.bfloat16):
            return super().forward(x)
        weight, bias = self.factors()
        y = functional.linear(x.bfloat16(), weight, bias)
        return y if keep else y.float()

    def factors(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias as they enter the product: float32, or rounded to bfloat16."""
        if not self.low:
            return self.weight, self.bias
        return self._ready or self._rounded()

    def _rounded(self) -> tuple[Tensor, Tensor | None]:
        return self.weight.bfloat16(), None if self.bias is None else self.bias.bfloat16()


def set_precision(network: nn.Module, precision: str, device: torch.device) -> str:
    """Choose what the linear layers of ``network`` multiply in.

    Args:
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 on CPUs that have instructions for it.

    Returns:
        The choice.

    Raises:
        ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}' is unknown; use one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        precision = "bfloat16" if device.type == "cpu" and cpu_has_bfloat16() else "float32"
    for layer in network.modules():
        if isinstance(layer, Linear):
            layer.low = precision == "bfloat16"
            # Weights that no longer change are rounded once.
            layer._ready = layer._rounded() if layer.low and not layer.weight.requires_grad else None
    return precision


@cache
def cpu_has_bfloat16() -> bool:
    """Say whether this CPU multiplies bfloat16 natively (Linux; elsewhere no)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith(("flags", "Features"))), [])
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
