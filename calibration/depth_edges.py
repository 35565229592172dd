# SPDX-License-Identifier: Apache-2.0
"""Where a sweep's range jumps: outlines of things, which a camera sees as edges too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.scan_lines import ScanLines

_JUMP_M, _JUMP_SHARE = 0.3, 0.06
_SKY_M = 1e3


@dataclass(frozen=True)
class DepthEdges:
    """Outline points of nearer things.

    Attributes:
        xyz: (N, 3) float64, half-way between the last ray on the thing and the first beside it, at its range.
        upright: (N,) bool, True for left and right sides (found along a ring), False for tops (across rings).
    """

    xyz: NDArray[np.float64]
    upright: NDArray[np.bool_]

    def select(self, rows: NDArray) -> DepthEdges:
        """Return some of them, by index or mask."""
        return DepthEdges(self.xyz[rows], self.upright[rows])


def depth_edges(lines: ScanLines, max_range_m: float = 60.0) -> DepthEdges:
    """Find the outlines in a sweep after Levinson and Thrun, "Automatic online calibration of cameras and
    lasers", 2013, section III: the nearer side of every jump in range, along rings and across them.

    No return beside a thing counts as far away (sky) along a ring, where the gap is one to three rays wide. Where the
    surface goes on as it came, as a road does from ring to ring in leaps of metres, there is no outline; nor where the
    farther surface, continued, comes to the nearer point, as a pavement does to its kerb: such an edge hides nothing.
    """
    image, elevation = _range_image(lines)
    azimuth = -np.pi + (np.arange(image.shape[1]) + 0.5) * lines.spacing_rad
    points, upright = [], []
    for axis, way in ((1, 1), (1, -1), (0, 1), (0, -1)):
        beside = np.roll(image, -way, axis)
        if axis == 0:
            beside[-1 if way == 1 else 0] = np.nan
            beside[~np.isfinite(beside)] = np.nan  # a ring's gap next to it says nothing
        else:
            around = np.isfinite(np.roll(image, way, axis)) & np.isfinite(np.roll(image, 2 * way, axis))
            beside = np.where(np.isfinite(beside) | ~around, beside, _SKY_M)
        with np.errstate(invalid="ignore"):
            least = np.maximum(_JUMP_M, _JUMP_SHARE * image)
            leap = beside - np.fmax(image, _continued(image, elevation, axis, way))
            back = np.roll(_continued(image, elevation, axis, -way), -way, axis)
            jump = (leap > least) & (image < max_range_m) & ~(np.abs(back - image) <= least)
        row, column = np.nonzero(jump)
        a, e = azimuth[column], elevation[row]
        if axis == 1:
            a = a + way * lines.spacing_rad / 2
        else:
            e = (e + elevation[np.clip(row + way, 0, len(elevation) - 1)]) / 2
        r = image[row, column]
        points.append(np.stack([r * np.cos(e) * np.cos(a), r * np.cos(e) * np.sin(a), r * np.sin(e)], 1))
        upright.append(np.full(len(row), axis == 1))
    return DepthEdges(np.concatenate(points), np.concatenate(upright))


def _continued(image: NDArray, elevation: NDArray, axis: int, way: int) -> NDArray[np.float64]:
    """Range that a plane through each point and the one before it has beside it, inf beyond its horizon.

    Along an arc of rays the inverse range of a plane is, over so short a way, linear in the angle.
    """
    before = np.roll(image, way, axis)
    stretch: NDArray | float = 1.0
    if axis == 0:
        before[0 if way == 1 else -1] = 0.0  # how the surface comes to the first ring is not seen: no outline
        steps = np.abs(np.roll(elevation, -way) - elevation), np.abs(elevation - np.roll(elevation, way))
        stretch = (steps[0] / np.maximum(steps[1], 1e-6))[:, None]
    with np.errstate(divide="ignore"):
        inverse = 1 / image + (1 / image - 1 / before) * stretch
        return np.where(inverse <= 0, np.inf, 1 / inverse)


def _range_image(lines: ScanLines) -> tuple[NDArray, NDArray]:
    """Range (rings, azimuths), NaN for none, lowest ring first, and the rings' elevation in rad."""
    distance = np.linalg.norm(lines.xyz, axis=1)
    rings, row = np.unique(lines.ring, return_inverse=True)
    elevation = np.array(
        [np.median(np.arcsin(lines.xyz[row == k, 2] / distance[row == k])) for k in range(len(rings))]
    )
    order = np.argsort(elevation)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    width = max(round(2 * np.pi / lines.spacing_rad), 1)
    column = np.clip(((lines.azimuth + np.pi) / (2 * np.pi) * width).astype(int), 0, width - 1)
    image = np.full((len(rings), width), np.nan)
    far_first = np.argsort(-distance)  # of two points in a cell the nearer one stays
    image[place[row[far_first]], column[far_first]] = distance[far_first]
    return image, elevation[order]
