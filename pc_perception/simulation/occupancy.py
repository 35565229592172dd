# SPDX-License-Identifier: Apache-2.0
"""Whether places lie inside closed meshes, by signed crossings: overlapping parts count as their union.

Every place sends a ray up and adds +1 for each triangle that it leaves through, -1 for each that it enters by: the
winding number, 0 outside, 1 inside one part, 2 where two overlap. Counting crossings without their sign (odd is
inside, as Open3D's ``compute_occupancy`` does) takes the overlap of two parts for empty.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from pc_perception.simulation.shapes import Mesh


class Solid:
    """A mesh whose triangles are sorted into columns, for many questions.

    Args:
        mesh: closed, finite; its triangles face outwards (those of cavities into the cavity).
    """

    def __init__(self, mesh: Mesh) -> None:
        self._corners = np.ascontiguousarray(np.asarray(mesh[0], np.float64)[mesh[1]])
        if not len(self._corners):
            raise ValueError("a mesh without triangles has no inside")
        flat = self._corners[:, :, :2]
        self._low = flat.min((0, 1))
        n = int(np.clip(4 * np.sqrt(len(flat)), 16, 512))
        self._step = np.maximum((flat.max((0, 1)) - self._low) / n, 1e-12)
        first, last = (
            np.clip(np.floor((edge - self._low) / self._step), 0, n - 1).astype(np.int64)
            for edge in (flat.min(1), flat.max(1))
        )
        self._starts, self._rows = _columns(first, last, n)

    def winding(self, xyz: ArrayLike) -> NDArray[np.int32]:
        """Return (N,) winding numbers of (N, 3) places; of one on the surface, either side's."""
        places = np.asarray(xyz, np.float64).reshape(-1, 3)
        return _windings(places, self._corners, self._starts, self._rows, self._low, self._step)

    def contains(self, xyz: ArrayLike) -> NDArray[np.bool_]:
        """Return (N,) bool, True for (N, 3) places inside any part."""
        return self.winding(xyz) != 0


@njit(cache=True, nogil=True)
def _columns(first, last, n):  # type: ignore[no-untyped-def]
    """Sort triangles into n x n columns that their bounding boxes touch: starts (n * n + 1,) and rows."""
    starts = np.zeros(n * n + 1, np.int64)
    for t in range(len(first)):
        for i in range(first[t, 0], last[t, 0] + 1):
            for j in range(first[t, 1], last[t, 1] + 1):
                starts[i * n + j + 1] += 1
    starts = np.cumsum(starts)
    rows = np.empty(starts[-1], np.int32)
    filled = starts[:-1].copy()
    for t in range(len(first)):
        for i in range(first[t, 0], last[t, 0] + 1):
            for j in range(first[t, 1], last[t, 1] + 1):
                rows[filled[i * n + j]] = t
                filled[i * n + j] += 1
    return starts, rows


@njit(cache=True, nogil=True)
def _windings(places, corners, starts, rows, low, step):  # type: ignore[no-untyped-def]
    n = int(np.sqrt(len(starts) - 1))
    out = np.zeros(len(places), np.int32)
    for p in range(len(places)):
        x, y, z = places[p]
        # Outside the box the last column answers as well: no triangle there turns about the place.
        i = min(max(int(np.floor((x - low[0]) / step[0])), 0), n - 1)
        j = min(max(int(np.floor((y - low[1]) / step[1])), 0), n - 1)
        for k in range(starts[i * n + j], starts[i * n + j + 1]):
            t = rows[k]
            if max(corners[t, 0, 2], corners[t, 1, 2], corners[t, 2, 2]) > z:
                turn = _turn(corners, t, x, y)
                if turn != 0 and _height(corners, t, x, y) > z:
                    out[p] += turn
    return out


@njit(cache=True, nogil=True)
def _turn(corners, t, x, y):  # type: ignore[no-untyped-def]
    """How often triangle t, seen from above, turns about (x, y): +1 where it faces up, -1 down, 0 beside it.

    Edges count from their lower end (included) to the upper one (left out), and are always taken upwards: two
    triangles that share an edge decide alike, so that no ray slips between them or hits both.
    """
    turn = 0
    for a in range(3):
        b = (a + 1) % 3
        upwards = corners[t, a, 1] <= y < corners[t, b, 1]
        if upwards or corners[t, b, 1] <= y < corners[t, a, 1]:
            low, high = (a, b) if upwards else (b, a)
            x0, y0 = corners[t, low, 0], corners[t, low, 1]
            side = (corners[t, high, 0] - x0) * (y - y0) - (x - x0) * (corners[t, high, 1] - y0)
            if side > 0:
                turn += 1 if upwards else -1
    return turn


@njit(cache=True, nogil=True)
def _height(corners, t, x, y):  # type: ignore[no-untyped-def]
    """z of the plane of triangle t at (x, y), within the triangle's own range."""
    ax, ay, az = corners[t, 0]
    bx, by, bz = corners[t, 1]
    cx, cy, cz = corners[t, 2]
    nx = (by - ay) * (cz - az) - (bz - az) * (cy - ay)
    ny = (bz - az) * (cx - ax) - (bx - ax) * (cz - az)
    nz = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    low, high = min(az, bz, cz), max(az, bz, cz)
    if nz == 0.0:
        return high
    return min(max(az - (nx * (x - ax) + ny * (y - ay)) / nz, low), high)
