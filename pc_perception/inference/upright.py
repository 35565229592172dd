# SPDX-License-Identifier: Apache-2.0
"""Turn clouds of a camera upright: indoor models expect z up and a level floor."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.geometry import R_BODY_OPTICAL
from pc_perception.ops.rotate import rotate
from pc_perception.ops.shape import moments
from pc_perception.ops.voxelize import voxelize

MAX_TILT_DEG = 60.0
"""Planes further than this from horizontal (as the camera is held) are walls, not floor or table."""
MAX_TILT_BELOW_DEG = 25.0
"""The same for planes seen from below, ceilings: to a camera that looks down steeply, a wall in front of it
shows such a side too."""
CELL_M, REACH_M, SAMPLE, MIN_LEVEL_POINTS = 0.15, 100.0, 20_000, 30
"""Edge of the cells whose normals vote, how far off they may lie, about how many points of the view are looked at, and
how many of them must lie in cells that can be level."""
WIDEST_VIEW, PROBES = 2.0, 2_000
"""Tangent of the half opening angle beyond which a view is no camera's, and about how many points tell."""
UPRIGHT_FRAME = "upright"
"""Name for the frame of clouds that were turned upright already."""
FIXED_FRAMES = ("", "map", "world", "odom", UPRIGHT_FRAME)
"""Names of frames that are no sensor's."""


def camera_axes(cloud: PointCloud) -> NDArray[np.float64] | None:
    """Return the (3, 3) rotation from the axes of a camera's view to the camera's body axes; None: it is no such view.

    Z is ahead where the frame's name says so, and in an organised cloud that lies in front of its origin along z,
    whatever the name (Azure Kinect's ``rgb_camera_link``). X is ahead in a coloured one in front of its origin along
    x, where it is organised or in a sensor's frame: ZED and Gazebo give clouds so, Gazebo even in a frame called
    optical.
    """
    organised = cloud.grid_shape is not None and 1 not in cloud.grid_shape
    some = cloud.xyz[:: max(1, len(cloud) // PROBES)]
    some = some[np.isfinite(some).all(1)]
    if (cloud.is_optical or organised) and _in_front(some, 2):
        return R_BODY_OPTICAL
    if "rgb" in cloud.fields and (organised or cloud.frame not in FIXED_FRAMES) and _in_front(some, 0):
        return np.eye(3)
    return R_BODY_OPTICAL if cloud.is_optical else None


def _in_front(xyz: NDArray, axis: int) -> bool:
    """Say whether (K, 3) finite points lie ahead along an axis, within a camera's opening angle."""
    ahead = xyz[:, axis]
    if not len(xyz) or not (ahead > 0).all():
        return False
    sideways = np.abs(np.delete(xyz, axis, 1)).max(1) / ahead
    return bool(np.percentile(sideways, 95) < WIDEST_VIEW)


def is_view(cloud: PointCloud) -> bool:
    """Say whether a cloud is a camera's view, whichever its axes."""
    return camera_axes(cloud) is not None


def upright(cloud: PointCloud) -> NDArray[np.float32]:
    """Return (N, 3) points with z up; NaN and Inf stay where they are.

    A cloud that is not a camera's view (``camera_axes``) comes back unchanged. A camera's view is turned into the
    body convention (REP-103) and levelled by its dominant near-horizontal plane (floor or table top), to which
    the normals of small flat cells vote, so it needs no gravity vector and no order of the points.
    """
    axes = camera_axes(cloud)
    return cloud.xyz if axes is None else rotate(cloud.xyz, _level_rotation(cloud, axes))


def upright_rotation(cloud: PointCloud) -> NDArray[np.float64]:
    """Return the (3, 3) rotation that ``upright`` turns a cloud by; the identity where it is no camera's view."""
    axes = camera_axes(cloud)
    return np.eye(3) if axes is None else _level_rotation(cloud, axes)


def _level_rotation(cloud: PointCloud, axes: NDArray) -> NDArray[np.float64]:
    """(3, 3) rotation from a camera's axes to ones that bring the view's dominant up to z, x staying ahead."""
    up = _dominant_up(cloud, axes)
    if up is None:
        return axes
    forward = np.array([1.0, 0.0, 0.0]) - up[0] * up
    forward /= np.linalg.norm(forward)
    return np.stack([forward, np.cross(up, forward), up]) @ axes


def _dominant_up(cloud: PointCloud, axes: NDArray) -> NDArray | None:
    """Mean normal, in body axes, of the largest set of like ones that can be a floor's, a top's or a ceiling's."""
    normal, weight = _plane_normals(cloud, axes)
    below = normal[:, 2] < -np.cos(np.deg2rad(MAX_TILT_BELOW_DEG))
    normal[below] *= -1
    level = normal[:, 2] > np.cos(np.deg2rad(MAX_TILT_DEG))
    normal, weight = normal[level], weight[level]
    if weight.sum() < MIN_LEVEL_POINTS:
        return None
    candidates = normal[np.argsort(-weight, kind="stable")[:200]]
    votes = (candidates @ normal.T > np.cos(np.deg2rad(6.0))) @ weight
    near = normal @ candidates[votes.argmax()] > np.cos(np.deg2rad(10.0))
    up = weight[near] @ normal[near]
    return up / np.linalg.norm(up)


def _plane_normals(cloud: PointCloud, axes: NDArray) -> tuple[NDArray, NDArray]:
    """Return (K, 3) unit normals, in body axes and towards the camera, of the cells that are flat, and (K,) points."""
    some = cloud.xyz[:: max(1, len(cloud) // SAMPLE)]
    some = some[(np.abs(some) < REACH_M).all(1)]  # which NaN and Inf are not
    points = torch.from_numpy(some @ axes.T.astype(np.float32))
    voxels = voxelize(points, CELL_M)
    sums = moments(points, voxels.inverse, len(voxels)).numpy()
    sums = sums[sums[:, 0] >= 4]
    n, mean, square = sums[:, :1], sums[:, 1:4] / sums[:, :1], sums[:, 4:] / sums[:, :1]
    covariance = square[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3) - mean[:, :, None] * mean[:, None]
    values, vectors = np.linalg.eigh(covariance)
    normal = vectors[:, :, 0]
    # Towards the camera: tops and floors point up, ceilings down.
    normal = normal * -np.sign(np.einsum("ij,ij->i", normal, mean))[:, None]
    flat = values[:, 0] < 0.1 * values[:, 1]
    return normal[flat], n[flat, 0]
