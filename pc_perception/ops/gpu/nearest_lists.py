# SPDX-License-Identifier: Apache-2.0
"""Lists of the nearest points in a Triton program's registers, one a query.

A neighbour is one integer as in ``neighbor_search``: squared distance in the high half and index in the low
one (swapped for a search by index), so that one comparison settles ties.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_points(xyz, row, inside):  # type: ignore[no-untyped-def]
    """Load the coordinates of rows of (N, 3) float32, zeros where not ``inside``."""
    x = tl.load(xyz + 3 * row, mask=inside, other=0.0)
    y = tl.load(xyz + 3 * row + 1, mask=inside, other=0.0)
    z = tl.load(xyz + 3 * row + 2, mask=inside, other=0.0)
    return x, y, z


@triton.jit
def empty_lists(asked, K: tl.constexpr, SLOTS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return (Q, SLOTS) int64 lists without a neighbour; queries that are not ``asked`` take none."""
    # Larger than any neighbour and all different, to be replaced one at a time; slots past k never are.
    slot = tl.arange(0, SLOTS)[None, :].to(tl.int64)
    return tl.where((slot < K) & asked[:, None], 0x7FFFFFFF00000000 + slot, -1 - slot)


@triton.jit
def neighbor_keys(square, point, offered, BY_INDEX: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return int64 keys of squared distances and points, the largest of all where not ``offered``."""
    # A float that is not negative orders like the integer of the same bits.
    bits = square.to(tl.int32, bitcast=True).to(tl.int64)
    wide = point.to(tl.int64)
    key = (wide << 32) | bits if BY_INDEX else (bits << 32) | wide
    return tl.where(offered, key, 0x7FFFFFFFFFFFFFFF)


@triton.jit
def replace_largest(kept, offered):  # type: ignore[no-untyped-def]
    """Let the smallest keys offered take the places of the largest kept, as long as any is smaller.

    Most tiles offer nothing: after n points the next one is among the k nearest with probability k / n.
    """
    smallest, largest = tl.min(offered, 1), tl.max(kept, 1)
    while tl.max((smallest < largest).to(tl.int32), 0) > 0:
        better = (smallest < largest)[:, None]
        kept = tl.where(better & (kept == largest[:, None]), smallest[:, None], kept)
        offered = tl.where(offered == smallest[:, None], 0x7FFFFFFFFFFFFFFF, offered)
        smallest, largest = tl.min(offered, 1), tl.max(kept, 1)
    return kept


@triton.jit
def write_lists(  # type: ignore[no-untyped-def]
    kept, row, asked, base, index, distance,
    BY_INDEX: tl.constexpr, PACKED: tl.constexpr, K: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Store sorted lists as (Q, K) int64 indices and float32 metres; -1 and inf where there are fewer than K.

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
