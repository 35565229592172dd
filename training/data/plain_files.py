# SPDX-License-Identifier: Apache-2.0
"""Clouds kept on disk for training: plain .npz, read many times and so not compressed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pc_perception.cloud import PointCloud

KEPT_FIELDS = ("intensity", "ring", "rgb", "label")


def cache_root() -> Path:
    """Return the user's cache of this package: ``$XDG_CACHE_HOME/pc_perception``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pc_perception"


def fingerprint(path: Path, *more: str) -> str:
    """Return a text that changes with a file, or with the files of a folder, and with further texts."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(json.dumps([str(path.resolve()), stats, *more]).encode()).hexdigest()[:12]


def write_plain(file: Path, cloud: PointCloud, names: Iterable[str] = KEPT_FIELDS) -> None:
    """Write xyz and the named fields; ``read_cloud`` reads it. The file appears only complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{os.getpid()}-{file.name}")
    arrays = {name: cloud.fields[name] for name in names if name in cloud.fields}
    if cloud.grid_shape is not None:
        arrays["grid_shape"] = np.array(cloud.grid_shape)
    with unfinished.open("wb") as stream:
        np.savez(stream, xyz=cloud.xyz, frame=np.array(cloud.frame), **arrays)
    unfinished.replace(file)
