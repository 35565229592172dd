# SPDX-License-Identifier: Apache-2.0
"""Where cameras stand in a room: free standpoints with something to see, and close views of tops."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.simulation.camera import look
from pc_perception.simulation.raycast import Raycaster
from pc_perception.simulation.room import RoomScene
from pc_perception.simulation.room_layout import inside

_N_CANDIDATES = 24
# Probe rays of a candidate: a coarse picture in its own direction, and a ring around it.
_PICTURE = np.array([[1.0, y, z] for y in np.linspace(-0.55, 0.55, 6) for z in np.linspace(-0.4, 0.4, 4)])
_RING = np.array([[np.cos(a), np.sin(a), 0.0] for a in np.arange(6) * np.pi / 3])


def room_view(
    room: RoomScene, raycaster: Raycaster, rng: Generator, *, handheld: bool = False, variety: float = 0.3
) -> NDArray:
    """Draw a pose of a camera that stands free in the room and has something to see.

    Args:
        room: the room.
        raycaster: of the room.
        rng: random choices.
        handheld: a person who scans: 1.1 to 1.75 m high, not looking up; else 0.5 to 1.8 m.
        variety: how much views of many objects are preferred; 0 takes any direction.

    Returns:
        (4, 4) T_world_camera of the optical frame; pitch lies between -50 and +10 degrees.
    """
    n = _N_CANDIDATES
    eyes = _standpoints(room, rng, n)
    eyes[:, 2] = rng.uniform(1.1, 1.75, n) if handheld else rng.uniform(0.5, 1.8, n)
    yaws, pitches = (
        rng.uniform(-np.pi, np.pi, n),
        np.deg2rad(rng.uniform(-50.0, 0.0 if handheld else 10.0, n)),
    )
    poses = [look(e, float(y), float(p)) for e, y, p in zip(eyes, yaws, pitches, strict=True)]
    axes = np.stack([T[:3, [2, 0, 1]] * (1, -1, -1) for T in poses])  # forward, left, up
    directions = np.concatenate([np.einsum("nij,kj->nki", axes, _PICTURE), np.tile(_RING, (n, 1, 1))], axis=1)
    rays = np.zeros((n, directions.shape[1], 6), dtype=np.float32)
    rays[:, :, :3], rays[:, :, 3:] = eyes[:, None], directions
    hits = raycaster.cast(rays.reshape(-1, 6))
    distance = np.where(hits.hit, hits.distance, 0.0).reshape(
        n, -1
    )  # nothing to see there: as good as a wall
    seen = np.sort(hits.instance.reshape(n, -1)[:, : len(_PICTURE)], axis=1)
    n_seen = (np.diff(seen, axis=1) > 0).sum(1)
    score = 5.0 * np.minimum(distance[:, len(_PICTURE) :].min(1), 0.35)
    score += 2.0 * np.minimum(np.percentile(distance[:, : len(_PICTURE)], 20, axis=1), 0.8)
    score += variety * np.minimum(n_seen, 9) + rng.random(n)
    best = int(np.argmax(score))
    return look(eyes[best], float(yaws[best]), float(pitches[best]), float(rng.normal(0.0, 0.05)))


def _standpoints(room: RoomScene, rng: Generator, n: int) -> NDArray:
    """(n, 3) points over the floor plan, a little off the walls, height 0."""
    low, high = room.plan.min(0), room.plan.max(0)
    found = np.empty((0, 2))
    while len(found) < n:
        xy = rng.uniform(low + 0.25, high - 0.25, (4 * n, 2))
        found = np.concatenate([found, xy[inside(room.plan, xy[:, 0], xy[:, 1])]])
    return np.column_stack([found[:n], np.zeros(n)])


def table_view(room: RoomScene, rng: Generator) -> NDArray | None:
    """Draw a pose close above a table top that looks down at it; None where the room has no top."""
    if not len(room.tops):
        return None
    middle = np.append((room.plan.min(0) + room.plan.max(0)) / 2, 0.0)
    for _ in range(8):
        target = room.tops[int(rng.integers(len(room.tops)))] + (*rng.normal(0, 0.1, 2), 0.05)
        pitch, distance = np.deg2rad(rng.uniform(-65.0, -22.0)), rng.uniform(0.65, 1.3)
        yaw = np.arctan2(*(target - middle)[1::-1]) + rng.normal(0, 0.7)  # from the middle, not the wall
        back = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
        eye = target - distance * back
        if inside(room.plan, eye[:1], eye[1:2])[0] and eye[2] < room.height - 0.1:
            return look(eye, float(yaw), float(pitch), float(rng.normal(0, 0.03)))
    return None
