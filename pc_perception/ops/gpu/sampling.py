# SPDX-License-Identifier: Apache-2.0
"""Farthest point sampling in Triton: clouds that fit the registers of one program in one launch, others in passes.

Neither form reads anything back on the host, so both can be captured in a CUDA graph. Fused multiply-adds are
off: a distance must have the reference's last bit for ties to fall the same way.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

ONE_PROGRAM = 8192
"""Points of a cloud that one program keeps: 32 warps have 64 registers a thread, four of them a point."""
TILE = 1024
"""Points that a program of the many-pass form lowers in one pass."""


def sample_farthest(
    xyz: Tensor,
    starts: Tensor,
    first: Tensor,
    ends: Tensor,
    largest: int,
    most: int,
    skip_below: float,
    out: Tensor,
    one_program: int = ONE_PROGRAM,
) -> None:
    """Write the rows of the farthest points of each scene, within the scene.

    Args:
        xyz: (N, 3) float32 or float64, contiguous, finite, metres.
        starts: (B + 1,) int64, rows where the scenes start and end.
        first: (B,) int64, the first sample of each, an index within it.
        ends: (B + 1,) int64, where the samples of each scene start and end in ``out``; samples <= points.
        largest: points of the largest scene, at most (a bucket's capacity does).
        most: samples of any scene, at most.
        skip_below: points of at most this squared norm, square metres, come last; negative for none.
        out: (sum of samples,) int64, contiguous.
        one_program: scenes of more points are sampled in ``most`` launches.

    A scene without samples is left alone. O(N m), no gradient.
    """
    scenes = len(first)
    if not scenes or not most:
        return
    if largest <= one_program:
        block = max(triton.next_power_of_2(largest), 32)
        warps = min(max(block // 256, 1), 32)
        launch(
            _in_one_program, (scenes,),
            xyz, starts, first, ends, out, skip_below, block, num_warps=warps, enable_fp_fusion=False
        )  # fmt: skip
        return
    tiles = triton.cdiv(largest, TILE)
    nearest = torch.empty(len(xyz), dtype=xyz.dtype, device=xyz.device)
    best = torch.empty(2, scenes, tiles, dtype=xyz.dtype, device=xyz.device)
    who = torch.empty(2, scenes, tiles, dtype=torch.int64, device=xyz.device)
    padded = triton.next_power_of_2(tiles)
    for step in range(1, most + 1):
        launch(
            _one_pass, (tiles, scenes),
            xyz, starts, first, ends, nearest, best, who, out, step, tiles, skip_below, padded, TILE,
            num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit
def _load_points(xyz, rows, inside):  # type: ignore[no-untyped-def]
    x = tl.load(xyz + 3 * rows, mask=inside, other=0.0)
    y = tl.load(xyz + 3 * rows + 1, mask=inside, other=0.0)
    z = tl.load(xyz + 3 * rows + 2, mask=inside, other=0.0)
    return x, y, z


@triton.jit
def _untouched(x, y, z, inside, skip_below: tl.constexpr):  # type: ignore[no-untyped-def]
    # Below all distances: what is skipped; below that: what is not there.
    skipped = x * x + y * y + z * z <= skip_below
    none = tl.where(inside, x * 0 + float("inf"), -float("inf"))
    return tl.where(skipped & inside, -1.0, none)


@triton.jit
def _in_one_program(  # type: ignore[no-untyped-def]
    xyz, starts, first, ends, out, skip_below: tl.constexpr, BLOCK: tl.constexpr
):
    scene = tl.program_id(0)
    base = tl.load(starts + scene)
    lanes = tl.arange(0, BLOCK)
    inside = lanes < tl.load(starts + scene + 1) - base
    x, y, z = _load_points(xyz, base + lanes, inside)
    nearest = _untouched(x, y, z, inside, skip_below)
    slot = tl.load(ends + scene)
    stop = tl.load(ends + scene + 1)
    chosen = tl.load(first + scene)
    while slot < stop:
        tl.store(out + slot, chosen)
        row = xyz + 3 * (base + chosen)
        dx, dy, dz = x - tl.load(row), y - tl.load(row + 1), z - tl.load(row + 2)
        nearest = tl.minimum(nearest, dx * dx + dy * dy + dz * dz)
        chosen = tl.argmax(nearest, 0).to(tl.int64)  # the first of equals
        slot += 1


@triton.jit(do_not_specialize=["step"])
def _one_pass(  # type: ignore[no-untyped-def]
    xyz, starts, first, ends, nearest, best, who, out, step, tiles,
    skip_below: tl.constexpr, TILES: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Take the best of what the last pass found, write it, and lower the distances of one tile to it.

    Passes alternate between two sets of partial maxima: programs of one pass are not ordered.
    """
    tile, scene = tl.program_id(0), tl.program_id(1)
    scenes = tl.num_programs(1)
    base = tl.load(starts + scene)
    count = tl.load(ends + scene + 1) - tl.load(ends + scene)
    if step <= count:
        chosen = tl.load(first + scene)
        if step > 1:
            parts = tl.arange(0, TILES)
            past = ((step - 1) % 2 * scenes + scene) * tiles + parts
            value = tl.load(best + past, mask=parts < tiles, other=-float("inf"))
            index = tl.load(who + past, mask=parts < tiles, other=0)
            winner = tl.argmax(value, 0)  # tiles ascend, so the first of equals has the lowest index
            chosen = tl.sum(tl.where(parts == winner, index, 0), 0)
        if tile == 0:
            tl.store(out + tl.load(ends + scene) + step - 1, chosen)
        lanes = tile * TILE + tl.arange(0, TILE)
        inside = lanes < tl.load(starts + scene + 1) - base
        x, y, z = _load_points(xyz, base + lanes, inside)
        before = _untouched(x, y, z, inside, skip_below)
        if step > 1:
            before = tl.load(nearest + base + lanes, mask=inside, other=-float("inf"))
        row = xyz + 3 * (base + chosen)
        dx, dy, dz = x - tl.load(row), y - tl.load(row + 1), z - tl.load(row + 2)
        lowered = tl.minimum(before, dx * dx + dy * dy + dz * dz)
        tl.store(nearest + base + lanes, lowered, mask=inside)
        part = (step % 2 * scenes + scene) * tiles + tile
        tl.store(best + part, tl.max(lowered, 0))
        tl.store(who + part, (tile * TILE + tl.argmax(lowered, 0)).to(tl.int64))
