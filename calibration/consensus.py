# SPDX-License-Identifier: Apache-2.0
"""The first guess of T_camera_lidar: which plate of each sweep is the board, and one rigid motion for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from calibration.board_pose import ImageBoard
from calibration.cloud_board import CloudBoard
from pc_perception.geometry import pose

_CANDIDATES = 4
_NEAR_M = 0.12
_NEAR_RAD = np.radians(8)
LEAST_POSES = 3


@dataclass(frozen=True)
class Sighting:
    """One pose of the board: its name, its image's board, and the plates that its sweep offers."""

    name: str
    image: ImageBoard
    plates: Sequence[CloudBoard]


@dataclass(frozen=True)
class Pair:
    """One pose of the board as both sensors saw it."""

    name: str
    image: ImageBoard
    cloud: CloudBoard


def rigid_fit(source: NDArray, target: NDArray, mirrored: bool = False) -> NDArray[np.float64]:
    """Best T_target_source (..., 4, 4) of (..., N, 3) points (Kabsch 1976); a reflection where ``mirrored``."""
    a, b = source.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    U, _, Vt = np.linalg.svd(np.swapaxes(source - a, -1, -2) @ (target - b))
    V, Ut = np.swapaxes(Vt, -1, -2), np.swapaxes(U, -1, -2)
    sign = np.ones(V.shape[:-1])
    sign[..., 2] = np.linalg.det(V @ Ut) * (-1 if mirrored else 1)
    R = (V * sign[..., None, :]) @ Ut
    T = np.zeros((*R.shape[:-2], 4, 4))
    T[..., :3, :3], T[..., 3, 3] = R, 1.0
    T[..., :3, 3] = (b - np.einsum("...ij,...kj->...ki", R, a))[..., 0, :]
    return T


def first_guess(sightings: Sequence[Sighting]) -> tuple[NDArray[np.float64], list[Pair]]:
    """Find the motion that most poses agree on, in closed form from the plates' middles and normals.

    Every two poses and every choice of their plates give a motion; the one that brings a plate onto the board
    in the most poses wins, so that a wrong plate in a sweep is no harm. A plate's half turn does not matter.

    Returns:
        T_camera_lidar and the pairs that agree with it.

    Raises:
        ValueError: fewer than three poses agree, or they agree with a mirror image.
    """
    seen = [s for s in sightings if s.plates]
    if len(seen) < LEAST_POSES:
        raise ValueError(
            f"{len(seen)} of {len(sightings)} poses show the board in image and cloud; at least {LEAST_POSES} "
            "are needed that differ in place and tilt"
        )
    T, pairs = _agreement(seen, mirrored=False)
    if len(pairs) < max(LEAST_POSES, len(seen) // 2):
        _, turned = _agreement(seen, mirrored=True)
        if len(turned) >= LEAST_POSES and len(turned) > len(pairs):
            raise ValueError(
                f"{len(turned)} poses agree with a mirror image only: the images or the cloud are mirrored "
                "(a flipped camera driver, a left-handed LiDAR frame); undo that first"
            )
    if len(pairs) < LEAST_POSES:
        raise ValueError(
            f"no motion brings cloud and image together in {LEAST_POSES} poses (best: {len(pairs)} of "
            f"{len(seen)}); check the board's size, the intrinsics and that images and clouds belong together"
        )
    return T, pairs


def _agreement(seen: Sequence[Sighting], mirrored: bool) -> tuple[NDArray, list[Pair]]:
    plates = [list(s.plates)[:_CANDIDATES] for s in seen]
    source, target = [], []
    for i, j in combinations(range(len(seen)), 2):
        for a in plates[i]:
            for b in plates[j]:
                source.append(_points([a.T_lidar_board, b.T_lidar_board]))
                target.append(_points([seen[i].image.T_camera_board, seen[j].image.T_camera_board]))
    motions = rigid_fit(np.array(source), np.array(target), mirrored)
    # A motion that does not even fit its own two poses is none.
    moved = np.einsum("kij,knj->kni", motions[:, :3, :3], source) + motions[:, None, :3, 3]
    motions = motions[np.abs(moved - target).max((1, 2)) < _NEAR_M]
    best: tuple[float, NDArray, list[Pair]] = (0.0, pose(), [])
    for T in motions:
        pairs, worth = _pairs_under(T, seen, plates)
        if worth > best[0]:
            best = (worth, T, pairs)
    if len(best[2]) < LEAST_POSES:
        return best[1], best[2]
    T = rigid_fit(
        _points([p.cloud.T_lidar_board for p in best[2]]),
        _points([p.image.T_camera_board for p in best[2]]),
        mirrored,
    )
    return T, _pairs_under(T, seen, plates)[0]


def _points(frames: Sequence[NDArray]) -> NDArray:
    """(2 n, 3) middles, and points half a metre off them along the normals."""
    T = np.array(frames)
    return np.concatenate([T[:, :3, 3], T[:, :3, 3] + 0.5 * T[:, :3, 2]])


def _pairs_under(
    T: NDArray, seen: Sequence[Sighting], plates: Sequence[Sequence[CloudBoard]]
) -> tuple[list[Pair], float]:
    pairs, worth = [], 0.0
    for sighting, offered in zip(seen, plates, strict=True):
        board = sighting.image.T_camera_board
        for plate in offered:
            off = float(np.linalg.norm(T[:3, :3] @ plate.center + T[:3, 3] - board[:3, 3]))
            cosine = float((T[:3, :3] @ plate.T_lidar_board[:3, 2]) @ board[:3, 2])
            if off < _NEAR_M and cosine > np.cos(_NEAR_RAD):
                pairs.append(Pair(sighting.name, sighting.image, plate))
                worth += plate.score * (1 - 0.5 * off / _NEAR_M)
                break
    return pairs, worth
