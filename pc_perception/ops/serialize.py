# SPDX-License-Identifier: Apache-2.0
"""Space-filling curves: integers that keep neighbours in space near each other in sequence.

Z-order (Morton, 1966): the bits of x, y and z interleaved, x in the lowest place. A parent voxel of
twice the edge has the child's code shifted right by three, so one sort serves every level.

Hilbert (Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707, 2004): the next voxel along the curve
always shares a face with the last one. Parents are found by the same shift.

Both are written once: on whole tensors for torch, on single integers for Numba, on blocks for Triton
(which would evaluate annotations: these functions have none).
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .backend import resolve
from .parallel import run_blocks

BITS = 20
"""Bits per axis: coordinates run over 0 .. 2^20 - 1 and codes fit a signed 64-bit integer."""

Axes = tuple[int, int, int]


def spread(v):  # type: ignore[no-untyped-def]
    """Put two zero bits before each of the low 21 bits of ``v`` (int64)."""
    v = v & 0x1FFFFF
    v = (v | v << 32) & 0x1F00000000FFFF
    v = (v | v << 16) & 0x1F0000FF0000FF
    v = (v | v << 8) & 0x100F00F00F00F00F
    v = (v | v << 4) & 0x10C30C30C30C30C3
    return (v | v << 2) & 0x1249249249249249


def gather(v):  # type: ignore[no-untyped-def]
    """Undo ``spread``: collect every third of the low 63 bits of ``v`` (int64)."""
    v = v & 0x1249249249249249
    v = (v | v >> 2) & 0x10C30C30C30C30C3
    v = (v | v >> 4) & 0x100F00F00F00F00F
    v = (v | v >> 8) & 0x1F0000FF0000FF
    v = (v | v >> 16) & 0x1F00000000FFFF
    return (v | v >> 32) & 0x1FFFFF


def turn(x, y, z, level):  # type: ignore[no-untyped-def]
    """Bring what lies below a bit of the coordinates into the frame of the eighth that the bit names."""
    below = (1 << level) - 1
    # All ones where the bit is set: then flip what lies below in x, else exchange it with x.
    x = x ^ (-(x >> level & 1) & below)
    flip = -(y >> level & 1)
    swap = (x ^ y) & below & ~flip
    x, y = x ^ swap ^ (flip & below), y ^ swap
    flip = -(z >> level & 1)
    swap = (x ^ z) & below & ~flip
    return x ^ swap ^ (flip & below), y, z ^ swap


def straighten(x, y, z):  # type: ignore[no-untyped-def]
    """Undo the Gray code: what remains are integers to interleave, x's bits the highest."""
    y = y ^ x
    z = z ^ y
    # The parity of all higher bits of z, for every bit at once.
    parity = z ^ z >> 1
    parity = parity ^ parity >> 2
    parity = parity ^ parity >> 4
    parity = parity ^ parity >> 8
    parity = (parity ^ parity >> 16) >> 1
    return x ^ parity, y ^ parity, z ^ parity


def z_order(coords: Tensor, axes: Axes = (0, 1, 2), backend: str | None = None) -> Tensor:
    """Return the Z-order code of each voxel.

    Args:
        coords: (N, 3) integer, each in 0 .. 2^20 - 1, any strides; N = 0 is allowed.
        axes: which axis takes the lowest, middle and highest bit; (1, 0, 2) is the transposed curve.

    Returns:
        (N,) int64, one to one. Identical on all backends; the CPU has one path. O(N), no gradient.
    """
    if resolve(coords.device, backend) == "triton":
        from .gpu.serialize import z_order as z_order_triton

        return z_order_triton(coords, axes)
    c = coords.to(torch.int64)
    return spread(c[:, axes[0]]) | spread(c[:, axes[1]]) << 1 | spread(c[:, axes[2]]) << 2


def hilbert(coords: Tensor, axes: Axes = (0, 1, 2), backend: str | None = None) -> Tensor:
    """Return the place of each voxel along the Hilbert curve.

    Args:
        coords: (N, 3) integer, each in 0 .. 2^20 - 1, any strides; N = 0 is allowed.
        axes: which axis takes the lowest, middle and highest bit; (1, 0, 2) is the transposed curve.

    Returns:
        (N,) int64, one to one; voxels with successive codes share a face. Identical on all backends. O(20 N),
        no gradient.

    Raises:
        ValueError: a coordinate is negative or too large: the curve would fold onto itself.
    """
    chosen = resolve(coords.device, backend)
    if chosen == "triton":
        from .gpu.launch import raised
        from .gpu.serialize import hilbert as hilbert_triton

        found, flag = hilbert_triton(coords, axes)
        _refuse(raised(flag))
        return found
    _refuse(len(coords) > 0 and not (int(coords.min()) >= 0 and int(coords.max()) < 2**BITS))
    c = coords.to(torch.int64)
    if chosen == "numba":
        lattice, codes = c.numpy(), np.empty(len(c), np.int64)
        run_blocks(lambda a, b: _hilbert(lattice[a:b], axes, codes[a:b]), len(codes))
        return torch.from_numpy(codes)
    x, y, z = (c[:, axis] for axis in reversed(axes))
    for level in range(BITS - 1, 0, -1):
        x, y, z = turn(x, y, z, level)
    x, y, z = straighten(x, y, z)
    return spread(z) | spread(y) << 1 | spread(x) << 2


def _refuse(outside: bool) -> None:
    if outside:
        raise ValueError(f"voxel coordinates must be in 0 .. 2^{BITS} - 1; subtract their minimum first")


spread_scalar = njit(inline="always")(spread)
gather_scalar = njit(inline="always")(gather)
_turn_scalar = njit(inline="always")(turn)

_straighten_scalar = njit(inline="always")(straighten)
BLOCK = 512


@njit(cache=True, nogil=True)
def _hilbert(coords: np.ndarray, axes: Axes, codes: np.ndarray) -> None:
    columns = np.empty((3, BLOCK), np.int64)
    x, y, z = columns[0], columns[1], columns[2]
    for start in range(0, len(coords), BLOCK):
        size = min(BLOCK, len(coords) - start)
        for i in range(size):
            voxel = coords[start + i]
            x[i], y[i], z[i] = voxel[axes[2]], voxel[axes[1]], voxel[axes[0]]
        # Level by level over a block that stays in cache: only then do vector instructions come of it.
        for level in range(BITS - 1, 0, -1):
            for i in range(size):
                x[i], y[i], z[i] = _turn_scalar(x[i], y[i], z[i], level)
        for i in range(size):
            a, b, c = _straighten_scalar(x[i], y[i], z[i])
            codes[start + i] = spread_scalar(c) | spread_scalar(b) << 1 | spread_scalar(a) << 2
