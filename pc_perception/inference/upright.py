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
CELL_M, SAMPLE, MIN_LEVEL_POINTS = 0.15, 20_000, 30
"""Edge of the cells whose normals vote, about how many points of the view are looked at, and how many of them must
lie in cells that can be level."""
WIDEST_VIEW = 1.2
"""Tangent of the half opening angle beyond which an organised cloud is no camera's."""


def looks_optical(cloud: PointCloud) -> bool:
    """Say whether a cloud is a camera's view: by its frame's name, else organised and all in front."""
    if cloud.frame and cloud.frame not in ("map", "world"):
        return cloud.is_optical
    if cloud.grid_shape is None or 1 in cloud.grid_shape:
        return False
    xyz = cloud.xyz[cloud.finite()]
    if not len(xyz) or not (xyz[:, 2] > 0).all():
        return False
    sideways = np.abs(xyz[:, :2]).max(1) / xyz[:, 2]
    return bool(np.percentile(sideways, 95) < WIDEST_VIEW)


def upright(cloud: PointCloud) -> NDArray[np.float32]:
    """Return (N, 3) points with z up; NaN and Inf stay where they are.

    A cloud that is not a camera's view comes back unchanged. A camera's view is turned into the body
    convention (REP-103) and levelled by its dominant near-horizontal plane (floor or table top), to which
    the normals of small flat cells vote, so it needs no gravity vector and no order of the points.
    """
    if not looks_optical(cloud):
        return cloud.xyz
    return rotate(cloud.xyz, _body_rotation(cloud))


def upright_rotation(cloud: PointCloud) -> NDArray[np.float64]:
    """Return the (3, 3) rotation that ``upright`` turns a cloud by; the identity where it is no camera's view."""
    return _body_rotation(cloud) if looks_optical(cloud) else np.eye(3)


def _body_rotation(cloud: PointCloud) -> NDArray[np.float64]:
    """(3, 3) rotation from a camera's axes to ones that bring the view's dominant up to z, x staying ahead."""
    up = _dominant_up(cloud)
    if up is None:
        return R_BODY_OPTICAL
    forward = np.array([1.0, 0.0, 0.0]) - up[0] * up
    forward /= np.linalg.norm(forward)
    return np.stack([forward, np.cross(up, forward), up]) @ R_BODY_OPTICAL


def _dominant_up(cloud: PointCloud) -> NDArray | None:
    """Mean normal, in body axes, of the largest set of like ones that can be a floor's, a top's or a ceiling's."""
    normal, weight = _plane_normals(cloud)
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


def _plane_normals(cloud: PointCloud) -> tuple[NDArray, NDArray]:
    """Return (K, 3) unit normals, in body axes and towards the camera, of the cells that are flat, and (K,) points."""
    some = cloud.xyz[:: max(1, len(cloud) // SAMPLE)]
    some = some[np.isfinite(some).all(1)]
    points = torch.from_numpy(some @ R_BODY_OPTICAL.T.astype(np.float32))
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
