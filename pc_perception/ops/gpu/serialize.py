# SPDX-License-Identifier: Apache-2.0
"""Codes along space-filling curves. The arithmetic is that of ``ops.serialize``, compiled once more."""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import serialize
from .launch import launch


def _on_device(function: Any) -> Any:
    # The interpreter takes functions as they are; it would look for triton.language in their module.
    return function if os.environ.get("TRITON_INTERPRET") == "1" else triton.jit(function)


spread, gather = _on_device(serialize.spread), _on_device(serialize.gather)
_turn, _straighten = _on_device(serialize.turn), _on_device(serialize.straighten)
BLOCK = 256
TOP = tl.constexpr(serialize.BITS - 1)


def z_order_into(coords: Tensor, axes: tuple[int, int, int], out: Tensor) -> None:
    """Write the Z-order codes of (N, 3) int32 or int64 ``coords``, any strides, to ``out`` (N,) int64.

    Never waits for the device: can be captured in a CUDA graph.
    """
    grid = (triton.cdiv(len(coords), BLOCK),)
    launch(_z_order, grid, coords, out, len(coords), *coords.stride(), *axes, BLOCK)


def hilbert_into(coords: Tensor, axes: tuple[int, int, int], out: Tensor, flag: Tensor) -> None:
    """Write the places along the Hilbert curve; ``flag`` (1,) int32 becomes 1 where coordinates are out of range.

    Otherwise as ``z_order_into``.
    """
    grid = (triton.cdiv(len(coords), BLOCK),)
    launch(_hilbert, grid, coords, out, flag, len(coords), *coords.stride(), *axes, BLOCK)


def curves_into(coords: Tensor, out: Tensor, flag: Tensor) -> None:
    """Write four codes at once, from one reading: Z-order and Hilbert, each with axes (0, 1, 2) and (1, 0, 2).

    Args:
        coords, flag: as ``hilbert_into``.
        out: (4, N) int64, contiguous: Z, Z transposed, Hilbert, Hilbert transposed.
    """
    grid = (triton.cdiv(len(coords), BLOCK),)
    launch(_curves, grid, coords, out, flag, len(coords), *coords.stride(), BLOCK)


def z_order(coords: Tensor, axes: tuple[int, int, int]) -> Tensor:
    """Return the Z-order codes (N,) int64."""
    out = torch.empty(len(coords), dtype=torch.int64, device=coords.device)
    z_order_into(coords, axes, out)
    return out


def hilbert(coords: Tensor, axes: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the places (N,) int64 and the flag (1,) int32 of coordinates out of range, both on the device."""
    out = torch.empty(len(coords), dtype=torch.int64, device=coords.device)
    flag = torch.zeros(1, dtype=torch.int32, device=coords.device)
    hilbert_into(coords, axes, out, flag)
    return out, flag


@triton.jit
def interleave(x, y, z):
    """Return the code with the bits of x in the lowest places."""
    return spread(x) | (spread(y) << 1) | (spread(z) << 2)


@triton.jit
def _place(x, y, z):
    """Return the place along the Hilbert curve, x with the lowest bits."""
    for level in tl.static_range(TOP, 0, -1):
        # The first of Skilling's axes has the highest bits: the order is the reverse.
        z, y, x = _turn(z, y, x, level)
    z, y, x = _straighten(z, y, x)
    return interleave(x, y, z)


@triton.jit
def _load(coords, n, stride_n, x_step, y_step, z_step, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = coords + row * stride_n
    x = tl.load(here + x_step, mask=row < n, other=0).to(tl.int64)
    y = tl.load(here + y_step, mask=row < n, other=0).to(tl.int64)
    z = tl.load(here + z_step, mask=row < n, other=0).to(tl.int64)
    return row, x, y, z


@triton.jit(do_not_specialize=["n"])
def _z_order(
    coords, out, n, stride_n, stride_c,
    X: tl.constexpr, Y: tl.constexpr, Z: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, x, y, z = _load(coords, n, stride_n, X * stride_c, Y * stride_c, Z * stride_c, BLOCK)
    tl.store(out + row, interleave(x, y, z), mask=row < n)


@triton.jit(do_not_specialize=["n"])
def _hilbert(
    coords, out, flag, n, stride_n, stride_c,
    X: tl.constexpr, Y: tl.constexpr, Z: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, x, y, z = _load(coords, n, stride_n, X * stride_c, Y * stride_c, Z * stride_c, BLOCK)
    tl.store(flag + tl.zeros_like(row), 1, mask=((x | y | z) >> (TOP + 1)) != 0)
    tl.store(out + row, _place(x, y, z), mask=row < n)


@triton.jit(do_not_specialize=["n"])
def _curves(coords, out, flag, n, stride_n, stride_c, BLOCK: tl.constexpr):
    row, x, y, z = _load(coords, n, stride_n, 0, stride_c, 2 * stride_c, BLOCK)
    tl.store(flag + tl.zeros_like(row), 1, mask=((x | y | z) >> (TOP + 1)) != 0)
    line = n.to(tl.int64)
    tl.store(out + row, interleave(x, y, z), mask=row < n)
    tl.store(out + line + row, interleave(y, x, z), mask=row < n)
    tl.store(out + 2 * line + row, _place(x, y, z), mask=row < n)
    tl.store(out + 3 * line + row, _place(y, x, z), mask=row < n)
