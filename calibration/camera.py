# SPDX-License-Identifier: Apache-2.0
"""A camera in CameraInfo's terms: project rays to pixels and turn pixels back into rays."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

PLUMB_BOB, RATIONAL, EQUIDISTANT = "plumb_bob", "rational_polynomial", "equidistant"
N_COEFFICIENTS = {PLUMB_BOB: (0, 4, 5), RATIONAL: (8, 12), EQUIDISTANT: (0, 4)}
_ALIASES = {"": PLUMB_BOB, "fisheye": EQUIDISTANT, "kannala_brandt4": EQUIDISTANT, "none": PLUMB_BOB}
_ROUNDS = 30


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics of one camera; fields as in sensor_msgs/CameraInfo.

    The models are those of OpenCV's ``calib3d`` and ``fisheye`` modules, which ROS's ``image_geometry`` uses.

    Attributes:
        width, height: pixels; the centre of the first pixel is (0, 0).
        K: (3, 3) float64 intrinsics, pixels.
        D: distortion: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4]]], or k1..k4 of the angle for equidistant.
        distortion_model: ``plumb_bob``, ``rational_polynomial`` or ``equidistant``.
        R: (3, 3) rectification; identity for one camera alone.
        P: (3, 4) projection of the rectified image; None is K without distortion.

    Raises:
        ValueError: an unknown model, a wrong number of coefficients, or intrinsics that are none (zeros, NaN).
    """

    width: int
    height: int
    K: NDArray[np.float64]
    D: NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))
    distortion_model: str = PLUMB_BOB
    R: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    P: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        model = _ALIASES.get(self.distortion_model, self.distortion_model)
        if model not in N_COEFFICIENTS:
            raise ValueError(
                f"distortion model '{self.distortion_model}' is not one of {', '.join(N_COEFFICIENTS)}"
            )
        K = _matrix(self.K, (3, 3), "K")
        D = np.asarray(self.D, np.float64).ravel()
        if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
            raise ValueError(
                f"the camera_info has no intrinsics (focal lengths {K[0, 0]:g} and {K[1, 1]:g}); "
                "calibrate the camera first: pc-calibrate intrinsics"
            )
        if self.width <= 0 or self.height <= 0:
            raise ValueError(
                f"the camera_info says {self.width} x {self.height} pixels; it must say its size"
            )
        if model == PLUMB_BOB and len(D) in N_COEFFICIENTS[RATIONAL]:
            model = RATIONAL  # as OpenCV takes them; Orbbec's driver calls its eight so
        if len(D) not in N_COEFFICIENTS[model] or not np.isfinite(D).all():
            raise ValueError(f"{model} has {N_COEFFICIENTS[model]} finite coefficients, got {D.tolist()}")
        P = np.hstack([K, np.zeros((3, 1))]) if self.P is None else _matrix(self.P, (3, 4), "P")
        values = {"distortion_model": model, "K": K, "D": D, "R": _matrix(self.R, (3, 3), "R"), "P": P}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_info(cls, info: Any) -> CameraModel:
        """Make a model of a sensor_msgs/CameraInfo message of ROS 1 or 2 (any object with its fields).

        Raises:
            ValueError: as the class; a CameraInfo of zeros is refused.
        """
        get = lambda name: np.asarray(getattr(info, name.lower(), getattr(info, name, None)), float)  # noqa: E731
        R, P = get("R").reshape(3, 3), get("P").reshape(3, 4)
        return cls(
            int(info.width),
            int(info.height),
            get("K").reshape(3, 3),
            get("D"),
            info.distortion_model,
            R if R.any() else np.eye(3),
            P if P.any() else None,
        )

    @property
    def is_fisheye(self) -> bool:
        """Whether it is OpenCV's fisheye model, ``equidistant``."""
        return self.distortion_model == EQUIDISTANT

    @cached_property
    def max_angle_rad(self) -> float:
        """Largest angle from the axis up to which the distortion stays monotonic; beyond it pixels fold back."""
        angle = np.linspace(0.0, np.pi if self.is_fisheye else np.radians(85), 2000)
        ray = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], 1)
        radius = self._distort(ray)[:, 0]
        falling = np.flatnonzero(np.diff(radius) <= 0)
        return float(angle[falling[0]] if len(falling) else angle[-1])

    def project(self, points: NDArray) -> NDArray[np.float64]:
        """Return the (N, 2) pixels of (N, 3) points in the optical frame, metres; NaN where none is seen.

        Points behind a pinhole camera, beyond ``max_angle_rad``, or not finite are not seen; whether a pixel lies
        within the picture is for ``sees``.
        """
        points = np.asarray(points, np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            angle = np.arctan2(np.hypot(points[:, 0], points[:, 1]), points[:, 2])
            uv = self._distort(points) * [self.K[0, 0], self.K[1, 1]] + self.K[:2, 2]
            uv[:, 0] += self.K[0, 1] / self.K[1, 1] * (uv[:, 1] - self.K[1, 2])
            uv[~(angle < self.max_angle_rad)] = np.nan
        return uv

    def sees(self, uv: NDArray) -> NDArray[np.bool_]:
        """(N,) bool, True for pixels inside the picture."""
        with np.errstate(invalid="ignore"):
            inside = (uv > -0.5).all(1) & (uv[:, 0] < self.width - 0.5) & (uv[:, 1] < self.height - 0.5)
        return inside

    def rays(self, uv: NDArray) -> NDArray[np.float64]:
        """Return (N, 3) unit rays in the optical frame of (N, 2) pixels: the inverse of ``project``."""
        uv = np.asarray(uv, np.float64)
        y = (uv[:, 1] - self.K[1, 2]) / self.K[1, 1]
        x = (uv[:, 0] - self.K[0, 2] - self.K[0, 1] * y) / self.K[0, 0]
        distorted = np.stack([x, y], 1)
        if self.is_fisheye:
            return self._rays_fisheye(distorted)
        found = distorted.copy()
        for _ in range(_ROUNDS):  # the fixed point that OpenCV's undistortPoints iterates too
            found += distorted - self._distort(np.column_stack([found, np.ones(len(found))]))
        ray = np.column_stack([found, np.ones(len(found))])
        return ray / np.linalg.norm(ray, axis=1, keepdims=True)

    def _rays_fisheye(self, distorted: NDArray) -> NDArray:
        radius = np.linalg.norm(distorted, axis=1)
        angle = np.minimum(radius, self.max_angle_rad)
        k = np.r_[1.0, self.D if len(self.D) else np.zeros(4)]
        powers = np.arange(1, 10, 2)
        for _ in range(_ROUNDS):  # Newton
            value = (k * angle[:, None] ** powers).sum(1)
            slope = (k * powers * angle[:, None] ** (powers - 1)).sum(1)
            angle = np.clip(angle - (value - radius) / slope, 0.0, self.max_angle_rad)
        side = distorted / np.maximum(radius, 1e-12)[:, None] * np.sin(angle)[:, None]
        return np.column_stack([side, np.cos(angle)])

    def _distort(self, points: NDArray) -> NDArray:
        """(N, 2) distorted coordinates on the plane z = 1."""
        if self.is_fisheye:
            across = np.hypot(points[:, 0], points[:, 1])
            angle = np.arctan2(across, points[:, 2])
            k = self.D if len(self.D) else np.zeros(4)
            s = angle**2
            bent = angle * (1 + s * (k[0] + s * (k[1] + s * (k[2] + s * k[3]))))
            # On the axis the direction is arbitrary and the radius 0.
            return points[:, :2] * (bent / np.maximum(across, 1e-12))[:, None]
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = np.pad(self.D, (0, 12 - len(self.D)))
        x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
        r2 = x * x + y * y
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
        v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
        return np.stack([u, v], 1)


def _matrix(values: Any, shape: tuple[int, int], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.size != shape[0] * shape[1]:
        raise ValueError(f"{name} has {array.size} values, it must have {shape[0]} x {shape[1]}")
    return array.reshape(shape)
