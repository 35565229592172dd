# SPDX-License-Identifier: Apache-2.0
"""Whole-room scans: the fused, coloured cloud that a hand-held or tripod scanner leaves of a room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.simulation.camera import PinholeCamera
from pc_perception.simulation.raycast import Hits, Raycaster
from pc_perception.simulation.room import RoomScene, make_room
from pc_perception.simulation.room_views import room_view
from pc_perception.simulation.shading import Exposure, shade

SCAN_STYLES = ("handheld", "tripod", "partial")


@dataclass(frozen=True)
class ScanSettings:
    """How a room is scanned.

    Attributes:
        style: ``handheld`` (many downward views, little ceiling), ``tripod`` (few positions, all
            around) or ``partial`` (a few views of one part).
        spacing_m: about how far apart the points of the result are.
        far_m: longest range that is kept.
        noise_m: standard deviation of a point across its surface.
        warp_m: size of the slow bends that drift leaves.
    """

    style: str = "handheld"
    spacing_m: float = 0.025
    far_m: float = 4.0
    noise_m: float = 0.004
    warp_m: float = 0.012

    @classmethod
    def draw(cls, rng: Generator) -> ScanSettings:
        """Draw settings like those of the public data sets."""
        style = str(rng.choice(SCAN_STYLES, p=[0.55, 0.25, 0.2]))
        return cls(
            style,
            float(rng.uniform(0.015, 0.03)),
            float(rng.uniform(6.0, 10.0) if style == "tripod" else rng.uniform(3.0, 5.0)),
            float(rng.uniform(0.001, 0.009)),
            float(abs(rng.normal(0.0, 0.012))),
        )


def scan_room(
    room: RoomScene | int, settings: ScanSettings | None = None, seed: int | None = None
) -> PointCloud:
    """Scan a room as a whole.

    Args:
        room: a room, or the seed of one.
        settings: how; drawn where None.
        seed: of the scan's own random choices; the room's seed, or 0, where None.

    Returns:
        A cloud in frame "room" (z up, floor about z = 0) with ``rgb`` (N, 3) uint8, ``label`` uint16
        (raw simulation_room ids), ``instance`` uint16 and ``part`` uint8.

    Raises:
        ValueError: the style is unknown.
    """
    if isinstance(room, int):
        seed = room if seed is None else seed
        room = make_room(room)
    rng = np.random.default_rng([seed or 0, 0x5CA9])
    settings = settings or ScanSettings.draw(rng)
    if settings.style not in SCAN_STYLES:
        raise ValueError(f"no scan style '{settings.style}'; there are {', '.join(SCAN_STYLES)}")
    raycaster = Raycaster(room)
    rays = _rays(room, raycaster, settings, rng)
    hits = raycaster.cast(rays, rng)
    keep = _kept(rays, hits, settings, raycaster, rng)
    points = rays[keep, :3] + hits.distance[keep, None] * rays[keep, 3:]
    measured = _disturb(points, rays[keep], settings, rng)
    chosen = _one_per_cell(measured, settings.spacing_m)
    keep, points, measured = keep[chosen], points[chosen], measured[chosen]
    light = shade(room, raycaster.materials, points, hits, keep)
    light *= 1.0 + np.float32(0.12) * _waves(points, rng, 2.0)[:, :1]  # exposure drifts while one walks
    return PointCloud(
        measured,
        {
            "rgb": Exposure.draw(rng).develop(light, rng),
            "label": hits.raw_class[keep],
            "instance": hits.instance[keep],
            "part": hits.part[keep],
        },
        "room",
    )


def _rays(
    room: RoomScene, raycaster: Raycaster, settings: ScanSettings, rng: Generator
) -> NDArray[np.float32]:
    """(R, 6) unit rays of all views."""
    area = float(np.prod(room.plan.max(0) - room.plan.min(0)))
    if settings.style == "tripod":
        n_views = int(np.clip(area / 9.0, 2, 7))
        rays = [
            _panorama(room_view(room, raycaster, rng, handheld=True)[:3, 3], settings, rng)
            for _ in range(n_views)
        ]
    else:
        n_views = int(rng.integers(2, 9)) if settings.style == "partial" else int(np.clip(area * 1.4, 12, 48))
        width = int(136 * np.clip(0.022 / settings.spacing_m, 0.4, 1.4))  # about two rays for each point kept
        camera = PinholeCamera.from_fov(width, width * 3 // 4, float(rng.uniform(55, 65)))
        rays = [
            camera.rays(room_view(room, raycaster, rng, handheld=True, variety=0.15)) for _ in range(n_views)
        ]
    out = np.concatenate(rays)
    # Within a pixel rays go anywhere, or views would leave their rows and columns on flat walls.
    out[:, 3:] += np.float32(0.014) * (rng.random((len(out), 3), dtype=np.float32) - np.float32(0.5))
    out[:, 3:] /= np.sqrt(np.einsum("ij,ij->i", out[:, 3:], out[:, 3:]))[:, None]
    return out


def _panorama(eye: NDArray, settings: ScanSettings, rng: Generator) -> NDArray[np.float32]:
    n = int(90_000 * np.clip(0.02 / settings.spacing_m, 0.3, 1.4) ** 2)
    z = rng.uniform(-0.92, 1.0, n)
    yaw = rng.uniform(-np.pi, np.pi, n)
    r = np.sqrt(1.0 - z * z)
    rays = np.empty((n, 6), dtype=np.float32)
    rays[:, :3] = eye
    rays[:, 3], rays[:, 4], rays[:, 5] = r * np.cos(yaw), r * np.sin(yaw), z
    return rays


def _kept(
    rays: NDArray, hits: Hits, settings: ScanSettings, raycaster: Raycaster, rng: Generator
) -> NDArray[np.int64]:
    """Choose the hits that a depth sensor would return: in range, not grazing, not on mirrors; mixed."""
    cos = np.abs(np.einsum("ij,ij->i", rays[:, 3:], hits.normal))
    gloss = raycaster.materials.gloss[hits.material]
    chance = np.clip(cos / 0.25, 0.0, 1.0) * (1.0 - 0.5 * gloss**3)
    seen = (hits.distance < settings.far_m) & (hits.distance > 0.3)
    return rng.permutation(np.flatnonzero(seen & (rng.random(len(rays), dtype=np.float32) < chance)))


def _disturb(points: NDArray, rays: NDArray, settings: ScanSettings, rng: Generator) -> NDArray[np.float32]:
    """Add noise along the ray, the slow bends of drift, and the odd point that floats before an edge."""
    along = settings.noise_m * rng.standard_normal(len(points), dtype=np.float32)
    floating = np.flatnonzero(rng.random(len(points)) < 0.002)
    along[floating] -= rng.exponential(0.05, len(floating)).astype(np.float32)
    out = points + along[:, None] * rays[:, 3:]
    out += settings.warp_m * _waves(points, rng, 1.5)
    return out.astype(np.float32)


def _waves(points: NDArray, rng: Generator, shortest_m: float) -> NDArray[np.float32]:
    """(N, 3) slow random waves over space with standard deviation about 1."""
    out = np.zeros((len(points), 3), dtype=np.float32)
    for _ in range(3):
        k = rng.normal(size=3)
        k *= 2 * np.pi / (np.linalg.norm(k) * rng.uniform(shortest_m, 4 * shortest_m))
        wave = np.sin(points @ k.astype(np.float32) + np.float32(rng.uniform(0, 6.3)))
        out += wave[:, None] * rng.normal(0, 0.8, 3).astype(np.float32)
    return out


def _one_per_cell(points: NDArray, cell_m: float) -> NDArray[np.int64]:
    """Return the index of the first point of each cubic cell, in ascending order."""
    cell = np.floor(points / cell_m).astype(np.int64)
    cell -= cell.min(0) if len(cell) else 0
    size = cell.max(0) + 1 if len(cell) else np.ones(3, dtype=np.int64)
    _, first = np.unique((cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2], return_index=True)
    return np.sort(first)
