# SPDX-License-Identifier: Apache-2.0
"""Sampling and neighbour search in clouds so small that looking at every point beats building a tree."""

from __future__ import annotations

import numpy as np
from numba import njit

from .columns import columns_of
from .neighbor_search import EMPTY, _insert, _key, _write

FEW = 1024
"""Up to this many points the passes over all of them, as vectors from the nearest cache, are quicker."""
LEAST_HANDS = 64
HALVINGS = 8
"""Of the interval in which a bound lies; the looser it is, the more points are ranked."""


@njit(cache=True, nogil=True)
def sample_few(points: np.ndarray, start: int, bits: np.ndarray, out: np.ndarray) -> None:
    """Choose ``len(out)`` of (N, 3) finite points, each the farthest from those before; O(N m).

    ``bits`` (N,) holds an upper limit of each point's squared distance as ``lower`` does.
    """
    columns, near = columns_of(points), bits.view(points.dtype)
    px, py, pz = columns[0], columns[1], columns[2]
    out[0] = start
    for s in range(1, len(out)):
        last = out[s - 1]
        farthest = lower(px, py, pz, near, bits, points[last, 0], points[last, 1], points[last, 2])
        i = 0
        while bits[i] != farthest:
            i += 1
        out[s] = i


@njit(cache=True, nogil=True)
def lower(px, py, pz, near, bits, x, y, z):  # type: ignore[no-untyped-def]
    """Lower squared distances to those from a new sample; return the bits of the largest.

    ``bits`` are those of the floats ``near`` as integers of the same size. They order like the floats (-1 stands
    below all), and of integers the compiler finds the maximum by vector instructions.
    """
    for i in range(len(near)):
        dx, dy, dz = px[i] - x, py[i] - y, pz[i] - z
        d = dx * dx + dy * dy + dz * dz
        near[i] = d if d < near[i] else near[i]
    best = bits[0]
    for i in range(len(bits)):
        best = bits[i] if bits[i] > best else best
    return best


@njit(cache=True, nogil=True)
def search_few(  # type: ignore[no-untyped-def]
    points: np.ndarray, queries: np.ndarray, begin: int, end: int, limit: float, base: int, index, distance
) -> None:
    """Write the neighbours of the queries begin .. end - 1, as ``neighbor_search.search``. O(N) each.

    The points are dealt out to 2 k hands or more. The k-th smallest of the hands' minima bounds the k-th distance
    and leaves about 1.4 k points in random order; those are ranked against each other.
    """
    n, k = len(points), index.shape[1]
    columns = columns_of(points)
    square, kept = np.empty(n, np.float32), np.empty(n + 1, np.int64)
    low = np.empty(max(2 * k, LEAST_HANDS), np.float32)
    rank, keys = np.empty(4 * k, np.int64), np.empty(k + 1, np.int64)
    for row in range(begin, end):
        _squares(columns, queries[row, 0], queries[row, 1], queries[row, 2], square)
        bound = _bound(square, k, low) if n >= len(low) else np.float32(np.inf)
        n_near = _up_to(square, bound, kept)
        n_kept = 0
        for i in range(n_near):
            point = kept[i]
            kept[n_kept] = _key(square[point], point, limit, False)
            n_kept += 1 if square[point] < limit else 0
        found = kept[:n_kept]
        if n_kept > len(rank):  # many are equally near
            keys[:k], keys[k] = EMPTY, -1
            _insert(found, keys)
            _write(keys, False, base, index, distance, row)
            continue
        places = rank[:n_kept]
        places[:] = 0
        for key in found:
            for i in range(len(found)):
                places[i] += 1 if key < found[i] else 0
        for i in range(n_kept):
            if places[i] < k:
                index[row, places[i]] = (found[i] & np.int64(0xFFFFFFFF)) + base
                distance[row, places[i]] = np.sqrt(np.int32(found[i] >> 32).view(np.float32))
        for place in range(n_kept, k):
            index[row, place], distance[row, place] = -1, np.float32(np.inf)


@njit(cache=True, nogil=True)
def _squares(columns, x, y, z, out):  # type: ignore[no-untyped-def]
    px, py, pz = columns[0], columns[1], columns[2]
    for i in range(len(out)):
        dx, dy, dz = x - px[i], y - py[i], z - pz[i]
        out[i] = dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True)
def _bound(square, k, low):  # type: ignore[no-untyped-def]
    """A little more than the k-th smallest of the minima of the hands: at least k values do not exceed it."""
    low[:] = square[: len(low)]
    for start in range(len(low), len(square), len(low)):
        hand = square[start : start + len(low)]
        for i in range(len(hand)):
            low[i] = hand[i] if hand[i] < low[i] else low[i]
    bits = low.view(np.int32)
    enough = np.int32(0)
    for i in range(len(bits)):
        enough = bits[i] if bits[i] > enough else enough
    bound, below = np.int32(enough).view(np.float32), np.float32(0)
    for _ in range(HALVINGS):
        middle = np.float32(0.5) * (below + bound)
        count = 0
        for i in range(len(low)):
            count += 1 if low[i] <= middle else 0
        if count >= k:
            bound = middle
        else:
            below = middle
    return bound


@njit(cache=True, nogil=True)
def _up_to(square, bound, places):  # type: ignore[no-untyped-def]
    """Write the places of values up to ``bound`` in ascending order and return their number."""
    n = 0
    for i in range(len(square)):
        places[n] = i
        n += 1 if square[i] <= bound else 0
    return n
