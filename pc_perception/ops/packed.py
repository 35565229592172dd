# SPDX-License-Identifier: Apache-2.0
"""Several scenes in one tensor: dense (B, N, 3), or packed (N, 3) with offsets for scenes of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .parallel import team

LARGEST = 1e18
"""Coordinates beyond this, metres, would overflow when squared in float32."""


@dataclass(frozen=True)
class Packed:
    """Checked points of several scenes.

    Attributes:
        xyz: (N, 3) float32 or float64, contiguous, finite, detached.
        starts: B + 1 row numbers; scene b is ``xyz[starts[b]:starts[b + 1]]``.
        dense: whether the scenes came as (B, N, 3).
    """

    xyz: Tensor
    starts: list[int]
    dense: bool

    def __len__(self) -> int:
        return len(self.starts) - 1

    def scene(self, b: int) -> Tensor:
        """Return the points of scene ``b``."""
        return self.xyz[self.starts[b] : self.starts[b + 1]]


def pack(points: Tensor, offsets: Tensor | Sequence[int] | None, name: str = "points") -> Packed:
    """Check points and bring them into one layout.

    Args:
        points: (N, 3) or dense (B, N, 3) float; float16 and bfloat16 become float32; any strides.
        offsets: (B + 1,) ascending row numbers from 0 to N; None: one scene, or dense.

    Raises:
        ValueError: wrong shape or dtype, offsets that do not cut the rows, NaN, Inf or over 1e18 m (the last
            three are not looked for while a CUDA graph is being captured).
    """
    if points.ndim not in (2, 3) or points.shape[-1] != 3:
        raise ValueError(f"{name} must be (N, 3) or (B, N, 3), got {tuple(points.shape)}")
    if not points.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {points.dtype}; use .float()")
    dense = points.ndim == 3
    if dense and offsets is not None:
        raise ValueError(f"{name} are dense (B, N, 3): offsets belong to packed (N, 3) points")
    xyz = points.detach().reshape(-1, 3).contiguous()
    if xyz.dtype not in (torch.float32, torch.float64):
        xyz = xyz.float()
    if dense:
        starts = [b * points.shape[1] for b in range(points.shape[0] + 1)]
    else:
        starts = [0, len(xyz)] if offsets is None else [int(o) for o in offsets]
    if starts[:1] != [0] or starts[-1] != len(xyz) or starts != sorted(starts):
        raise ValueError(f"offsets of {name} must ascend from 0 to {len(xyz)}, got {starts[:8]} ..")
    if not capturing(xyz):
        _check_size(xyz, name)
    return Packed(xyz, starts, dense)


def _check_size(xyz: Tensor, name: str) -> None:
    with team():  # waking threads for this one pass costs more than the pass
        largest = float(xyz.abs().amax()) if len(xyz) else 0.0
    if not largest < LARGEST:  # true of NaN as well
        n_bad = int((~(xyz.abs().amax(1) < LARGEST)).sum())
        raise ValueError(f"{n_bad} of {len(xyz)} {name} hold NaN, Inf or over {LARGEST:g} m; drop them first")


def capturing(t: Tensor) -> bool:
    """Say whether a CUDA graph is being captured: then nothing on the device of ``t`` can be waited for."""
    return t.is_cuda and torch.cuda.is_current_stream_capturing()


def numbers_on(device: torch.device, numbers: Sequence[int]) -> Tensor:
    """Return ``numbers`` as int64 on ``device``; evenly spaced ones, such as equal scenes' offsets, are made there.

    A copy from the host waits for the device, and cannot be captured in a CUDA graph.
    """
    steps = {b - a for a, b in pairwise(numbers)}
    if not numbers or len(steps) > 1:
        return torch.tensor(numbers, dtype=torch.int64, device=device)
    first, step = numbers[0], steps.pop() if steps else 0
    if step == 0:
        return torch.full((len(numbers),), first, dtype=torch.int64, device=device)
    return torch.arange(first, numbers[-1] + step, step, dtype=torch.int64, device=device)


def check_out(out: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``out`` if it can take the result, a new tensor where it is None.

    Raises:
        ValueError: its shape, dtype, device or layout differ from the result's.
    """
    if out is None:
        return torch.empty(shape, dtype=dtype, device=device)
    if (tuple(out.shape), out.dtype, out.device) != (shape, dtype, device) or not out.is_contiguous():
        raise ValueError(
            f"out must be contiguous {shape} {dtype} on {device}, got {tuple(out.shape)} {out.dtype} on {out.device}"
        )
    return out
