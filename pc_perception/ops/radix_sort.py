# SPDX-License-Identifier: Apache-2.0
"""Sort codes of voxels, and numbers, in linear time."""

from __future__ import annotations

import numpy as np
from numba import njit

DIGIT_BITS = 13
"""Counts of so many digits still fit the nearest cache."""
WORD_BITS = 64


def sort_codes(
    codes: np.ndarray, n_bits: int, spare: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sort (N,) int64 codes of at most ``n_bits`` bits, none negative, equal ones in input order.

    Args:
        codes: used up: the sorted codes take their place.
        spare: (N,) int64 to work in; the places are returned in it. None: new memory.

    Returns:
        The sorted codes (N,) int64 and their former places (N,) uint32. Least digit first, O(N n_bits / 13), where a
        code and a place fit one word of 64 bits; else O(N log N).
    """
    n = len(codes)
    place_bits = max(n - 1, 0).bit_length()
    if n_bits + place_bits > WORD_BITS:
        places = np.argsort(codes, kind="stable")
        return codes[places], places.astype(np.uint32)
    spare = np.empty(n, np.int64) if spare is None else spare
    order = spare.view(np.uint32)[:n]
    _sort(codes.view(np.uint64), spare.view(np.uint64), order, n_bits, place_bits)
    return codes, order


def sort_floats(values: np.ndarray) -> np.ndarray:
    """Return (N,) finite float32 values in ascending order; -0 comes before 0. O(N)."""
    bits = values.view(np.int32)
    # Without the sign bit those of negative values descend: turned round, integers order like the floats.
    codes = (bits ^ (bits >> 31 & 0x7FFFFFFF)).astype(np.int64) + 2**31
    ordered = (sort_codes(codes, 32)[0] - 2**31).astype(np.int32)
    return (ordered ^ (ordered >> 31 & 0x7FFFFFFF)).view(np.float32)


@njit(cache=True, nogil=True)
def _sort(codes, spare, order, n_bits, place_bits):  # type: ignore[no-untyped-def]
    """Carry each code's place along in the same word; ``order`` may be the first half of ``spare``."""
    n, middle, last = len(codes), np.uint64(len(codes) // 2), np.uint64(len(codes) - 1)
    below = np.uint64(place_bits)
    for i in range(n):
        codes[i] = codes[i] << below | np.uint64(i)
    n_passes = -(-n_bits // DIGIT_BITS)
    digit_bits = -(-n_bits // max(n_passes, 1))
    mask = np.uint64((1 << digit_bits) - 1)
    start, end = np.empty(1 << digit_bits, np.uint32), np.empty(1 << digit_bits, np.uint32)
    source, target = codes, spare
    for p in range(n_passes):
        shift = below + np.uint64(p * digit_bits)
        start[:], end[:] = np.uint32(0), np.uint32(0)
        # From both ends to the middle: equal digits in a row would make each wait for the count of the one before.
        for i in range(middle):
            start[(source[i] >> shift) & mask] += np.uint32(1)
            end[(source[last - i] >> shift) & mask] += np.uint32(1)
        if n % 2:
            end[(source[middle] >> shift) & mask] += np.uint32(1)
        total = np.uint32(0)
        for d in range(1 << digit_bits):
            first = total
            total = np.uint32(total + start[d] + end[d])
            start[d], end[d] = first, total
        for i in range(middle):
            low, high = source[i], source[last - i]
            d, e = (low >> shift) & mask, (high >> shift) & mask
            to = start[d]
            start[d] = to + np.uint32(1)
            target[to] = low
            to = np.uint32(end[e] - np.uint32(1))
            end[e] = to
            target[to] = high
        if n % 2:
            word = source[middle]
            target[start[(word >> shift) & mask]] = word
        source, target = target, source
    mask = np.uint64((1 << place_bits) - 1)
    for i in range(n):
        word = source[i]
        codes[i], order[i] = word >> below, np.uint32(word & mask)
