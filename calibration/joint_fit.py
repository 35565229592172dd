# SPDX-License-Identifier: Apache-2.0
"""The joint robust fit of T_camera_lidar and all board poses to planes, edges and image corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board
from calibration.consensus import Pair
from calibration.twist import moved, rotation_vector, step
from pc_perception.geometry import inverse, transform

_CAUCHY = 2.5
_GROWTH_SIGMA_M = 0.01
_ROUNDS = 60
_LEAST_STEP = 1e-6


@dataclass(frozen=True)
class JointFit:
    """What the fit found.

    Attributes:
        T_camera_lidar: (4, 4).
        covariance: (6, 6) of ``moved``'s twist: rad and m, LiDAR turned about its origin, camera's axes.
        T_camera_boards: (4, 4) for each pair, refined.
        growth_m: how much further than the plate its edges seem to reach (a beam's width).
        chi2: mean squared residual in standard deviations; about 1 where the noise is as assumed.
    """

    T_camera_lidar: NDArray[np.float64]
    covariance: NDArray[np.float64]
    T_camera_boards: tuple[NDArray[np.float64], ...]
    growth_m: float
    chi2: float


@dataclass(frozen=True)
class _Rows:
    """Residuals of one pair in standard deviations, and their slopes.

    Attributes:
        value: (M,) of the LiDAR's points.
        common: (M, 7) slopes by the extrinsic's twist (``moved``) and the plate's growth.
        own: (M, 6) slopes by the board's twist (``step``).
    """

    value: NDArray[np.float64]
    common: NDArray[np.float64]
    own: NDArray[np.float64]


def fit_jointly(
    pairs: Sequence[Pair], board: Board, T_camera_lidar: NDArray, weights: NDArray | None = None
) -> JointFit:
    """Minimise the Cauchy loss over all LiDAR points from a first guess.

    Unknowns: the extrinsic, the plate's growth, and each board's pose, which its image's corners hold with their
    information matrix. Gauss-Newton with iterated weights; boards are eliminated (Schur complement). An image is
    no outlier to itself, so its rows are not down-weighted: a board could else leave its own corners and the fit
    would have several minima.

    Args:
        weights: (n,) of the pairs; a pair of weight 2 counts as if it were there twice, one of 0 is left out.
    """
    counts = np.ones(len(pairs)) if weights is None else np.asarray(weights, float)
    kept = [(p, c) for p, c in zip(pairs, counts, strict=True) if c > 0]
    T, growth = T_camera_lidar, 0.0
    boards = [p.image.T_camera_board for p, _ in kept]
    for _ in range(_ROUNDS):
        A, b = np.zeros((7, 7)), np.zeros(7)
        A[6, 6], b[6] = _GROWTH_SIGMA_M**-2, growth * _GROWTH_SIGMA_M**-2
        back, squares, n_effective = [], 0.0, 0.0
        for (pair, count), T_camera_board in zip(kept, boards, strict=True):
            rows = _rows(pair, board, T, T_camera_board, growth)
            weight = 1 / (1 + (rows.value / _CAUCHY) ** 2)
            squares += float((weight * rows.value**2).sum())
            n_effective += float(weight.sum())
            own = (rows.own * weight[:, None]).T
            held = pair.image.information
            H = own @ rows.own + held
            pull = own @ rows.value + held @ _twist(T_camera_board, pair.image.T_camera_board)
            through = np.linalg.solve(H, np.column_stack([own @ rows.common, pull]))
            common = (rows.common * weight[:, None]).T
            A += count * (common @ rows.common - common @ rows.own @ through[:, :7])
            b += count * (common @ rows.value - common @ rows.own @ through[:, 7])
            back.append(through)
        x = -np.linalg.solve(A + 1e-6 * np.eye(7), b)
        T, growth = moved(T, x[:6]), growth + float(x[6])
        boards = [step(-t[:, 7] - t[:, :7] @ x) @ B for t, B in zip(back, boards, strict=True)]
        if np.abs(x).max() < _LEAST_STEP:
            break
    chi2 = squares / max(n_effective - 7, 1.0)
    covariance = np.linalg.inv(A + 1e-6 * np.eye(7))[:6, :6] * max(chi2, 1.0)
    return JointFit(T, (covariance + covariance.T) / 2, tuple(boards), growth, chi2)


def _rows(pair: Pair, board: Board, T: NDArray, T_camera_board: NDArray, growth: float) -> _Rows:
    """Measure a pair's LiDAR points in the board's frame.

    Plane: z = 0. Line: x or y, whichever side is nearest, is half the plate's size plus its growth. Where two lines
    meet is the corner, which needs no equation of its own.
    """
    n = len(pair.cloud.cells)
    points = np.vstack([pair.cloud.cells, pair.cloud.edges])
    sigma = np.r_[pair.cloud.cell_sigma_m, pair.cloud.edge_sigma_m]
    turned = points @ T[:3, :3].T
    seen = turned + T[:3, 3]
    q = transform(inverse(T_camera_board), seen)
    direction = np.tile([0.0, 0.0, 1.0], (len(points), 1))
    flat = q[n:, :2]
    axis = (np.abs(flat) - board.size / 2).argmax(1)
    direction[n:] = np.eye(3)[axis] * np.sign(np.take_along_axis(flat, axis[:, None], 1))
    limit = np.r_[np.zeros(n), board.size[axis] / 2 + growth]
    along = direction @ T_camera_board[:3, :3].T  # in the camera's frame
    by_turn = np.cross(turned, along)
    by_growth = np.r_[np.zeros(n), -np.ones(len(flat))]
    return _Rows(
        ((q * direction).sum(1) - limit) / sigma,
        np.column_stack([by_turn, along, by_growth]) / sigma[:, None],
        -np.column_stack([np.cross(seen, along), along]) / sigma[:, None],
    )


def _twist(T_new: NDArray, T_old: NDArray) -> NDArray:
    """(6,) twist with ``step(twist) @ T_old == T_new`` (small angles)."""
    T = T_new @ inverse(T_old)
    return np.r_[rotation_vector(T[:3, :3]), T[:3, 3]]
