# SPDX-License-Identifier: Apache-2.0
"""S3DIS room by room: the published ``Annotations`` folders, and two common ways to prepare them as arrays.

===========================================  ===============================================================
``Area_K/ROOM/Annotations/CLASS_N.txt``      as published (``io.s3dis``); parsed once, then kept as .npz
``Area_K/ROOM/{coord,color,segment}.npy``    Pointcept's, (N, 3), (N, 3), (N,) or (N, 1); ``normal.npy`` too
``Area_K_ROOM.npy``, ``Area_K/ROOM.npy``     (N, 7): x, y, z, red, green, blue, label (PointNet's)
===========================================  ===============================================================

All number the classes as ``io.s3dis.CLASSES`` does; -1 and 255 are no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.io.arrays import load_npy
from pc_perception.io.fields import to_rgb
from pc_perception.io.files import read_cloud
from pc_perception.io.s3dis import is_room
from pc_perception.labels import known_ids

from .dataset import Target, label_table, refuse_missing, with_labels
from .plain_files import cache_root, fingerprint, write_plain

AREAS = ("1", "2", "3", "4", "5", "6")
"""Areas of the published data set: the folds of the six-fold protocol."""


class S3DISClouds:
    """Whole rooms of some areas, every raw point, in the order area, room.

    Args:
        root: holds ``Area_1`` ... in one of the layouts above, or is the folder around that one.
        label_set: target set, or None.
        areas: numbers such as ``5`` (``Area_5`` too); empty for all that are there.
        cache_dir: where parsed rooms are kept; empty for the user's cache.
        label_source: a map from the ids of ``io.s3dis.CLASSES`` of one's own; empty takes that of ``label_set``.

    Raises:
        FileNotFoundError: an area, or files of rooms, are missing (the message names all of them).
    """

    def __init__(
        self,
        root: str | Path,
        label_set: Target,
        areas: Sequence[str] = (),
        cache_dir: str = "",
        label_source: str = "",
    ) -> None:
        self.root = _base(Path(root))
        self.table, self.known = label_table(label_source or "s3dis13", label_set), known_ids("s3dis13")
        self.cache = (Path(cache_dir) if cache_dir else cache_root()) / "s3dis"
        self.rooms: list[tuple[str, Path]] = []
        missing: list[Path | str] = []
        for area in _named(areas) or _areas(self.root):
            rooms = _rooms(self.root, area)
            self.rooms += [(area, room) for room in rooms]
            missing += [file for room in rooms for file in _missing(room, self.table is not None)]
            if not rooms:
                missing.append(f"{area}: no room")
        refuse_missing(self.root, missing)

    def __len__(self) -> int:
        return len(self.rooms)

    def name(self, index: int) -> str:
        """Name room ``index``, such as ``Area_5/hallway_6``."""
        area, room = self.rooms[index]
        return f"{area}/{room.stem.removeprefix(area + '_')}"

    def __getitem__(self, index: int) -> PointCloud:
        room = self.rooms[index][1]
        if room.suffix == ".npy":
            cloud = read_cloud(room)
        elif is_room(room):
            cloud = self._parsed(self.name(index), room)
        else:
            cloud = _read_arrays(room)
        return with_labels(cloud, cloud.fields.get("label"), self.table, self.known, self.name(index))

    def _parsed(self, name: str, room: Path) -> PointCloud:
        """Read a published room, from the cache where it was parsed before."""
        file = self.cache / f"{name.replace('/', '-')}-{fingerprint(room / 'Annotations')}.npz"
        if not file.is_file():
            write_plain(file, read_cloud(room))
        return read_cloud(file)


def _base(root: Path) -> Path:
    """Return the folder with the areas: the root, or the one folder in it that has them."""
    inside = sorted(p for p in root.iterdir() if p.is_dir())
    for folder in (root, *inside):
        if _areas(folder):
            return folder
    raise FileNotFoundError(
        f"'{root}' has no areas; it needs Area_1/ROOM/Annotations, or Area_1_ROOM.npy ..."
    )


def _named(areas: Sequence[str]) -> list[str]:
    """Return folder names of areas given as 5 or Area_5, each once."""
    return list(dict.fromkeys(f"Area_{str(a).removeprefix('Area_')}" for a in areas))


def _areas(folder: Path) -> list[str]:
    found = (p for p in folder.glob("Area_*") if p.is_dir() or p.suffix == ".npy")
    return sorted({"_".join(p.stem.split("_")[:2]) for p in found})


def _rooms(root: Path, area: str) -> list[Path]:
    inside = sorted((root / area).glob("*")) if (root / area).is_dir() else []
    rooms = [p for p in inside if p.suffix == ".npy" or (p.is_dir() and not p.name.startswith("."))]
    return rooms + sorted(root.glob(f"{area}_*.npy"))


def _missing(room: Path, labelled: bool) -> list[Path]:
    """Return the files that a room lacks: none, or those of the layout that it comes nearest to."""
    if room.suffix == ".npy" or any(room.glob("Annotations/*.txt")):
        return []
    if not any(room.glob("*.npy")):
        return [room / "Annotations" / "*.txt"]
    needed = ("coord", "color", "segment") if labelled else ("coord", "color")
    return [room / f"{name}.npy" for name in needed if not (room / f"{name}.npy").is_file()]


def _read_arrays(room: Path) -> PointCloud:
    """Return a room in Pointcept's layout.

    Raises:
        ValueError: an array is damaged, or of another length than the coordinates.
    """
    try:
        files = {name: room / f"{name}.npy" for name in ("color", "normal", "segment")}
        arrays = {name: load_npy(file) for name, file in files.items() if file.is_file()}
        fields = {"rgb": to_rgb(arrays["color"])}
        if "normal" in arrays:
            fields["normal"] = arrays["normal"].astype(np.float32)
        if "segment" in arrays:
            fields["label"] = arrays["segment"].reshape(-1).astype(np.int32)
        return PointCloud(load_npy(room / "coord.npy"), fields)
    except ValueError as error:
        raise ValueError(f"'{room}' cannot be read as a room: {error}") from error
