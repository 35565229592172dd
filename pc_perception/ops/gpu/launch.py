# SPDX-License-Identifier: Apache-2.0
"""Start kernels on the device of their tensors, and know when the host must not wait for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pc_perception.ops.packed import capturing


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Start ``kernel`` with ``grid`` programs on the device of its first argument; do nothing for an empty grid."""
    if 0 in grid:
        return  # CUDA refuses a grid without programs
    if not arguments[0].is_cuda:
        kernel[grid](*arguments, **options)
        return
    with torch.cuda.device(arguments[0].device):
        kernel[grid](*arguments, **options)


def raised(flag: Tensor) -> bool:
    """Read a flag (one element) that a kernel left on the device: this waits for the kernel.

    While a CUDA graph is being captured nothing can be waited for, and no flag counts as raised: what the flag
    stands for is then left out of the result.
    """
    return not capturing(flag) and bool(flag.item())
