# SPDX-License-Identifier: Apache-2.0
"""Where scan lines leave a plane: points of a plate's outline, finer than the sensor's spacing."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from calibration.scan_lines import ScanLines

_EDGE_NOISE_M = 0.003  # of where a beam some millirad wide stops returning


def edge_points(
    lines: ScanLines, rows: NDArray, on: NDArray, normal: NDArray, middle: NDArray
) -> tuple[NDArray, NDArray]:
    """Points where scan lines leave a plane, half-way between the last point on it and the first ray off it.

    Half-way is right on average, wherever within the sensor's spacing the edge falls. Where a line's points on and
    off the plane are mixed (several turns, beams that meet both sides), the edge is where the fewest are on the
    wrong side. An end behind something nearer (a hand, a person) is no edge and left out.

    Args:
        rows: (K,) of ``lines``, ascending; all points about the plane.
        on: (K,) bool, those on it.
        normal, middle: (3,) unit normal of the plane and a point on it, metres.

    Returns:
        (E, 3) points on the plane and (E,) standard deviations, metres.
    """
    points, sigmas = [], []
    ring = lines.ring[rows]
    for start, stop in itertools.pairwise([*np.flatnonzero(np.r_[True, np.diff(ring) != 0]), len(rows)]):
        here = np.flatnonzero(on[start:stop]) + start
        if len(here) < 3:
            continue
        half = here[len(here) // 2]
        for side, way in ((np.arange(half, start - 1, -1), -1), (np.arange(half, stop), 1)):
            last = side[_cut(on[side])]
            edge = _half_way(lines, int(rows[last]), way, normal, middle) if on[last] else None
            if edge is not None:
                points.append(edge[0])
                sigmas.append(np.hypot(edge[1] / np.sqrt(12), _EDGE_NOISE_M))
    return np.array(points).reshape(-1, 3), np.array(sigmas)


def _cut(on: NDArray[np.bool_]) -> int:
    """Place of the last point inside, of points from the middle outwards: the fewest off inside and on outside."""
    wrong = np.cumsum(~on) + on.sum() - np.cumsum(on)
    return int(wrong.argmin())


def _half_way(
    lines: ScanLines, last: int, way: int, normal: NDArray, middle: NDArray
) -> tuple[NDArray, float] | None:
    """The point between ``last`` and the next ray, on the plane, and how far apart the two meet the plane.

    None where something nearer hides the edge, or rays graze the plane.
    """
    here = lines.xyz[last]
    after = last + way
    turn = way * lines.spacing_rad
    if 0 <= after < len(lines.xyz) and lines.ring[after] == lines.ring[last]:
        gap = lines.azimuth[after] - lines.azimuth[last]
        if abs(gap) < 2.5 * lines.spacing_rad:
            turn = gap
            if np.linalg.norm(lines.xyz[after]) < np.linalg.norm(here) - 0.1:
                return None
    c, s = np.cos(turn / 2), np.sin(turn / 2)
    ray = np.array([c * here[0] - s * here[1], s * here[0] + c * here[1], here[2]])
    slopes = np.array([ray @ normal, here @ normal])
    if (np.abs(slopes) < 0.1 * np.linalg.norm(ray)).any():
        return None
    edge, start = np.array([ray, here]) * (middle @ normal / slopes)[:, None]
    return edge, 2 * float(np.linalg.norm(edge - start))
