# SPDX-License-Identifier: Apache-2.0
"""Farthest point sampling in Triton: points and distances stay in registers while the samples are chosen.

A scene is one program's, or of several that run together and tell one another their best; where neither can be, every
sample is a launch. No form reads anything back on the host, so all can be captured in a CUDA graph. Fused
multiply-adds are off: a distance must have the reference's last bit for ties to fall the same way.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

ONE_PROGRAM = 8192
"""Points that fit one program's registers, four of them a point."""
ALONE = 4096
"""Scenes of more points are quicker in several programs, where all of those can run at once."""
LEAST_TILE, FEW_PROGRAMS = 1024, 32
"""Points that a program of several has at least, and programs of a scene that one load of a warp hears from."""
SLOTS_BYTES = 1 << 26
"""What programs tell one another may take at most."""
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
) -> None:
    """Write the rows of the farthest points of each scene, within the scene.

    Args:
        xyz: (N, 3) float32 or float64, contiguous, finite, metres.
        starts: (B + 1,) int64, rows where the scenes start and end; a scene has less than 2^31.
        first: (B,) int64, the first sample of each, an index within it.
        ends: (B + 1,) int64, where the samples of each scene start and end in ``out``; samples <= points.
        largest: points of the largest scene, at most (a bucket's capacity does).
        most: samples of any scene, at most.
        skip_below: points of at most this squared norm, square metres, come last; negative for none.
        out: (sum of samples,) int64, contiguous.

    A scene without samples is left alone. O(N m), no gradient.
    """
    if not len(first) or not most:
        return
    scenes = xyz, starts, first, ends
    if largest > ALONE and (tile := tile_together(xyz, len(first), largest, most)):
        sample_together(*scenes, largest, most, skip_below, out, tile, warps_of(tile))
    elif largest <= ONE_PROGRAM:
        block = max(triton.next_power_of_2(largest), 32)
        sample_alone(*scenes, skip_below, out, block, warps_of(block))
    else:
        sample_in_passes(*scenes, largest, most, skip_below, out)


def warps_of(points: int) -> int:
    """Return the warps that keep this many points: four, which an SM runs side by side, as far as they are filled."""
    return 1 if points <= 512 else 4 if points <= 4096 else 8


def tile_together(xyz: Tensor, scenes: int, largest: int, most: int) -> int | None:
    """Return the points of a program for ``sample_together``, or None where it cannot be: all must run at once."""
    if not xyz.is_cuda or xyz.dtype != torch.float32:
        return None
    at_once = torch.cuda.get_device_properties(xyz.device).multi_processor_count // scenes
    tile = LEAST_TILE
    while tile < ONE_PROGRAM and triton.cdiv(largest, tile) > min(at_once, FEW_PROGRAMS):
        tile *= 2
    programs = triton.cdiv(largest, tile)
    return tile if programs <= at_once and 8 * scenes * programs * most <= SLOTS_BYTES else None


def sample_alone(
    xyz: Tensor,
    starts: Tensor,
    first: Tensor,
    ends: Tensor,
    skip_below: float,
    out: Tensor,
    block: int,
    warps: int,
) -> None:
    """Sample scenes of at most ``block`` points, a program each."""
    launch(
        _alone, (len(first),),
        xyz, starts, first, ends, out, skip_below, block, warps, num_warps=warps, enable_fp_fusion=False,
    )  # fmt: skip


def sample_together(
    xyz: Tensor, starts: Tensor, first: Tensor, ends: Tensor, largest: int, most: int, skip_below: float,
    out: Tensor, tile: int, warps: int,
) -> None:  # fmt: skip
    """Sample float32 scenes in programs of ``tile`` points, which must all run at once: CUDA refuses more."""
    programs, scenes = triton.cdiv(largest, tile), len(first)
    padded = max(triton.next_power_of_2(programs), 32)
    if padded > 32:  # words that warps share must not be read by several: each may see another state of them
        padded = max(padded, 32 * warps)
    slots = torch.zeros(scenes, most, programs, dtype=torch.int64, device=xyz.device)
    options = {"launch_cooperative_grid": True} if xyz.is_cuda else {}
    launch(
        _together, (programs, scenes),
        xyz, starts, first, ends, slots, out, most, programs, skip_below, tile,
        padded, warps, num_warps=warps, enable_fp_fusion=False, **options,
    )  # fmt: skip


def sample_in_passes(
    xyz: Tensor,
    starts: Tensor,
    first: Tensor,
    ends: Tensor,
    largest: int,
    most: int,
    skip_below: float,
    out: Tensor,
) -> None:
    """Sample scenes of any size, a launch a sample."""
    scenes, tiles = len(first), triton.cdiv(largest, TILE)
    bits = torch.int32 if xyz.dtype == torch.float32 else torch.int64
    nearest = torch.empty(len(xyz), dtype=bits, device=xyz.device)
    best = torch.empty(2, scenes, tiles, dtype=bits, device=xyz.device)
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
def _bits(square):  # type: ignore[no-untyped-def]
    # A float that is not negative orders like the integer of the same bits.
    if square.dtype == tl.float32:
        return square.to(tl.int32, bitcast=True)
    else:
        return square.to(tl.int64, bitcast=True)


@triton.jit
def _untouched(x, y, z, inside, skip_below: tl.constexpr):  # type: ignore[no-untyped-def]
    """Bits of the distances before there is a sample, infinite; -1 for what is skipped, -2 for what is not there."""
    skipped = x * x + y * y + z * z <= skip_below
    far = _bits(x * 0 + float("inf"))
    return tl.where(inside, tl.where(skipped, -1, far), -2)


@triton.jit
def _lower(near, x, y, z, point):  # type: ignore[no-untyped-def]
    """Bits of the distances once ``point`` is a sample too."""
    dx, dy, dz = x - tl.load(point), y - tl.load(point + 1), z - tl.load(point + 2)
    return tl.minimum(near, _bits(dx * dx + dy * dy + dz * dz))


@triton.jit
def _first_of_warps(value, index, WARPS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the largest value that each warp has, and the lowest of its indices there, (1, WARPS, 1)."""
    # As a thread's own, warps and lanes, which is how the points lie: so that a warp can be done before others matter.
    OWN: tl.constexpr = value.numel // (32 * WARPS)
    value, index = tl.reshape(value, (OWN, WARPS, 32)), tl.reshape(index, (OWN, WARPS, 32))
    best = tl.max(tl.max(value, 0, keep_dims=True), 2, keep_dims=True)
    first = tl.min(tl.where(value == best, index, 0x7FFFFFFF), 0, keep_dims=True)
    return best, tl.min(first, 2, keep_dims=True)


@triton.jit
def _over_warps(key):  # type: ignore[no-untyped-def]
    return tl.max(tl.max(tl.max(key, 2), 0), 0)


@triton.jit
def _first_largest(value, index, WARPS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return a positive int64 that orders like the largest value, -2 or more, and there the lowest index: its low half
    is the index's complement."""
    best, first = _first_of_warps(value, index, WARPS)
    return _over_warps(((best + 3).to(tl.int64) << 32) | ((-1 - first).to(tl.int64) & 0xFFFFFFFF))


@triton.jit
def _alone(  # type: ignore[no-untyped-def]
    xyz, starts, first, ends, out, skip_below: tl.constexpr, BLOCK: tl.constexpr, WARPS: tl.constexpr
):
    scene = tl.program_id(0)
    base = tl.load(starts + scene)
    lanes = tl.arange(0, BLOCK)
    inside = lanes < tl.load(starts + scene + 1) - base
    x, y, z = _load_points(xyz, base + lanes, inside)
    near = _untouched(x, y, z, inside, skip_below)
    place, stop = tl.load(ends + scene), tl.load(ends + scene + 1)
    chosen = tl.load(first + scene).to(tl.int32)
    while place < stop:
        tl.store(out + place, chosen.to(tl.int64))
        near = _lower(near, x, y, z, xyz + 3 * (base + chosen))
        if near.dtype == tl.int32:
            chosen = -1 - _first_largest(near, lanes, WARPS).to(tl.int32)
        else:  # two numbers of 96 bits
            best, index = _first_of_warps(near, lanes, WARPS)
            chosen = -_over_warps(tl.where(best == _over_warps(best), -index, -0x7FFFFFFF))
        place += 1


@triton.jit
def _together(  # type: ignore[no-untyped-def]
    xyz, starts, first, ends, slots, out, most, programs,
    skip_below: tl.constexpr, TILE: tl.constexpr, SLOTS: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Each program tells the others its best point, one word that is not 0, and waits for theirs.

    One word carries all that there is to tell and is written once, so nothing else need be ordered between programs.
    """
    program, scene = tl.program_id(0), tl.program_id(1)
    base = tl.load(starts + scene)
    points = (tl.load(starts + scene + 1) - base).to(tl.int32)
    lanes = program * TILE + tl.arange(0, TILE)
    inside = lanes < points
    x, y, z = _load_points(xyz, base + lanes, inside)
    near = _untouched(x, y, z, inside, skip_below)
    other = tl.arange(0, SLOTS)
    there = other < tl.cdiv(points, TILE)
    place, stop = tl.load(ends + scene), tl.load(ends + scene + 1)
    chosen = tl.load(first + scene).to(tl.int32)
    told = slots + scene.to(tl.int64) * most * programs
    while (place < stop) & (program * TILE < points):
        if program == 0:
            tl.store(out + place, chosen.to(tl.int64))
        near = _lower(near, x, y, z, xyz + 3 * (base + chosen))
        tl.atomic_xchg(told + program, _first_largest(near, lanes, WARPS), sem="relaxed", scope="gpu")
        word = tl.load(told + other, mask=there, other=1, volatile=True)
        while tl.min((word != 0).to(tl.int32), 0) == 0:
            word = tl.load(told + other, mask=word == 0, other=word, volatile=True)
        if (
            WARPS == 1 or SLOTS == 32
        ):  # each warp has all words: two reductions of halves are quicker than one
            high, low = (word >> 32).to(tl.int32), word.to(tl.int32)
            chosen = -1 - tl.max(tl.where(high == tl.max(high, 0), low, -0x7FFFFFFF - 1), 0)
        else:
            chosen = -1 - tl.max(word, 0).to(tl.int32)
        told += programs
        place += 1


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
            value = tl.load(best + past, mask=parts < tiles, other=-2)
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
            before = tl.load(nearest + base + lanes, mask=inside, other=-2)
        near = _lower(before, x, y, z, xyz + 3 * (base + chosen))
        tl.store(nearest + base + lanes, near, mask=inside)
        part = (step % 2 * scenes + scene) * tiles + tile
        tl.store(best + part, tl.max(near, 0))
        tl.store(who + part, (tile * TILE + tl.argmax(near, 0)).to(tl.int64))
