# SPDX-License-Identifier: Apache-2.0
"""Choose from where a cloud is looked at: behind a driving sensor, or into a room without its ceiling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.upright import is_view, upright
from pc_perception.labels import LabelSet

Kind = Literal["street", "room", "camera", "object"]

_ROOM_EXTENT = 25.0  # metres; horizontally larger clouds are seen as streets
_OBJECT_EXTENT = 1.5
_CUT_HEIGHT = 2.0  # metres above the floor at which a room's walls and ceiling are cut away


@dataclass(frozen=True)
class View:
    """A pinhole camera in the cloud's upright frame (z up).

    Attributes:
        kind: what the cloud was taken for.
        eye, target: (3,) float64, metres.
        fov_deg: vertical opening angle.
        keep: (N,) bool, the points to draw.
        cut: height above which a room was cut away, metres, or None.
    """

    kind: Kind
    eye: NDArray[np.float64]
    target: NDArray[np.float64]
    fov_deg: float
    keep: NDArray[np.bool_]
    cut: float | None = None

    def axes(self) -> NDArray[np.float64]:
        """Return the (3, 3) rows right, down, forward of the camera."""
        forward = self.target - self.eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])


def choose_view(
    cloud: PointCloud,
    aspect: float,
    labels: NDArray | None = None,
    label_set: LabelSet | None = None,
) -> View:
    """Choose a camera for a cloud.

    Args:
        cloud: any cloud; points that are not finite are never kept.
        aspect: width / height of the picture.
        labels: (N,) integers; with ``label_set``, a class named ``ceiling`` is taken off rooms.
    """
    xyz = upright(cloud).astype(np.float64)
    keep = np.isfinite(xyz).all(axis=1)
    if not keep.any():
        return View("object", np.array([-3.0, -2.0, 2.0]), np.zeros(3), 40.0, keep)
    low, high = np.percentile(xyz[keep], [0.5, 99.5], axis=0)
    extent = float((high - low)[:2].max())
    if is_view(cloud):
        return _behind_camera(xyz, keep)
    if extent > _ROOM_EXTENT:
        return _behind_sensor(xyz, keep, low, high, aspect)
    if extent < _OBJECT_EXTENT:
        return _around("object", xyz, keep, 25.0, aspect)
    cut = float(low[2]) + _CUT_HEIGHT if high[2] - low[2] > 1.2 * _CUT_HEIGHT else None
    below = keep & ~_ceiling(xyz, cut, labels, label_set)
    if not below.any():
        below, cut = keep, None
    return replace(_around("room", xyz, below, 52.0, aspect), cut=cut)


def object_view(xyz: NDArray, aspect: float, azimuth_deg: float = 40.0, elevation_deg: float = 22.0) -> View:
    """Look at one object from a given side, whatever its shape: pictures of many are then comparable.

    Args:
        xyz: (N, 3), z up; points that are not finite are never kept.
        aspect: width / height of the picture.
        azimuth_deg: where the eye stands about z, 0 in front of an object that faces +x.
        elevation_deg: how high it stands.
    """
    keep = np.isfinite(xyz).all(axis=1)
    points = np.asarray(xyz, np.float64)[keep]
    if not len(points):
        return View("object", np.array([3.0, 2.0, 2.0]), np.zeros(3), 30.0, keep)
    azimuth = np.radians(azimuth_deg)
    heading = -np.array([np.cos(azimuth), np.sin(azimuth)])
    target = (points.min(0) + points.max(0)) / 2
    eye, target = _fit(points, target, _direction(heading, elevation_deg), 28.0, aspect)
    return View("object", eye, target, 30.0, keep)  # a little wider, for a margin


def _ceiling(
    xyz: NDArray, cut: float | None, labels: NDArray | None, label_set: LabelSet | None
) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        above = xyz[:, 2] > (np.inf if cut is None else cut)
    if labels is not None and label_set is not None and "ceiling" in label_set.classes:
        above |= labels == label_set.classes.index("ceiling")
    return above


def _principal_direction(xy: NDArray) -> NDArray[np.float64]:
    """Return the (2,) unit vector along which the points spread most, towards +x (or +y)."""
    direction = np.linalg.eigh(np.cov((xy - np.median(xy, axis=0)).T))[1][:, 1]
    return direction if direction.sum() >= 0 else -direction


def _fit(
    xyz: NDArray, target: NDArray, forward: NDArray, fov_deg: float, aspect: float
) -> tuple[NDArray, NDArray]:
    """Return (eye, target) looking along ``forward`` so that nearly all points fill the picture."""
    axes = View("object", target - forward, target, fov_deg, np.empty(0, dtype=bool)).axes()
    tan_v = np.tan(np.radians(fov_deg) / 2)
    distance = 0.3
    for _ in range(3):  # centring changes the distance that is needed, and the other way round
        right, down, depth = (axes @ (xyz - target).T).astype(np.float64)
        needed = np.maximum(np.abs(right) / (tan_v * aspect), np.abs(down) / tan_v) - depth
        distance = max(float(np.percentile(needed, 99.8)) * 1.03, 0.3)
        seen = np.stack([right, down]) / np.maximum(depth + distance, 0.1)
        middle = np.percentile(seen, [0.2, 99.8], axis=1).mean(axis=0) * distance
        target = target + middle[0] * axes[0] + middle[1] * axes[1]
    return target - forward * distance, target


def _direction(heading: NDArray, elevation_deg: float) -> NDArray[np.float64]:
    e = np.radians(elevation_deg)
    return np.array([heading[0] * np.cos(e), heading[1] * np.cos(e), -np.sin(e)])


def _behind_camera(xyz: NDArray, keep: NDArray) -> View:
    distance = float(np.median(xyz[keep, 0]))
    target = np.array([distance, 0.0, float(np.median(xyz[keep, 2]))])
    eye = np.array([-0.25 * distance, 0.35 * distance, 0.35 * distance])
    return View("camera", eye, target, 50.0, keep)


def _behind_sensor(xyz: NDArray, keep: NDArray, low: NDArray, high: NDArray, aspect: float) -> View:
    # A sweep is given around its sensor; a map or tile is not, and is seen from around its middle.
    at_origin = bool(((low[:2] < 0) & (high[:2] > 0)).all())
    middle = np.zeros(2) if at_origin else np.median(xyz[keep, :2], axis=0)
    away = np.linalg.norm(xyz[:, :2] - middle, axis=1)
    radius = max(20.0, float(np.percentile(away[keep], 75)))
    near = keep & (away < radius)
    heading = _principal_direction(xyz[near, :2])
    ground = float(np.percentile(xyz[near, 2], 10))
    target = np.array([*(middle + 0.25 * radius * heading), ground])
    turn = np.radians(20.0)  # a little from the side, so that poles do not hide each other
    heading = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ heading
    eye, target = _fit(xyz[near], target, _direction(heading, 30.0), 42.0, aspect)
    return View("street", eye, target, 42.0, keep)


def _around(kind: Kind, xyz: NDArray, keep: NDArray, elevation_deg: float, aspect: float) -> View:
    points = xyz[keep]
    if len(points) < 3:
        return View(kind, np.array([-3.0, -2.0, 2.0]), np.zeros(3), 40.0, keep)
    low, high = np.percentile(points, [1, 99], axis=0)
    longest = _principal_direction(points[:, :2])
    across = np.array([-longest[1], longest[0]])
    heading = across * np.cos(0.5) + longest * np.sin(0.5)
    target = (low + high) / 2
    eye, target = _fit(points, target, _direction(heading, elevation_deg), 38.0, aspect)
    return View(kind, eye, target, 38.0, keep)
