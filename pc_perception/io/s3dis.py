# SPDX-License-Identifier: Apache-2.0
"""Rooms of the Stanford 3D indoor data set in their native layout: ``ROOM/Annotations/CLASS_N.txt``."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.fields import to_rgb

CLASSES = (
    "ceiling",
    "floor",
    "wall",
    "beam",
    "column",
    "window",
    "door",
    "table",
    "chair",
    "sofa",
    "bookcase",
    "board",
    "clutter",
)
"""Names by raw id (the id space ``s3dis13``); stairs, and any name that is not known, count as clutter."""

_log = logging.getLogger(__name__)


def is_room(path: Path) -> bool:
    """Tell whether a folder is one S3DIS room."""
    return (path / "Annotations").is_dir()


def read_room(path: Path) -> PointCloud:
    """Return all points of a room with ``rgb``, ``label`` (s3dis13 ids) and ``instance`` (1, 2, ...).

    Lines that are not six numbers (the published data has a few with stray bytes) are repaired where the
    numbers can still be told apart, else left out; a warning says how many, and one names unknown classes.

    Raises:
        ValueError: there are no annotation files, or no point in them.
    """
    files = sorted((path / "Annotations").glob("*.txt"))
    tables, labels, instances = [], [], []
    for number, file in enumerate(files, start=1):
        table = _read_object(file)
        name = file.stem.rpartition("_")[0]
        if name not in (*CLASSES, "stairs"):
            _log.warning("%s: '%s' is no class of S3DIS; it counts as clutter", file, name)
        tables.append(table)
        labels.append(np.full(len(table), CLASSES.index(name) if name in CLASSES else 12, np.int32))
        instances.append(np.full(len(table), number, np.int32))
    if not sum(len(t) for t in tables):
        raise ValueError(f"the room has no points: {len(files)} files in its folder Annotations")
    points = np.concatenate(tables)
    fields: dict[str, NDArray] = {
        "rgb": to_rgb(points[:, 3:].astype(np.float32)),
        "label": np.concatenate(labels),
        "instance": np.concatenate(instances),
    }
    return PointCloud(points[:, :3].astype(np.float32), fields)


def _read_object(file: Path) -> NDArray[np.float64]:
    """Return (N, 6) x, y, z, red, green, blue of one object's file."""
    raw = file.read_bytes()
    if not raw.strip():
        return np.empty((0, 6))
    try:
        table = np.loadtxt(raw.decode("ascii").splitlines(), np.float64, ndmin=2)
        if table.shape[1] == 6:
            return table
    except ValueError:  # also a byte that is not ASCII
        pass
    rows, n_dropped, n_repaired = [], 0, 0
    for line in raw.split(b"\n"):
        clean = bytes(c if 32 <= c < 127 else 32 for c in line)
        try:
            row = [float(word) for word in clean.split()]
        except ValueError:
            row = [0.0]
        if len(row) == 6:
            rows.append(row)
            n_repaired += clean.strip() != line.strip()
        elif row:
            n_dropped += 1
    _log.warning("%s: %d damaged lines repaired, %d left out", file.name, n_repaired, n_dropped)
    return np.array(rows).reshape(-1, 6)
