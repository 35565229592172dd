# SPDX-License-Identifier: Apache-2.0
"""Neighbours as sortable integers in Triton, and how lists of them are written.

A neighbour is one integer as in ``neighbor_search``: squared distance in the high half and index in the low
one (swapped for a search by index), so that one comparison settles ties.
"""

from __future__ import annotations

import triton
import triton.language as tl

NONE: tl.constexpr = tl.constexpr(0x7F800000)
"""The squared distance of what is no neighbour, as an integer of the same bits: infinity."""


@triton.jit
def load_points(xyz, row, inside):  # type: ignore[no-untyped-def]
    """Load the coordinates of rows of (N, 3) float32, zeros where not ``inside``."""
    x = tl.load(xyz + 3 * row, mask=inside, other=0.0)
    y = tl.load(xyz + 3 * row + 1, mask=inside, other=0.0)
    z = tl.load(xyz + 3 * row + 2, mask=inside, other=0.0)
    return x, y, z


@triton.jit
def empty_slots(slot, K: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return int64 keys of slots without a neighbour: larger than any of one, those past K smaller; all different."""
    wide = slot.to(tl.int64)
    return tl.where(slot < K, 0x7FFFFFFF00000000 + wide, -1 - wide)


@triton.jit
def neighbor_keys(bits, point, BY_INDEX: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return int64 keys of squared distances, as integers of the same bits, and points.

    A float that is not negative orders like the integer of the same bits.
    """
    high, low = bits.to(tl.int64), point.to(tl.int64)
    return (low << 32) | high if BY_INDEX else (high << 32) | low


@triton.jit
def write_lists(  # type: ignore[no-untyped-def]
    kept, row, asked, base, index, distance,
    BY_INDEX: tl.constexpr, PACKED: tl.constexpr, K: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Store sorted keys (Q, SLOTS) as (Q, K) int64 indices and float32 metres; -1 and inf where there are fewer than K.

    ``base`` is the scene's first row, added to the indices of PACKED ones.
    """
    place = tl.arange(0, SLOTS)[None, :] - (SLOTS - K)  # the unused slots came first
    wanted = asked[:, None] & (place >= 0)
    high, low = (kept >> 32).to(tl.int32), kept.to(tl.int32)
    point, bits = (high, low) if BY_INDEX else (low, high)
    found = high != 0x7FFFFFFF
    where = point.to(tl.int64) + base if PACKED else point.to(tl.int64)
    metres = tl.sqrt_rn(tl.where(found & wanted, bits, 0).to(tl.float32, bitcast=True))
    target = row[:, None] * K + place
    tl.store(index + target, tl.where(found, where, -1), mask=wanted)
    tl.store(distance + target, tl.where(found, metres, float("inf")), mask=wanted)
