# SPDX-License-Identifier: Apache-2.0
"""A board in a sweep: its frame, its points and where its edges run, measured about a plane that was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board
from calibration.plane import LEAST_POINTS, fit_plane, plane_frame
from calibration.rectangle import Rectangle, fit_rectangle, signed_distance
from calibration.scan_edges import edge_points
from calibration.scan_lines import ScanLines

_CELL_M = 0.06
_EDGE_M = 0.04
_FLATNESS_M = 0.003  # what a plate bends, and what a sensor's range is off from ring to ring


@dataclass(frozen=True)
class CloudBoard:
    """A board seen by a LiDAR, in its frame.

    Attributes:
        T_lidar_board: (4, 4); the board's frame up to half (square plate: quarter) turns about its normal.
        cells: (M, 3) means of neighbouring points on the plate, metres.
        cell_sigma_m: (M,) standard deviation of their distance from the plate's plane.
        edges: (E, 3) points where scan lines leave the plate, half-way between on and off.
        edge_sigma_m: (E,) standard deviation, from the spacing along the line.
        noise_m: standard deviation of single points about the plane.
        score: 0..1, how well plane, size and surroundings fit.
        n_points: on the plate.
    """

    T_lidar_board: NDArray[np.float64]
    cells: NDArray[np.float64]
    cell_sigma_m: NDArray[np.float64]
    edges: NDArray[np.float64]
    edge_sigma_m: NDArray[np.float64]
    noise_m: float
    score: float
    n_points: int

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit normal towards the sensor."""
        return -self.T_lidar_board[:3, 2]

    @property
    def center(self) -> NDArray[np.float64]:
        """(3,) middle of the outline."""
        return self.T_lidar_board[:3, 3]


@dataclass(frozen=True)
class _Outline:
    """A plate's rectangle on a plane, and which of the points about it lie on it."""

    T_lidar_plane: NDArray[np.float64]
    flat: NDArray[np.float64]
    height: NDArray[np.float64]
    on: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    edges: NDArray[np.float64]
    edge_sigma_m: NDArray[np.float64]
    rectangle: Rectangle


def measure_board(
    lines: ScanLines, rows: NDArray, plane: tuple[NDArray, NDArray], board: Board
) -> CloudBoard | None:
    """Fit the outline to what surrounds a plane and gather its points and edges.

    Args:
        rows: (K,) of ``lines``, the points about the board.
        plane: (3,) normal towards the sensor and (3,) middle, near to the board's own.

    Returns:
        The board, or None where no rectangle of its size lies there.
    """
    rows = np.sort(rows)
    found = None
    # The search's plane is of few points, perhaps also of a stand's or a hand's; the last one is the plate's alone.
    for _ in range(3):
        found = _lay(lines, rows, plane, board)
        if found is None:
            return None
        plane = fit_plane(lines.xyz[rows[found.inside]])
    assert found is not None
    T = plane_frame(plane[0], plane[1])
    center = found.T_lidar_plane[:3, 3] + found.T_lidar_plane[:3, :2] @ found.rectangle.center
    T[:3, 3] = center - plane[0] * float((center - plane[1]) @ plane[0])
    T[:3, :2] = T[:3, :2] @ _turn(found.rectangle.angle + _angle_between(found.T_lidar_plane, T))
    noise = float(found.height[found.inside].std())
    cells, counts = _cells(lines.xyz[rows[found.inside]], T)
    return CloudBoard(
        T,
        cells,
        np.sqrt(noise**2 / counts + _FLATNESS_M**2),
        found.edges,
        found.edge_sigma_m,
        noise,
        _score(found, board),
        int(found.inside.sum()),
    )


def _lay(lines: ScanLines, rows: NDArray, plane: tuple[NDArray, NDArray], board: Board) -> _Outline | None:
    """Lay the board's rectangle onto what a plane holds; None for too few points, walls and other sizes."""
    normal, middle = plane
    T = plane_frame(normal, middle)
    local = (lines.xyz[rows] - middle) @ T[:3, :3]
    flat, height = local[:, :2], local[:, 2]
    noise = 1.4826 * float(np.median(np.abs(height[np.abs(height) < 0.06])))
    on = np.abs(height) < np.clip(3.5 * noise, 0.02, 0.06)
    # Far outliers in the plane would spoil the extent; a plate reaches no further than its half diagonal.
    from_middle = np.linalg.norm(flat, axis=1)
    close = on & (from_middle < 1.15 * board.radius_m)
    if close.sum() < max(LEAST_POINTS, 2 * (on & (from_middle > 1.2 * board.radius_m)).sum()):
        return None
    edges, sigma = edge_points(lines, rows, on, normal, middle)
    if len(edges) < 6:
        return None
    in_plane = (edges - middle) @ T[:3, :2]
    rectangle = fit_rectangle(flat[close], in_plane, board.size)
    if rectangle is None:
        return None
    inside = on & (signed_distance(flat, rectangle, board.size) < 0)
    if inside.sum() < LEAST_POINTS:
        return None
    # Ends of lines elsewhere in the plane (a stand, a floor that crosses it) are no edges of the plate.
    fits = np.abs(signed_distance(in_plane, rectangle, board.size)) < _EDGE_M
    return _Outline(T, flat, height, on, inside, edges[fits], sigma[fits], rectangle)


def _angle_between(T_a: NDArray, T_b: NDArray) -> float:
    """Angle of frame a's x axis in frame b, about b's z."""
    x = T_b[:3, :3].T @ T_a[:3, 0]
    return float(np.arctan2(x[1], x[0]))


def _turn(angle: float) -> NDArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _cells(xyz: NDArray, T: NDArray) -> tuple[NDArray, NDArray]:
    """Mean (M, 3) of the points in every cell on the plate and (M,) how many they are."""
    key = np.floor((xyz - T[:3, 3]) @ T[:3, :2] / _CELL_M).astype(np.int64)
    _, inverse, counts = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(inverse.ravel(), weights=xyz[:, k]) for k in range(3)], 1)
    return sums / counts[:, None], counts


def _score(found: _Outline, board: Board) -> float:
    """Share of the plate's cells that hold points, times how empty the plane is beside the plate."""
    outside = signed_distance(found.flat, found.rectangle, board.size)
    beside = found.on & (outside > 0.04) & (outside < 0.35 * board.size.min())
    n = 6
    share = found.rectangle.local(found.flat[found.inside]) / board.size + 0.5
    cell = np.clip((share * n).astype(int), 0, n - 1)
    covered = len(np.unique(cell[:, 0] * n + cell[:, 1])) / n**2
    return covered * max(0.0, 1 - 2 * beside.sum() / max(found.inside.sum(), 1))
