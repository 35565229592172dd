# SPDX-License-Identifier: Apache-2.0
"""A spinning LiDAR: rays, what becomes of their light, and the faults of real sensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.simulation.beams import PATTERNS, elevations_deg
from pc_perception.simulation.echo import Echo, reflect
from pc_perception.simulation.raycast import Raycaster


@dataclass(frozen=True)
class SpinningLidar:
    """A spinning multi-beam LiDAR; frame: x forward, y left, z up; turns clockwise from behind.

    Attributes:
        n_beams: number of rings, ring 0 lowest.
        rate_hz: turns per second.
        n_azimuths: firings per turn.
        pattern: name of an elevation table in ``beams``.
        elevations: (n_beams,) degrees, in place of ``pattern``.
        min_range_m, max_range_m: no returns nearer and further than this.
        echo: strength of noise, dropout, mixed pixels and stray points.
        roof: the own vehicle below the sensor: clearance, front, rear, half width in metres, or None.
    """

    n_beams: int = 32
    rate_hz: float = 10.0
    n_azimuths: int = 1085
    pattern: str = "hdl32"
    elevations: tuple[float, ...] | None = None
    min_range_m: float = 1.2
    max_range_m: float = 100.0
    echo: Echo = field(default_factory=Echo)
    roof: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.elevations is not None and len(self.elevations) != self.n_beams:
            raise ValueError(f"{len(self.elevations)} elevations for {self.n_beams} beams; give one for each")
        if self.n_azimuths < 1 or self.rate_hz <= 0:
            raise ValueError(f"n_azimuths {self.n_azimuths} and rate_hz {self.rate_hz} must be positive")

    @classmethod
    def random(cls, rng: np.random.Generator, n_beams: int | None = None) -> SpinningLidar:
        """Draw a sensor from the breadth of those on the market, with its own noise and gain."""
        beams = int(rng.choice([32, 64, 64])) if n_beams is None else n_beams
        names = {
            16: ["vlp16", "uniform"],
            32: ["hdl32", "hdl32", "vlp32", "uniform"],
            128: ["ouster", "uniform"],
        }
        pattern = str(
            rng.choice(names.get(beams, [p for p in PATTERNS if p not in ("vlp16", "hdl32", "vlp32")]))
        )
        angles = elevations_deg(pattern, beams)
        angles = angles * rng.uniform(0.93, 1.07) + rng.normal(0, 0.5) + rng.normal(0, 0.05, beams)
        step = {16: 1800, 32: 1085, 128: 1024}.get(beams, int(rng.choice([1085, 1500, 1800])))
        roof = None
        if rng.random() < 0.5:
            roof = (
                rng.uniform(0.25, 0.6),
                rng.uniform(0.5, 2.6),
                rng.uniform(0.8, 2.6),
                rng.uniform(0.6, 0.95),
            )
        return cls(
            beams, 10.0, step, pattern, tuple(np.sort(angles).tolist()), rng.uniform(0.9, 2.5),
            rng.uniform(70, 200), Echo.random(rng), roof,
        )  # fmt: skip

    @cached_property
    def _rays(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Directions (W, H, 3) in the sensor's frame, time (W,) and range of the own roof (W, H)."""
        degrees = elevations_deg(self.pattern, self.n_beams) if self.elevations is None else self.elevations
        elevation = np.radians(np.asarray(degrees))[None]
        azimuth = np.pi - 2 * np.pi * (np.arange(self.n_azimuths)[:, None] + 0.5) / self.n_azimuths
        flat = np.cos(elevation)
        up = np.broadcast_to(np.sin(elevation), (self.n_azimuths, self.n_beams))
        directions = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), up], -1).astype(np.float32)
        time = (np.arange(self.n_azimuths) / (self.n_azimuths * self.rate_hz)).astype(np.float32)
        roof = np.full(directions.shape[:2], np.inf, np.float32)
        if self.roof is not None:
            clearance, front, rear, half = self.roof
            t = np.where(up < -1e-3, clearance / np.maximum(-up, 1e-3), 1e9)
            x, y = t * directions[..., 0], t * directions[..., 1]
            inside = (t < 1e9) & (x < front) & (x > -rear) & (np.abs(y) < half)
            roof = np.where(inside, t, np.inf).astype(np.float32)
        return directions, time, roof

    def scan(
        self,
        raycaster: Raycaster,
        T_world_sensor: NDArray,
        velocity: NDArray | tuple = (0.0, 0.0, 0.0),
        stamp_ns: int = 0,
        rng: np.random.Generator | None = None,
        yaw_rate: float = 0.0,
        organized: bool = False,
    ) -> PointCloud:
        """Make one turn.

        Args:
            raycaster: the scene, with its moving objects set to the sweep's time.
            T_world_sensor: (4, 4) pose at the start of the sweep.
            velocity: (3,) m/s of the sensor in the world; points are not corrected for it, each is in
                the sensor's frame at its own time.
            stamp_ns: time of the start of the sweep.
            rng: source of all noise; without it the sensor is perfect and nothing is transparent.
            yaw_rate: rad/s about the sensor's z axis.
            organized: keep (n_beams, n_azimuths) points with NaN for no return, top ring first.

        Returns:
            A cloud in frame ``lidar`` with intensity (0..255), ring, time, label (raw class, 0 none),
            instance and part.
        """
        directions, time, roof = self._rays
        R = np.asarray(T_world_sensor, np.float32)[:3, :3]
        turned = directions @ R.T if not yaw_rate else _turned(directions, time * np.float32(yaw_rate)) @ R.T
        rays = np.empty((*directions.shape[:2], 6), np.float32)
        rays[..., :3] = np.asarray(T_world_sensor)[:3, 3] + time[:, None, None] * np.asarray(velocity)
        rays[..., 3:] = turned
        hits = raycaster.cast(rays.reshape(-1, 6), rng)
        shape = (self.n_azimuths, self.n_beams)
        found = reflect(self.echo, hits, raycaster.materials, rays[..., 3:].reshape(-1, 3), shape, rng)
        own = roof.ravel() < found.distance
        distance = np.where(own, roof.ravel(), found.distance)
        for array in (found.label, found.instance, found.part):
            array[own] = 0
        keep = (distance > self.min_range_m) & (distance < self.max_range_m)
        xyz = directions.reshape(-1, 3) * np.where(keep, distance, np.nan)[:, None]
        fields: dict[str, NDArray] = {
            "intensity": found.intensity,
            "ring": np.tile(np.arange(self.n_beams, dtype=np.uint16), self.n_azimuths),
            "time": np.repeat(time, self.n_beams),
            "label": found.label,
            "instance": found.instance,
            "part": found.part,
        }
        if organized:
            order = np.arange(len(xyz)).reshape(shape).T[::-1].ravel()
            for name in ("intensity", "label", "instance", "part"):
                fields[name][~keep] = 0
            fields = {name: values[order] for name, values in fields.items()}
            return PointCloud(xyz[order], fields, "lidar", stamp_ns, (self.n_beams, self.n_azimuths))
        return PointCloud(xyz, fields, "lidar", stamp_ns).select(np.flatnonzero(keep))


def _turned(directions: NDArray[np.float32], angle: NDArray[np.float32]) -> NDArray[np.float32]:
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    return np.stack([c * x - s * y, s * x + c * y, z], -1)
