# SPDX-License-Identifier: Apache-2.0
"""The poses of a board that is carried around in a recording: where it stands still, with all turns of the LiDAR."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from calibration.board import Board, Corners, find_corners
from calibration.frames import Frame
from pc_perception.cloud import PointCloud
from pc_perception.inference.fusion import rings

_log = logging.getLogger(__name__)
_STILL = 1e-3
"""A board whose corners move by less than this share of the picture's width stands still."""


def still_poses(frames: Iterable[Frame], board: Board) -> list[Frame]:
    """Return one frame for each place where the board stands still: its middle picture, its clouds together.

    Frames in which the board moves or is not found are left out with a warning. A recording in which it never
    stands still for two frames in a row is taken to be of single shots, all of which are returned.

    Args:
        frames: of one recording, in order of time.
    """
    frames = list(frames)
    groups: list[list[Frame]] = []
    first: Corners | None = None
    for frame in frames:
        corners = find_corners(frame.image, board)
        if corners is None:
            first = None
            continue
        if first is None or _moved_px(first, corners) > _STILL * frame.image.shape[1]:
            first = corners
            groups.append([])
        groups[-1].append(frame)
    stands = [group for group in groups if len(group) > 1]
    if not stands:
        return frames
    if left := len(frames) - sum(map(len, stands)):
        _log.warning("%d of %d frames show no board that stands still and are left out", left, len(frames))
    return [_merged(group) for group in stands]


def _moved_px(a: Corners, b: Corners) -> float:
    """Mean distance of the corners that both pictures show; infinite where there is none."""
    _, of_a, of_b = np.intersect1d(a.index, b.index, return_indices=True)
    distance = np.linalg.norm(a.uv[of_a] - b.uv[of_b], axis=1)
    return float(distance.mean()) if len(distance) else np.inf


def _merged(group: Sequence[Frame]) -> Frame:
    middle = group[len(group) // 2]
    clouds = {f.cloud.stamp_ns: f.cloud for f in group}.values()  # two pictures may share one turn
    xyz = np.concatenate([c.xyz for c in clouds])
    beams = [rings(c) for c in clouds]
    known = [b for b in beams if b is not None]
    fields = {"ring": np.concatenate(known)} if len(known) == len(beams) else {}
    cloud = PointCloud(xyz, fields, middle.cloud.frame, middle.cloud.stamp_ns)
    return Frame(f"{group[0].name}-{group[-1].name}", middle.image, cloud, middle.camera_frame)
