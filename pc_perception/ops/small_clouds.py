# SPDX-License-Identifier: Apache-2.0
"""Sampling and neighbour search in clouds so small that looking at every point beats building a tree."""

from __future__ import annotations

import numpy as np
from numba import njit

from .columns import columns_of
from .neighbor_search import EMPTY, key_of, new_list, write_keys
from .search_lanes import insert

FEW = 1024
"""Up to this many points the passes over all of them, as vectors from the nearest cache, are quicker."""
LANES = 16
LEAST_HANDS = 64  # of at most 16 points each, which are the bits of a mark
HALVINGS = 8
"""Of the interval in which a bound lies; the looser it is, the more points are ranked."""


@njit(cache=True, nogil=True)
def sample_few(points: np.ndarray, start: int, bits: np.ndarray, out: np.ndarray) -> None:
    """Choose ``len(out)`` of (N, 3) finite points, each the farthest from those before; O(N m).

    ``bits`` (N,) holds an upper limit of each point's squared distance as ``lower`` does.
    """
    columns, near, rows = columns_of(points), bits.view(points.dtype), np.arange(len(points), dtype=np.int32)
    px, py, pz = columns[0], columns[1], columns[2]
    out[0] = start
    for s in range(1, len(out)):
        last = out[s - 1]
        farthest = lower(px, py, pz, near, bits, points[last, 0], points[last, 1], points[last, 2])
        out[s] = lowest(bits, rows, farthest)


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
def lowest(bits, points, best):  # type: ignore[no-untyped-def]
    """Return the lowest of the points whose bits are ``best``."""
    none = np.int32(np.iinfo(np.int32).max)
    who = none
    for i in range(len(bits)):
        candidate = points[i] if bits[i] == best else none
        who = candidate if candidate < who else who
    return who


@njit(cache=True, nogil=True)
def search_few(  # type: ignore[no-untyped-def]
    points, starts, queries, query_starts, begin: int, end: int, limit: float, dense: bool, index, distance
) -> None:
    """Write the neighbours of the queries begin .. end - 1 in scenes of at most ``FEW`` points; others are left out.

    The points are dealt out to 2 k hands or more. The k-th smallest of the hands' minima bounds the k-th distance
    and leaves about 1.4 k points; those are ranked against each other. O(N) a query.
    """
    k = index.shape[1]
    n_hands = max(LANES * -(-2 * k // LANES), LEAST_HANDS)
    low, held = np.empty(n_hands, np.float32), np.empty(n_hands, np.int16)
    room = np.empty(FEW + n_hands, np.float32), np.empty(FEW + n_hands, np.int64)
    places, keys = np.empty(4 * k + LANES, np.int32), new_list(k)
    for b in range(len(starts) - 1):
        n, base = starts[b + 1] - starts[b], 0 if dense else starts[b]
        first, last = max(begin, query_starts[b]), min(end, query_starts[b + 1])
        if n > FEW or first >= last:
            continue
        hands = _dealt(points[starts[b] : starts[b + 1]], n_hands)
        square = np.empty(hands[0].shape, np.float32)
        for row in range(first, last):
            _squares(hands, queries[row, 0], queries[row, 1], queries[row, 2], square, low)
            bound = _bound(low, k) if n >= n_hands else np.float32(np.inf)
            n_near = _up_to(square, bound, limit, held, *room)
            near, who = room[0][:n_near], room[1][:n_near]
            if n_near <= 4 * k:
                _rank(room[0], n_near, places)
                _write_ranked(near, who, places, base, index[row], distance[row])
            else:  # many are equally near
                for i in range(n_near):
                    who[i] = key_of(near[i], who[i], limit, False)
                keys[:k] = EMPTY
                insert(who, n_near, keys, k)
                write_keys(keys, k, False, base, index, distance, row)


@njit(cache=True, nogil=True)
def _dealt(points, n_hands):  # type: ignore[no-untyped-def]
    """Columns x, y and z of (N, 3) points, dealt out in turn: (3, rounds, n_hands), infinite where there is none."""
    hands = np.full((3, max(-(-len(points) // n_hands), 1), n_hands), np.float32(np.inf))
    for i in range(len(points)):
        for axis in range(3):
            hands[axis, i // n_hands, i % n_hands] = points[i, axis]
    return hands


@njit(cache=True, nogil=True)
def _squares(hands, x, y, z, square, low):  # type: ignore[no-untyped-def]
    """Write the squared distances and each hand's smallest."""
    low[:] = np.inf
    for r in range(len(square)):
        px, py, pz, out = hands[0, r], hands[1, r], hands[2, r], square[r]
        for i in range(len(low)):
            dx, dy, dz = x - px[i], y - py[i], z - pz[i]
            out[i] = dx * dx + dy * dy + dz * dz
            low[i] = out[i] if out[i] < low[i] else low[i]


@njit(cache=True, nogil=True)
def _bound(low, k):  # type: ignore[no-untyped-def]
    """A little more than the k-th smallest of the hands' minima: at least k values do not exceed it."""
    bits = low.view(np.int32)
    enough = np.int32(0)
    for i in range(len(bits)):
        enough = bits[i] if bits[i] > enough else enough
    bound, below = np.int32(enough).view(np.float32), np.float32(0)
    for _ in range(HALVINGS):
        middle = np.float32(0.5) * (below + bound)
        count = np.int32(0)
        for i in range(len(low)):
            count += np.int32(1) if low[i] <= middle else np.int32(0)
        if count >= k:
            bound = middle
        else:
            below = middle
    return bound


@njit(cache=True, nogil=True)
def _up_to(square, bound, limit, held, near, who):  # type: ignore[no-untyped-def]
    """Write the values up to ``bound`` and below ``limit``, and whose they are; return their number.

    Each hand marks its own by bits, which takes vectors; only what is marked is walked one by one, four hands a word.
    """
    held[:] = 0
    for r in range(len(square)):
        row, own = square[r], np.int16(np.int64(1) << r)
        for i in range(len(held)):
            held[i] |= own if (row[i] <= bound) & (row[i] < limit) else np.int16(0)
    words = held.view(np.uint64)
    n = 0
    for w in range(len(words)):
        marked = words[w]
        while marked:
            rest = marked & (marked - np.uint64(1))
            power = np.float32(marked ^ rest)
            bit = (power.view(np.int32) >> 23 & 0xFF) - 127  # the exponent
            turn, hand = bit & 15, 4 * w + (bit >> 4)
            near[n], who[n] = square[turn, hand], turn * len(held) + hand
            marked = rest
            n += 1
    return n


@njit(cache=True, nogil=True)
def _rank(near, n, places):  # type: ignore[no-untyped-def]
    """Count for each of the first ``n`` values how many of them are smaller; rounded up to whole vectors."""
    n_padded = LANES * -(-n // LANES)
    near[n:n_padded] = np.inf
    values, smaller = near[:n_padded], places[:n_padded]
    smaller[:] = 0
    for j in range(n):
        for i in range(n_padded):
            smaller[i] += np.int32(1) if values[j] < values[i] else np.int32(0)


@njit(cache=True, nogil=True)
def _write_ranked(near, who, places, base, index, distance):  # type: ignore[no-untyped-def]
    index[:], distance[:] = -1, np.inf
    for i in range(len(near)):
        place, point = places[i], who[i] + base
        while (
            place < len(index) and index[place] >= 0
        ):  # taken by one equally near: the lower index goes first
            if index[place] > point:
                index[place], point = point, index[place]
            place += 1
        if place < len(index):
            index[place], distance[place] = point, np.sqrt(near[i])
