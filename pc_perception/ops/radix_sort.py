# SPDX-License-Identifier: Apache-2.0
"""Sort codes of voxels in linear time."""

from __future__ import annotations

from math import ceil

import numpy as np
from numba import njit

DIGIT_BITS = 12
"""Counts of so many digits still fit the nearest cache."""


def sort_codes(codes: np.ndarray, n_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort (N,) int64 codes of at most ``n_bits`` bits, none negative, equal ones in input order.

    ``codes`` is used up: what it holds afterwards has no meaning, or is the result.

    Returns:
        The sorted codes (N,) int64 and their former places (N,) uint32: least digit first, O(N n_bits / 12).
    """
    n_passes = max(1, ceil(n_bits / DIGIT_BITS))
    found, order = _sort(codes.view(np.uint64), n_passes, ceil(n_bits / n_passes))
    return found.view(np.int64), order


@njit(cache=True, nogil=True)
def _sort(codes: np.ndarray, n_passes: int, digit_bits: int) -> tuple[np.ndarray, np.ndarray]:
    n = len(codes)
    width, mask = np.uint64(digit_bits), np.uint64((1 << digit_bits) - 1)
    places = np.zeros((n_passes, 1 << digit_bits), np.uint32)
    for p in range(n_passes):
        place, shift = places[p], np.uint64(p) * width
        for i in range(n):
            place[(codes[i] >> shift) & mask] += np.uint32(1)
        total = np.uint32(0)
        for d in range(1 << digit_bits):
            count = place[d]
            place[d] = total
            total = np.uint32(total + count)
    order, next_order = np.arange(n).astype(np.uint32), np.empty(n, np.uint32)
    source, target = codes, np.empty(n, np.uint64)
    for p in range(n_passes):
        place, shift = places[p], np.uint64(p) * width
        for i in range(n):
            d = (source[i] >> shift) & mask
            to = place[d]
            place[d] = to + np.uint32(1)
            target[to] = source[i]
            next_order[to] = order[i]
        source, target = target, source
        order, next_order = next_order, order
    return source, order
