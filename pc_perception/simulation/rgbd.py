# SPDX-License-Identifier: Apache-2.0
"""An RGB-D camera in a room: organised clouds with the holes, noise and steps of real depth images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception import geometry
from pc_perception.cloud import PointCloud
from pc_perception.simulation.camera import CameraFrame, PinholeCamera
from pc_perception.simulation.raycast import Hits, Raycaster
from pc_perception.simulation.room import make_room
from pc_perception.simulation.room_views import room_view, table_view
from pc_perception.simulation.shading import Exposure, noise_tile, white_noise

OPTICAL_FRAME = "camera_optical_frame"
LEAST_SEEN = 0.02
"""Share of pixels with depth that makes a view; a camera of short range often sees nothing across a room."""


@dataclass(frozen=True)
class RgbdCamera:
    """A pinhole camera whose depth comes from a projector or second lens beside it.

    Attributes:
        camera: intrinsics, of colour and registered depth alike.
        near_m, far_m: depths outside are missing.
        baseline_m: distance of the projector; what it cannot light has no depth.
        noise: standard deviation of depth at 1 m, metres; grows with the square of depth.
        step: quantisation step of depth at 1 m, metres; grows with the square of depth.
        graze_cos: surfaces seen flatter than this cosine begin to lose depth.
        edge_px: how far, in pixels, depth edges fray.
        hole_share: share of area that is missing in blotches.
    """

    camera: PinholeCamera
    near_m: float = 0.4
    far_m: float = 5.0
    baseline_m: float = 0.06
    noise: float = 0.0015
    step: float = 0.002
    graze_cos: float = 0.12
    edge_px: float = 0.7
    hole_share: float = 0.02

    @classmethod
    def draw(cls, rng: Generator, width: int = 320, height: int = 240) -> RgbdCamera:
        """Draw a camera of one of the common makes (structured light, stereo, time of flight)."""
        return cls(
            PinholeCamera.from_fov(width, height, float(rng.uniform(54.0, 75.0))),
            near_m=float(rng.uniform(0.25, 0.55)),
            # Some drivers cut the background off, so that a table top stands alone.
            far_m=float(rng.uniform(3.5, 8.0) if rng.random() < 0.88 else rng.uniform(1.2, 2.2)),
            baseline_m=float(rng.choice([0.0, 0.05, 0.075])),
            noise=float(rng.uniform(0.0006, 0.003)),
            step=float(rng.choice([0.001, 0.0028])),
            graze_cos=float(rng.uniform(0.05, 0.22)),
            edge_px=float(rng.uniform(0.0, 1.2)),
            hole_share=float(rng.uniform(0.0, 0.12)),
        )

    def capture(
        self,
        raycaster: Raycaster,
        T_world_camera: NDArray,
        rng: Generator,
        exposure: Exposure | None = None,
        stamp_ns: int = 0,
    ) -> tuple[PointCloud, CameraFrame]:
        """Take one frame.

        Returns:
            The organised cloud in the optical frame, NaN where depth is missing, with ``rgb`` (N, 3)
            uint8, ``label`` uint16 (raw simulation_room ids, 0 where there is no depth), ``instance``
            uint16 and ``part`` uint8; and the frame with the same, noisy depth.
        """
        rays = self.camera.rays(T_world_camera)
        hits = raycaster.cast(rays, rng)
        frame = self.camera.picture(
            raycaster, T_world_camera, rays, hits, rng, exposure or Exposure(), stamp_ns
        )
        source = self._fray(frame.depth, rng)  # masks say what the depth belongs to, so they fray with it
        depth = self._measure(frame.depth.ravel()[source], hits, rays, raycaster, rng)
        frame = replace(
            frame,
            depth=depth,
            classes=frame.classes.ravel()[source],
            instances=frame.instances.ravel()[source],
            parts=frame.parts.ravel()[source],
        )
        return cloud_of(frame), frame

    def _measure(
        self, z: NDArray, hits: Hits, rays: NDArray, raycaster: Raycaster, rng: Generator
    ) -> NDArray[np.float32]:
        shape = (self.camera.height, self.camera.width)
        missing = (z < self.near_m) | (z > self.far_m) | self._unlit(z)
        cos = np.abs(np.einsum("ij,ij->i", hits.normal, rays[:, 3:])) / np.linalg.norm(rays[:, 3:], axis=1)
        table = raycaster.materials
        lost = np.clip(1.0 - cos / self.graze_cos, 0.0, 1.0) + 0.35 * table.gloss[hits.material] ** 3
        # Holes come in blotches: smooth noise against a threshold, coarse and fine mixed.
        blotches = 0.75 * _patch(shape, rng, 1) + 0.25 * _grain(shape, rng)
        threshold = 2.05 - 2.6 * lost.reshape(shape) - 4.0 * self.hole_share
        missing |= blotches > threshold
        spread = self.noise * z * z
        z = z + spread * (0.6 * _grain(shape, rng) + 0.8 * _patch(shape, rng, 3))
        # Sensors count in steps of disparity, that is of 1 / z.
        steps = np.maximum(np.round(1.0 / (np.maximum(z, 0.05) * self.step)), 1.0)
        return np.where(missing, 0.0, 1.0 / (steps * self.step)).astype(np.float32)

    def _fray(self, depth: NDArray, rng: Generator) -> NDArray[np.int64]:
        """Let depth edges wander: return for each pixel the flat index of the one whose depth it reads."""
        height, width = depth.shape
        own = np.arange(height * width).reshape(height, width)
        if self.edge_px == 0.0:
            return own
        shift = self.edge_px * np.stack([_grain((height, width), rng), _grain((height, width), rng)])
        shift = np.clip(np.rint(shift), -2, 2).astype(np.int64)
        v = np.clip(np.arange(height)[:, None] + shift[0], 0, height - 1)
        u = np.clip(np.arange(width)[None] + shift[1], 0, width - 1)
        other = v * width + u
        # Within a surface the pixel's own depth stays; only a jump is taken over.
        jump = np.abs(depth.ravel()[other] - depth) > 0.03 * depth + 0.01
        return np.where(jump, other, own)

    def _unlit(self, z: NDArray) -> NDArray[np.bool_]:
        """Find pixels that the projector, ``baseline_m`` to the left, cannot see past nearer things."""
        if self.baseline_m == 0.0:
            return np.zeros(z.shape, dtype=bool)
        shift = self.camera.K[0, 0] * self.baseline_m / np.where(z > 0, z, np.inf)
        column = np.arange(z.shape[1])[None] + shift
        ahead = np.maximum.accumulate(column, axis=1)
        return column < ahead - 0.75


def _patch(shape: tuple[int, int], rng: Generator, pixels: int) -> NDArray[np.float32]:
    """(H, W) smooth noise whose finest grain is ``pixels`` wide, from a random place of the tile."""
    tile = noise_tile()
    i = (np.arange(shape[0]) // pixels + rng.integers(512)) % 512
    j = (np.arange(shape[1]) // pixels + rng.integers(512)) % 512
    return tile[np.ix_(i, j)]


def _grain(shape: tuple[int, int], rng: Generator) -> NDArray[np.float32]:
    """(H, W) normal deviates from a random place of a fixed sequence: much quicker than fresh ones."""
    n = shape[0] * shape[1]
    start = int(rng.integers(1 << 16))
    return np.take(white_noise(), np.arange(start, start + n) & 0xFFFF).reshape(shape)


def cloud_of(frame: CameraFrame, frame_id: str = OPTICAL_FRAME) -> PointCloud:
    """Turn a frame into an organised cloud in its optical frame; label 0 and NaN where depth is 0."""
    valid = (frame.depth > 0).ravel()
    return PointCloud(
        geometry.unproject(frame.K, frame.depth),
        {
            "rgb": frame.rgb.reshape(-1, 3),
            "label": np.where(valid, frame.classes.ravel(), 0).astype(np.uint16),
            "instance": np.where(valid, frame.instances.ravel(), 0).astype(np.uint16),
            "part": np.where(valid, frame.parts.ravel(), 0).astype(np.uint8),
        },
        frame_id,
        frame.stamp_ns,
        (frame.depth.shape[0], frame.depth.shape[1]),
    )


def rgbd_frames(
    seed: int, n_frames: int = 1, width: int = 320, height: int = 240, kind: str | None = None
) -> Iterator[tuple[PointCloud, CameraFrame]]:
    """Make ``n_frames`` RGB-D frames of one random room with one random camera."""
    rng = np.random.default_rng([seed, 0x56BD])
    room = make_room(seed, kind)
    raycaster = Raycaster(room)
    camera, exposure = RgbdCamera.draw(rng, width, height), Exposure.draw(rng)
    for k in range(n_frames):
        for _ in range(8):
            T = table_view(room, rng) if rng.random() < 0.3 else None
            T = room_view(room, raycaster, rng) if T is None else T
            cloud, frame = camera.capture(raycaster, T, rng, exposure, stamp_ns=k * 33_333_333)
            if np.mean(frame.depth > 0) >= LEAST_SEEN:
                break
        yield cloud, frame


def look_around(seed: int, n_per_room: int, width: int = 320, height: int = 240) -> Iterator[CameraFrame]:
    """Turn once on the spot in a room, then go to the next one, without end.

    Args:
        seed: of the first room; the next ones count up.
        n_per_room: frames of one turn.
    """
    while True:
        rng = np.random.default_rng([seed, 0x100C])
        room = make_room(seed)
        raycaster = Raycaster(room)
        camera = RgbdCamera(PinholeCamera.from_fov(width, height, 65.0))
        T = room_view(room, raycaster, rng, handheld=True)
        for k in range(n_per_room):
            turn = geometry.pose(R=geometry.rotation_z(2 * np.pi * k / n_per_room))
            turned = turn @ geometry.pose(R=T[:3, :3])
            turned[:3, 3] = T[:3, 3]
            yield camera.capture(raycaster, turned, rng)[1]
        seed += 1
