# SPDX-License-Identifier: Apache-2.0
"""Find a board in a sweep by itself: a plane of its size with nothing beside it, and where its edges run."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.board import Board
from calibration.rectangle import Rectangle, fit_rectangle, signed_distance
from calibration.scan_lines import ScanLines

_TRIALS = 50
_CELL_M = 0.06
_EDGE_M = 0.04
_EDGE_NOISE_M = 0.003  # of where a beam some millirad wide stops returning
_LEAST_POINTS = 40
FLATNESS_M = 0.003  # what a plate bends, and what a sensor's range is off from ring to ring


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
    if len(around) < _LEAST_POINTS:
        return []
    # The search needs no more points than tell a plane; the measurement takes them all.
    thin = around[_one_per_cell(lines.xyz[around], shortest / 16)]
    thin_tree, tree = cKDTree(lines.xyz[thin]), cKDTree(lines.xyz[around])
    found: list[CloudBoard] = []
    tried = np.zeros((0, 6))
    for middle in lines.xyz[thin[_one_per_cell(lines.xyz[thin], shortest / 2.5)]]:
        rows = thin[thin_tree.query_ball_point(middle, 1.1 * radius)]
        plane = _plane_through(lines.xyz[rows], rng)
        if plane is None or _overflows(lines.xyz[rows], plane, board):
            continue
        # Seeds on one plate give the same plane again and again.
        place = np.r_[plane[1], 0.5 * plane[0]]
        if (((tried - place) ** 2).sum(1) < 0.06**2).any():
            continue
        tried = np.vstack([tried, place])
        candidate = _measure(lines, around[tree.query_ball_point(plane[1], 1.7 * radius)], plane, board)
        if candidate is not None and candidate.score >= least_score:
            found.append(candidate)
    return _apart(found, radius)


def _one_per_cell(xyz: NDArray, step_m: float) -> NDArray[np.int64]:
    """Rows of the first point in every cell of a grid."""
    cells = np.floor((xyz - xyz.min(0)) / step_m).astype(np.int64)
    width = cells.max(0) + 1
    key = (cells[:, 0] * width[1] + cells[:, 1]) * width[2] + cells[:, 2]
    return np.unique(key, return_index=True)[1]


def _plane_through(xyz: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray] | None:
    """Normal and middle of the plane with the most points within 4 cm, refined; None for too few points."""
    if len(xyz) < _LEAST_POINTS:
        return None
    triples = xyz[rng.integers(len(xyz), size=(_TRIALS, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    length = np.linalg.norm(normals, axis=1)
    normals = normals[length > 1e-4] / length[length > 1e-4, None]
    if not len(normals):
        return None
    offsets = (normals * triples[length > 1e-4, 0]).sum(1)
    near = np.abs(xyz @ normals.T - offsets) < 0.04
    best = near[:, int(near.sum(0).argmax())]
    for limit in (0.05, 0.04, 0.04):
        if best.sum() < _LEAST_POINTS:
            return None
        normal, middle = _fit_plane(xyz[best])
        best = np.abs((xyz - middle) @ normal) < limit
    return normal, middle


def _fit_plane(xyz: NDArray) -> tuple[NDArray, NDArray]:
    middle = xyz.mean(0)
    spread = xyz - middle
    normal = np.linalg.eigh(spread.T @ spread)[1][:, 0]
    return (-normal if normal @ middle > 0 else normal), middle


def _overflows(xyz: NDArray, plane: tuple[NDArray, NDArray], board: Board) -> bool:
    """True where the plane's points spread much less or more than a full plate would."""
    normal, middle = plane
    on = xyz[np.abs((xyz - middle) @ normal) < 0.04]
    spread = np.linalg.eigvalsh(np.cov((on - on.mean(0)).T))[1:]
    plate = np.sort(board.size) ** 2 / 12
    return bool((spread > 1.7 * plate).any() or (spread < 0.35 * plate).any())


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


def _measure(
    lines: ScanLines, rows: NDArray, plane: tuple[NDArray, NDArray], board: Board
) -> CloudBoard | None:
    """Fit the outline to what surrounds a plane and gather its points and edges."""
    rows = np.sort(rows)
    found = None
    # The search's plane is of few points, perhaps also of a stand's or a hand's; the last one is the plate's alone.
    for _ in range(3):
        found = _lay(lines, rows, plane, board)
        if found is None:
            return None
        plane = _fit_plane(lines.xyz[rows[found.inside]])
    assert found is not None
    T = _plane_frame(plane[0], plane[1])
    center = found.T_lidar_plane[:3, 3] + found.T_lidar_plane[:3, :2] @ found.rectangle.center
    T[:3, 3] = center - plane[0] * float((center - plane[1]) @ plane[0])
    T[:3, :2] = T[:3, :2] @ _turn(found.rectangle.angle + _angle_between(found.T_lidar_plane, T))
    noise = float(found.height[found.inside].std())
    cells, counts = _cells(lines.xyz[rows[found.inside]], T)
    return CloudBoard(
        T,
        cells,
        np.sqrt(noise**2 / counts + FLATNESS_M**2),
        found.edges,
        found.edge_sigma_m,
        noise,
        _score(found, board),
        int(found.inside.sum()),
    )


def _lay(lines: ScanLines, rows: NDArray, plane: tuple[NDArray, NDArray], board: Board) -> _Outline | None:
    """Lay the board's rectangle onto what a plane holds; None for too few points, walls and other sizes."""
    normal, middle = plane
    T = _plane_frame(normal, middle)
    local = (lines.xyz[rows] - middle) @ T[:3, :3]
    flat, height = local[:, :2], local[:, 2]
    noise = 1.4826 * float(np.median(np.abs(height[np.abs(height) < 0.06])))
    on = np.abs(height) < np.clip(3.5 * noise, 0.02, 0.06)
    # Far outliers in the plane would spoil the extent; a plate reaches no further than its half diagonal.
    from_middle = np.linalg.norm(flat, axis=1)
    close = on & (from_middle < 1.15 * board.radius_m)
    if close.sum() < max(_LEAST_POINTS, 2 * (on & (from_middle > 1.2 * board.radius_m)).sum()):
        return None
    edges, sigma = edge_points(lines, rows, on, normal, middle)
    if len(edges) < 6:
        return None
    in_plane = (edges - middle) @ T[:3, :2]
    rectangle = fit_rectangle(flat[close], in_plane, board.size)
    if rectangle is None:
        return None
    inside = on & (signed_distance(flat, rectangle, board.size) < 0)
    if inside.sum() < _LEAST_POINTS:
        return None
    # Ends of lines elsewhere in the plane (a stand, a floor that crosses it) are no edges of the plate.
    fits = np.abs(signed_distance(in_plane, rectangle, board.size)) < _EDGE_M
    return _Outline(T, flat, height, on, inside, edges[fits], sigma[fits], rectangle)


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


def _plane_frame(normal: NDArray, origin: NDArray) -> NDArray:
    """(4, 4) frame on a plane with z away from the sensor and x as level as it can be."""
    z = -normal
    x = np.cross([0.0, 0.0, -1.0], z)  # seen from the sensor to the right, as in an image
    if np.linalg.norm(x) < 0.1:
        x = np.cross([1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    T[:3, 3] = origin
    return T


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


def _apart(boards: list[CloudBoard], radius_m: float) -> list[CloudBoard]:
    kept: list[CloudBoard] = []
    for board in sorted(boards, key=lambda b: (-round(b.score, 2), b.noise_m)):
        if all(np.linalg.norm(board.center - other.center) > radius_m / 2 for other in kept):
            kept.append(board)
    return kept
