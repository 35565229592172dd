# SPDX-License-Identifier: Apache-2.0
"""A rectangle of known size laid onto points in a plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SCALE_M = 0.015
_ROUNDS = 25
_MISFIT = 0.35


@dataclass(frozen=True)
class Rectangle:
    """Middle (2,) in metres and angle in rad of a rectangle whose size is known."""

    center: NDArray[np.float64]
    angle: float

    def local(self, points: NDArray) -> NDArray[np.float64]:
        """(N, 2) points in the rectangle's own axes."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return (points - self.center) @ np.array([[c, -s], [s, c]])


def signed_distance(points: NDArray, rectangle: Rectangle, size: NDArray) -> NDArray[np.float64]:
    """(N,) distance from the outline of (N, 2) points: negative inside; outside that to the nearer side's line."""
    return (np.abs(rectangle.local(points)) - size / 2).max(1)


def fit_rectangle(points: NDArray, edges: NDArray, size: NDArray) -> Rectangle | None:
    """Lay a rectangle of ``size`` (2,) over (N, 2) points so that (E, 2) edge points come onto its outline.

    The start comes from the angle whose extent fits the size best; then Gauss-Newton on the distance of each
    edge point from the side nearest to it, under Cauchy weights: a stand or a hand leaves a few wrong ones.

    Returns:
        The best of a few starts, or None where the points' extent is far from the size at every angle.
    """
    fits = [_descend(start, edges, size) for start in _starts(points, size)]
    return min(fits, key=lambda fit: fit[0])[1] if fits else None


def _descend(rectangle: Rectangle, edges: NDArray, size: NDArray) -> tuple[float, Rectangle]:
    for _ in range(_ROUNDS):
        local = rectangle.local(edges)
        over = np.abs(local) - size / 2
        axis = over.argmax(1)
        error = over.max(1)
        weight = 1 / (1 + (error / _SCALE_M) ** 2)
        normal = np.sign(np.take_along_axis(local, axis[:, None], 1)) * np.eye(2)[axis]
        # What a shift along the rectangle's axes and a turn do to the distance.
        jacobian = np.column_stack([-normal, normal[:, 0] * local[:, 1] - normal[:, 1] * local[:, 0]])
        A = (jacobian * weight[:, None]).T @ jacobian + 1e-9 * np.eye(3)
        dx, dy, turn = -np.linalg.solve(A, jacobian.T @ (weight * error))
        c, s = np.cos(rectangle.angle), np.sin(rectangle.angle)
        shift = np.array([c * dx - s * dy, s * dx + c * dy])
        rectangle = Rectangle(rectangle.center + shift, rectangle.angle + float(turn))
        if np.hypot(dx, dy) + abs(turn) < 1e-6:
            break
    return float(np.log1p((error / _SCALE_M) ** 2).mean()), rectangle


def _starts(points: NDArray, size: NDArray, n: int = 3) -> list[Rectangle]:
    """The ``n`` of 60 angles over a half turn whose extent is most like the size."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 60, endpoint=False)
    axes = np.stack([np.cos(angles), np.sin(angles), -np.sin(angles), np.cos(angles)], 1).reshape(-1, 2, 2)
    low, high = np.quantile(np.einsum("kij,nj->kin", axes, points), (0.01, 0.99), axis=-1)
    misfit = np.abs(high - low - size).sum(1)
    best = [k for k in np.argsort(misfit)[:n] if misfit[k] < _MISFIT * size.sum()]
    return [Rectangle(axes[k].T @ (low[k] + high[k]) / 2, float(angles[k])) for k in best]
