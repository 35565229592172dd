# SPDX-License-Identifier: Apache-2.0
"""Folders of .npz files that hold many objects each: what one's own objects are kept in.

A file's arrays: ``points`` (sum of N, k) with ``offsets`` (M + 1,), or (M, N, k); columns as
``pc_perception.io.arrays`` has them (x, y, z; then intensity, normal or colour). ``classes`` (C,) names and
``label`` (M,), or neither; ``ids`` (M,) names, which may repeat; ``instance`` (M,) where ids do not say which
objects are views of one thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.arrays import cloud_from_array, load_npz

from .object_sets import JoinedObjects
from .objects import StoredObjects, z_up


def open_object_files(where: str | Path, y_up: Sequence[str] = ()) -> JoinedObjects:
    """Read an .npz file of objects, or all in a folder, in the order of their names.

    Args:
        y_up: names of the files (without .npz; ``modelnet40_*`` works) in which y is up; they are turned.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: no file holds objects, or one cannot be read.
    """
    where = Path(where)
    if not where.exists():
        raise FileNotFoundError(f"there is no '{where}'")
    files = [where] if where.is_file() else sorted(where.glob("*.npz"))
    if not files:
        raise ValueError(f"'{where}' holds no .npz file of objects")
    return JoinedObjects([read_objects(f, any(fnmatch(f.stem, name) for name in y_up)) for f in files])


def read_objects(file: Path, is_y_up: bool = False) -> StoredObjects:
    """Read one .npz file of objects; see the module.

    Raises:
        ValueError: it is damaged, or its arrays do not fit each other.
    """
    try:
        arrays = load_npz(file)
    except ValueError as error:
        raise ValueError(f"'{file}': {error}") from error
    if "points" not in arrays:
        raise ValueError(f"'{file}' has no array 'points'; its arrays are {sorted(arrays)}")
    points = arrays["points"]
    if points.ndim == 3:
        offsets = np.arange(len(points) + 1) * points.shape[1]
        points = points.reshape(-1, points.shape[2])
    elif "offsets" in arrays:
        offsets = arrays["offsets"]
    else:
        raise ValueError(
            f"'{file}' has 'points' {points.shape} without 'offsets' that say where objects start"
        )
    if ("label" in arrays) != ("classes" in arrays):
        raise ValueError(f"'{file}' has only one of 'label' and 'classes'; both or neither are needed")
    n = len(offsets) - 1
    ids = [str(i) for i in arrays.get("ids", np.arange(n))]
    try:
        cloud = cloud_from_array(points)
        return StoredObjects(
            z_up(cloud) if is_y_up else cloud,
            offsets,
            arrays.get("label", np.full(n, -1)).reshape(-1),
            [str(c) for c in arrays.get("classes", ())],
            [f"{file.stem}/{name}" for name in _distinct(ids)],
            [f"{file.stem}/{name}" for name in _things(ids, arrays)],
        )
    except ValueError as error:
        raise ValueError(f"'{file}': {error}") from error


def _distinct(ids: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for name in ids:
        seen[name] = seen.get(name, -1) + 1
        out.append(f"{name}#{seen[name]}" if seen[name] else name)
    return out


def _things(ids: Sequence[str], arrays: Mapping[str, NDArray]) -> list[str]:
    """Ids may be paths of views, whose folder is the thing: ``banana_1/banana_1_1_11.pcd``."""
    if "instance" in arrays:
        return [str(i) for i in arrays["instance"]]
    return [name.rpartition("/")[0] or name for name in ids]


def write_objects(
    file: Path,
    clouds: Sequence[PointCloud],
    labels: Sequence[int],
    classes: Sequence[str],
    ids: Sequence[str],
    instances: Sequence[str],
) -> None:
    """Write objects as ``read_objects`` reads them: x, y, z, and intensity where all have it.

    The file appears only complete.
    """
    with_intensity = bool(clouds) and all("intensity" in c.fields for c in clouds)
    rows = [
        np.column_stack([c.xyz, c.fields["intensity"].astype(np.float32)]) if with_intensity else c.xyz
        for c in clouds
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.unfinished")
    with unfinished.open("wb") as stream:
        np.savez(
            stream,
            points=np.concatenate([np.zeros((0, 4 if with_intensity else 3), np.float32), *rows]),
            offsets=np.cumsum([0, *map(len, rows)]),
            label=np.asarray(labels, np.int64),
            classes=np.asarray(classes, dtype=np.str_),
            ids=np.asarray(ids, dtype=np.str_),
            instance=np.asarray(instances, dtype=np.str_),
        )
    unfinished.replace(file)
