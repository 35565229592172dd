# SPDX-License-Identifier: Apache-2.0
"""The surroundings of a LiDAR in parts that err by themselves, for a jackknife.

Frames alone are no such parts: those of one place see the same things, and err alike. Nor are sectors where a long
thing runs through all of them; its outlines are of one kind.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.alignment import PreparedFrame

N_PARTS = 4
_SECTOR_DEG = 5.0


def without_part(frame: PreparedFrame, part: int) -> PreparedFrame:
    """Return a frame without the points and outlines of one part, 0 .. N_PARTS - 1."""
    points, outlines = (part_of(xyz) != part for xyz in (frame.points, frame.edges.xyz))
    return replace(
        frame,
        points=frame.points[points],
        intensity_bin=frame.intensity_bin[points],
        edges=frame.edges.select(outlines),
    )


def without_outlines(frame: PreparedFrame, upright: bool) -> PreparedFrame:
    """Return a frame without one kind of outline, the upright or the level ones."""
    return replace(frame, edges=frame.edges.select(frame.edges.upright != upright))


def part_of(xyz: NDArray) -> NDArray[np.int64]:
    """(N,) part of each point (N, 3): sectors about the LiDAR's axis, dealt out to the parts in turn.

    So each part is spread over the whole picture, and what is left constrains all axes.
    """
    sector = np.floor(np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])) / _SECTOR_DEG)
    return sector.astype(np.int64) % N_PARTS
