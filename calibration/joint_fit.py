# SPDX-License-Identifier: Apache-2.0
"""The joint robust fit of T_camera_lidar and all board poses to planes, edges and image corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board
from calibration.consensus import Pair
from calibration.twist import moved, rotation, skew, step
from pc_perception.geometry import inverse, transform

_CAUCHY = 2.5
_GROWTH_SIGMA_M = 0.01
_ROUNDS = 4


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


class _Problem:
    """Residuals in standard deviations and their Jacobian about the present estimate.

    Unknowns: 6 of the extrinsic (``moved``), 1 growth of the plate, 6 of each board pose (``step``). A point p of
    the LiDAR is q in the board's frame. Plane: q_z = 0. Line: |q_x| or |q_y| is half the size; where two lines
    meet is the corner, which needs no equation of its own. The image's corners enter as the information matrix
    of each board pose about its own fit.
    """

    def __init__(self, pairs: Sequence[Pair], board: Board, T: NDArray, boards: Sequence[NDArray]) -> None:
        self.T, self.boards, self.half = T, boards, board.size / 2
        self.roots = [np.linalg.cholesky(p.image.information).T for p in pairs]
        self.drift = [_step_between(b, p.image.T_camera_board) for b, p in zip(boards, pairs, strict=True)]
        self.points = [np.vstack([p.cloud.cells, p.cloud.edges]) for p in pairs]
        self.sigma = [np.r_[p.cloud.cell_sigma_m, p.cloud.edge_sigma_m] for p in pairs]
        self.sides = [self._rows(k, p) for k, p in enumerate(pairs)]

    def _rows(self, k: int, pair: Pair) -> NDArray:
        """(M, 3) direction in the board's frame along which each point is measured; edges: their nearest side."""
        n = len(pair.cloud.cells)
        rows = np.tile([0.0, 0.0, 1.0], (len(self.points[k]), 1))
        q = transform(inverse(self.boards[k]) @ self.T, self.points[k][n:])[:, :2]
        axis = (np.abs(q) - self.half).argmax(1)
        rows[n:] = np.eye(3)[axis] * np.sign(np.take_along_axis(q, axis[:, None], 1))
        return rows

    def __call__(self, x: NDArray) -> tuple[NDArray, NDArray]:
        values, slopes = [np.array([x[6] / _GROWTH_SIGMA_M])], [np.zeros((1, len(x)))]
        slopes[0][0, 6] = 1 / _GROWTH_SIGMA_M
        R, t = rotation(x[:3]), self.T[:3, 3] + x[3:6]
        for k, (points, sigma, rows) in enumerate(zip(self.points, self.sigma, self.sides, strict=True)):
            at = slice(7 + 6 * k, 13 + 6 * k)
            turned = points @ (R @ self.T[:3, :3]).T
            S = step(x[at])
            from_board = turned + t - S[:3, 3]
            to_board = inverse(self.boards[k])[:3, :3] @ S[:3, :3].T
            q = from_board @ to_board.T + inverse(self.boards[k])[:3, 3]
            along = rows @ to_board  # (M, 3) the measured direction in the camera's frame
            is_edge = rows[:, 2] == 0
            limit = np.where(is_edge, np.abs(rows[:, :2]) @ self.half + x[6], 0.0)
            values.append(((q * rows).sum(1) - limit) / sigma)
            slope = np.zeros((len(points), len(x)))
            slope[:, :3] = -np.einsum("mi,mij->mj", along, skew(turned))
            slope[:, 3:6] = along
            slope[:, 6] = np.where(is_edge, -1.0, 0.0)
            slope[:, at] = np.hstack([np.einsum("mi,mij->mj", along, skew(from_board)), -along])
            slopes.append(slope / sigma[:, None])
            values.append(self.roots[k] @ (x[at] + self.drift[k]))
            slopes.append(np.zeros((6, len(x))))
            slopes[-1][:, at] = self.roots[k]
        return np.concatenate(values), np.vstack(slopes)


def _step_between(T_new: NDArray, T_old: NDArray) -> NDArray:
    """(6,) twist with ``step(twist) @ T_old == T_new`` (small angles)."""
    from calibration.twist import rotation_vector

    T = T_new @ inverse(T_old)
    return np.r_[rotation_vector(T[:3, :3]), T[:3, 3]]


def fit_jointly(pairs: Sequence[Pair], board: Board, T_camera_lidar: NDArray) -> JointFit:
    """Minimise the Cauchy loss of all residuals from a first guess; a pair may appear more than once.

    Which side of the plate an edge point belongs to is decided anew in each of a few rounds.
    """
    from scipy.optimize import least_squares

    T, boards = T_camera_lidar, [p.image.T_camera_board for p in pairs]
    growth = 0.0
    for _ in range(_ROUNDS):
        problem = _Problem(pairs, board, T, boards)
        start = np.zeros(7 + 6 * len(pairs))
        start[6] = growth
        fit = least_squares(
            lambda x, p=problem: p(x)[0],
            start,
            jac=lambda x, p=problem: p(x)[1],
            loss="cauchy",
            f_scale=_CAUCHY,
            x_scale="jac",
            xtol=1e-7,
            ftol=1e-7,
        )
        T, growth = moved(T, fit.x[:6]), float(fit.x[6])
        boards = [step(fit.x[7 + 6 * k : 13 + 6 * k]) @ b for k, b in enumerate(boards)]
        if np.abs(fit.x[:6]).max() < 1e-5:
            break
    residual, jacobian = problem(fit.x)
    weight = 1 / (1 + (residual / _CAUCHY) ** 2)
    chi2 = float((weight * residual**2).sum() / max(weight.sum() - len(fit.x), 1))
    information = (jacobian * weight[:, None]).T @ jacobian
    covariance = np.linalg.pinv(information, rcond=1e-14, hermitian=True)[:6, :6] * max(chi2, 1.0)
    return JointFit(T, (covariance + covariance.T) / 2, tuple(boards), growth, chi2)
