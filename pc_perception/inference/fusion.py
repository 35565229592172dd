# SPDX-License-Identifier: Apache-2.0
"""Give a LiDAR's points the colours and labels of the pixels that see them, from any number of cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import transform
from pc_perception.labels import UNLABELED
from pc_perception.ops.visibility import visible

COVER = 1.2
"""A point hides what projects nearer to it than half of this times the distance to its neighbours."""
UNSEEN_COLOR = (90, 90, 90)
NEAREST_M = 0.1
"""Points nearer to a camera's plane than this are behind its lens."""
WIDEST_GAP = 3.0
"""Gaps between beams beyond this multiple of the usual one are gaps in the sensor's view, not its spacing."""


@dataclass(frozen=True)
class View:
    """One camera's picture and how it was taken.

    Attributes:
        project: (N, 3) points in the optical frame, metres, to (N, 2) pixels; NaN where none is seen.
        focal_px: (fx, fy), pixels.
        T_camera_cloud: (4, 4) from the cloud's frame, at the cloud's time, to the optical frame at the picture's.
        image: (H, W, 3) uint8.
        labels: (H, W) uint16, ``UNLABELED`` where there is none; None where nothing labels this camera's pictures.
    """

    project: Callable[[NDArray], NDArray]
    focal_px: tuple[float, float]
    T_camera_cloud: NDArray[np.float64]
    image: NDArray[np.uint8]
    labels: NDArray[np.uint16] | None = None


class Fused(NamedTuple):
    """What N points took from the cameras.

    Attributes:
        rgb: (N, 3) uint8, ``UNSEEN_COLOR`` where no camera sees the point.
        labels: (N,) uint16.
        view: (N,) int8, index of the view that each point was taken from, -1 for none.
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    view: NDArray[np.int8]


def fuse(cloud: PointCloud, views: Sequence[View], spacing: NDArray | None = None) -> Fused:
    """Colour and label the points of a cloud.

    A point that other points of the cloud hide from a camera takes nothing of it (``ops.visibility``). Of
    several cameras that see a point the one counts that has it nearest to the middle of its picture.

    Args:
        cloud: N points.
        views: any number.
        spacing: (N, 2) angles, radians, sideways and upwards to the neighbouring points as the LiDAR sees them;
            None measures them (``beam_spacing``).
    """
    n = len(cloud)
    rgb, labels = np.full((n, 3), UNSEEN_COLOR, np.uint8), np.full(n, UNLABELED, np.uint16)
    chosen, best = np.full(n, -1, np.int8), np.full(n, np.inf, np.float32)
    spacing = beam_spacing(cloud) if spacing is None else spacing
    finite = np.flatnonzero(cloud.finite())
    xyz = cloud.xyz[finite]
    reach_m = spacing[finite] * np.linalg.norm(xyz, axis=1)[:, None]
    for k, view in enumerate(views):
        index, u, v, off_axis = _seen(xyz, reach_m, view)
        index = finite[index]
        better = off_axis < best[index]
        index, u, v = index[better], u[better], v[better]
        best[index], chosen[index] = off_axis[better], k
        rgb[index] = view.image[v, u]
        labels[index] = UNLABELED if view.labels is None else view.labels[v, u]
    return Fused(rgb, labels, chosen)


def _seen(xyz: NDArray, reach_m: NDArray, view: View) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return the indices of the points that a camera sees, their columns and rows, and how far off its middle."""
    height, width = view.image.shape[:2]
    camera = transform(view.T_camera_cloud, xyz)
    ahead = np.flatnonzero(camera[:, 2] > NEAREST_M)
    uv, depth = view.project(camera[ahead]).astype(np.float32), camera[ahead, 2]
    half_px = 0.5 * COVER * reach_m[ahead] / depth[:, None] * np.asarray(view.focal_px, np.float32)
    seen = visible(uv, depth, half_px, (height, width))
    uv = uv[seen]
    off_axis = np.abs(uv / np.array([width, height], np.float32) - 0.5).max(1, initial=0.0)
    u, v = np.rint(uv).astype(np.int64).T
    return ahead[seen], u, v, off_axis


def beam_spacing(cloud: PointCloud) -> NDArray[np.float32]:
    """Return (N, 2) angles, radians, between neighbouring points as the sensor at the origin sees them.

    With ``rings`` sideways and upwards apart, upwards for each ring its own; without, both are the mean spacing
    of the directions that the cloud covers.
    """
    finite = np.flatnonzero(cloud.finite())
    x, y, z = cloud.xyz[finite].T
    azimuth, elevation = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    ring = rings(cloud)
    if not len(finite):
        return np.zeros((len(cloud), 2), np.float32)
    if ring is None:
        cells = np.unique(np.rint(np.degrees(azimuth) / 2) * 1000 + np.rint(np.degrees(elevation) / 2))
        covered = len(cells) * np.radians(2.0) ** 2 * float(np.cos(elevation).mean())
        return np.full((len(cloud), 2), np.sqrt(covered / len(finite)), np.float32)
    ids, row = np.unique(ring[finite], return_inverse=True)
    out = np.empty((len(cloud), 2), np.float32)
    out[:, 0] = _step_along(azimuth, row)
    out[:, 1] = _gaps(elevation, row, len(ids))[np.searchsorted(ids, ring).clip(max=len(ids) - 1)]
    return out


def rings(cloud: PointCloud) -> NDArray[np.int64] | None:
    """Return (N,) the beam of each point: field ``ring``, or the rows or columns of an organised cloud; else None.

    Some drivers (RoboSense's, Velodyne's) have a beam in each column: along a beam the elevation hardly changes.
    """
    if "ring" in cloud.fields:
        return cloud.fields["ring"].astype(np.int64)
    if cloud.grid_shape is None or min(cloud.grid_shape) < 2:
        return None
    x, y, z = cloud.xyz.T
    elevation = np.where(cloud.finite(), np.arctan2(z, np.hypot(x, y)), np.nan).reshape(cloud.grid_shape)
    steps = [np.abs(np.diff(elevation, axis=axis)) for axis in (0, 1)]
    down, along = (
        float(np.median(step[np.isfinite(step)])) if np.isfinite(step).any() else 0.0 for step in steps
    )
    row, column = np.indices(cloud.grid_shape)
    return (row if along <= down else column).ravel()


def _step_along(azimuth: NDArray, row: NDArray) -> float:
    """Median angle between neighbours within a ring."""
    order = np.lexsort((azimuth, row))
    step = np.diff(azimuth[order])[np.diff(row[order]) == 0]
    return float(np.median(step)) if len(step) else 0.0


def _gaps(elevation: NDArray, row: NDArray, n_rings: int) -> NDArray[np.float32]:
    """(R,) mean angle from each ring to the next ones above and below."""
    if n_rings < 2:
        return np.zeros(n_rings, np.float32)
    mean = np.bincount(row, elevation, n_rings) / np.bincount(row, minlength=n_rings)
    order = np.argsort(mean)
    between = np.diff(mean[order])
    between = np.minimum(between, WIDEST_GAP * np.median(between))
    gap = np.empty(n_rings, np.float32)
    gap[order] = 0.5 * (np.r_[between[0], between] + np.r_[between, between[-1]])
    return gap
