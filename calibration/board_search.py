# SPDX-License-Identifier: Apache-2.0
"""Find a board in a sweep by itself: a plane of its size with nothing beside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board
from calibration.cloud_board import CloudBoard, measure_board
from calibration.plane import LEAST_POINTS, ON_PLANE_M, plane_through
from calibration.scan_lines import ScanLines


def find_boards(
    lines: ScanLines,
    board: Board,
    range_m: tuple[float, float] = (0.5, 15.0),
    near: NDArray | None = None,
    near_m: float = 1.0,
    least_score: float = 0.7,
    seed: int = 0,
) -> list[CloudBoard]:
    """Find plates of the board's outline, the best first.

    Args:
        range_m: nearest and furthest middle of the board.
        near: (3,) where it should be, where that is known; then only within ``near_m`` of it.
        least_score: those that fit worse are left out.
        seed: of the random planes; the same seed gives the same boards.

    Returns:
        Boards whose middles are apart; empty where nothing fits.
    """
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed)
    radius, shortest = board.radius_m, float(board.size.min())
    distance = np.linalg.norm(lines.xyz, axis=1)
    kept = (distance > range_m[0] - radius) & (distance < range_m[1] + radius)
    if near is not None:
        kept &= np.linalg.norm(lines.xyz - near, axis=1) < near_m + radius
    around = np.flatnonzero(kept)
    if len(around) < LEAST_POINTS:
        return []
    # The search needs no more points than tell a plane; the measurement takes them all.
    thin = around[_one_per_cell(lines.xyz[around], shortest / 16)]
    thin_tree, tree = cKDTree(lines.xyz[thin]), cKDTree(lines.xyz[around])
    found: list[CloudBoard] = []
    tried = np.zeros((0, 6))
    for middle in lines.xyz[thin[_one_per_cell(lines.xyz[thin], shortest / 2.5)]]:
        rows = thin[thin_tree.query_ball_point(middle, 1.1 * radius)]
        plane = plane_through(lines.xyz[rows], rng)
        if plane is None or _overflows(lines.xyz[rows], plane, board):
            continue
        # Seeds on one plate give the same plane again and again.
        place = np.r_[plane[1], 0.5 * plane[0]]
        if (((tried - place) ** 2).sum(1) < 0.06**2).any():
            continue
        tried = np.vstack([tried, place])
        candidate = measure_board(lines, around[tree.query_ball_point(plane[1], 1.7 * radius)], plane, board)
        if candidate is not None and candidate.score >= least_score:
            found.append(candidate)
    return _apart(found, radius)


def _one_per_cell(xyz: NDArray, step_m: float) -> NDArray[np.int64]:
    """Rows of the first point in every cell of a grid."""
    cells = np.floor((xyz - xyz.min(0)) / step_m).astype(np.int64)
    width = cells.max(0) + 1
    key = (cells[:, 0] * width[1] + cells[:, 1]) * width[2] + cells[:, 2]
    return np.unique(key, return_index=True)[1]


def _overflows(xyz: NDArray, plane: tuple[NDArray, NDArray], board: Board) -> bool:
    """True where the plane's points spread much less or more than a full plate would."""
    normal, middle = plane
    on = xyz[np.abs((xyz - middle) @ normal) < ON_PLANE_M]
    spread = np.linalg.eigvalsh(np.cov((on - on.mean(0)).T))[1:]
    plate = np.sort(board.size) ** 2 / 12
    return bool((spread > 1.7 * plate).any() or (spread < 0.35 * plate).any())


def _apart(boards: list[CloudBoard], radius_m: float) -> list[CloudBoard]:
    """Return the boards, best first, without those near to a better one: they are the same plate."""
    kept: list[CloudBoard] = []
    for board in sorted(boards, key=lambda b: (-round(b.score, 2), b.noise_m)):
        if all(np.linalg.norm(board.center - other.center) > radius_m / 2 for other in kept):
            kept.append(board)
    return kept
