# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera that renders colour, exact depth, class, instance and part masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception import geometry
from pc_perception.simulation.raycast import Hits, Raycaster
from pc_perception.simulation.shading import Exposure, shade


@dataclass(frozen=True)
class CameraFrame:
    """One rendered picture, all images row-major (H, W).

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres along the optical axis, 0 where nothing was met.
        classes: (H, W) uint16 raw class ids, 0 for nothing.
        instances: (H, W) uint16 instance ids, 0 for nothing.
        parts: (H, W) uint8 part ids.
        K: (3, 3) intrinsics in pixels.
        T_world_camera: (4, 4) pose of the optical frame (z forward, x right, y down).
        stamp_ns: when it was taken.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    classes: NDArray[np.uint16]
    instances: NDArray[np.uint16]
    parts: NDArray[np.uint8]
    K: NDArray[np.float64]
    T_world_camera: NDArray[np.float64]
    stamp_ns: int = 0


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics of a camera without distortion.

    Attributes:
        width, height: pixels.
        K: (3, 3) intrinsics in pixels; pixel centres have whole coordinates.
    """

    width: int
    height: int
    K: NDArray[np.float64]

    @classmethod
    def from_fov(cls, width: int, height: int, horizontal_fov_deg: float) -> PinholeCamera:
        """Make a camera with square pixels and the axis in the middle of the picture.

        Raises:
            ValueError: the field of view is not between 0 and 180 degrees.
        """
        if not 0.0 < horizontal_fov_deg < 180.0:
            raise ValueError(f"a field of view lies between 0 and 180 degrees, got {horizontal_fov_deg}")
        f = width / 2 / np.tan(np.deg2rad(horizontal_fov_deg) / 2)
        K = np.array([[f, 0.0, (width - 1) / 2], [0.0, f, (height - 1) / 2], [0.0, 0.0, 1.0]])
        return cls(width, height, K)

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """(H * W, 3) ray directions in the optical frame, row-major, with z = 1."""
        v, u = np.mgrid[0 : self.height, 0 : self.width]
        x = (u.ravel() - self.K[0, 2]) / self.K[0, 0]
        y = (v.ravel() - self.K[1, 2]) / self.K[1, 1]
        return np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float32)

    def rays(self, T_world_camera: NDArray) -> NDArray[np.float32]:
        """(H * W, 6) rays in the world whose parameter is depth: direction has unit z in the camera."""
        rays = np.empty((self.height * self.width, 6), dtype=np.float32)
        rays[:, :3] = T_world_camera[:3, 3]
        np.matmul(self.directions, T_world_camera[:3, :3].T.astype(np.float32), out=rays[:, 3:])
        return rays

    def render(
        self,
        raycaster: Raycaster,
        T_world_camera: NDArray,
        rng: Generator,
        exposure: Exposure | None = None,
        stamp_ns: int = 0,
    ) -> CameraFrame:
        """Take a picture of the scene as it is at the ray caster's time; glass is seen as a surface.

        Args:
            raycaster: of the scene.
            T_world_camera: (4, 4) pose of the optical frame.
            rng: for sensor noise.
            exposure: how light becomes values; the default is neutral.
            stamp_ns: for the frame.
        """
        rays = self.rays(T_world_camera)
        hits = raycaster.cast(rays)
        return self.picture(raycaster, T_world_camera, rays, hits, rng, exposure or Exposure(), stamp_ns)

    def picture(
        self,
        raycaster: Raycaster,
        T_world_camera: NDArray,
        rays: NDArray,
        hits: Hits,
        rng: Generator,
        exposure: Exposure,
        stamp_ns: int = 0,
    ) -> CameraFrame:
        """Turn what ``rays`` met into a frame."""
        shape = (self.height, self.width)
        depth = np.where(hits.hit, hits.distance, np.float32(0.0))
        points = rays[:, :3] + depth[:, None] * rays[:, 3:]
        light = shade(raycaster.scene, raycaster.materials, points, hits)
        return CameraFrame(
            rgb=exposure.develop(light, rng).reshape(*shape, 3),
            depth=depth.reshape(shape),
            classes=hits.raw_class.reshape(shape),
            instances=hits.instance.reshape(shape),
            parts=hits.part.reshape(shape),
            K=self.K,
            T_world_camera=np.asarray(T_world_camera, dtype=np.float64),
            stamp_ns=stamp_ns,
        )


def look(eye: NDArray, yaw_rad: float, pitch_rad: float, roll_rad: float = 0.0) -> NDArray:
    """(4, 4) pose of an optical frame at ``eye`` that looks along ``yaw``; positive pitch looks up."""
    R = geometry.rotation_z(yaw_rad) @ geometry.rotation_y(-pitch_rad) @ geometry.rotation_x(roll_rad)
    return geometry.pose(np.asarray(eye, dtype=np.float64), R @ geometry.R_BODY_OPTICAL)


def camera_ring(
    n_cameras: int = 6,
    width: int = 800,
    height: int = 450,
    fov_deg: float = 70.0,
    mount_height_m: float = 1.6,
) -> list[tuple[str, PinholeCamera, NDArray]]:
    """Make a ring of cameras around a vehicle, as ``drive.simulate_drive`` takes it.

    Returns:
        (name, camera, T_base_camera of the optical frame) for each. Six are named as nuScenes names its
        own; others ``CAM_0`` ... counter-clockwise from the front.

    Raises:
        ValueError: there is not at least one camera.
    """
    if n_cameras < 1:
        raise ValueError(f"a ring needs at least one camera, got {n_cameras}")
    yaws_deg = [360.0 * k / n_cameras for k in range(n_cameras)]
    names = [f"CAM_{k}" for k in range(n_cameras)]
    if n_cameras == 6:
        names = ["CAM_FRONT", "CAM_FRONT_LEFT", "CAM_BACK_LEFT"]
        names += ["CAM_BACK", "CAM_BACK_RIGHT", "CAM_FRONT_RIGHT"]
        yaws_deg = [0.0, 55.0, 110.0, 180.0, -110.0, -55.0]
    camera = PinholeCamera.from_fov(width, height, fov_deg)
    ring = []
    for name, yaw in zip(names, np.deg2rad(yaws_deg), strict=True):
        eye = np.array([0.5 * np.cos(yaw) + 0.5, 0.4 * np.sin(yaw), mount_height_m])
        ring.append((name, camera, look(eye, float(yaw), -0.03)))
    return ring
