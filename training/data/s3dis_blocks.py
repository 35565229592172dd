# SPDX-License-Identifier: Apache-2.0
"""S3DIS in blocks: columns of 1 m x 1 m, 2,048 points, as the Point-MAE family segments it (protocols, 6a).

Scores on blocks are not those of whole rooms and belong in no table with them. As published, a column stands
around a random point of a room that is drawn by its number of points, needs over 1,024 points, and keeps x and y
relative to its middle and z above the room's lowest point; only coordinates are used. Here block ``index`` is
a function of the seed and the index, so that a test set is the same every time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.arrays import load_npy
from pc_perception.io.s3dis import CLASSES, is_room, read_room
from pc_perception.labels import load_label_set

from .dataset import label_table, with_labels
from .plain_files import cache_root

SIDE_M = 1.0
N_POINTS = 2048
N_LEAST = 1024
MAX_TRIES = 50
AREAS = (1, 2, 3, 4, 5, 6)


class S3disBlocks:
    """Blocks of the rooms of some areas; a ``CloudDataset``.

    Args:
        root: holds ``Area_1/ROOM/Annotations/*.txt`` (native), or ``Area_1_ROOM.npy`` of x, y, z, r, g, b, label.
        label_set: target preset (``s3dis13``, ``room9``), or None for clouds without labels.
        areas: which; Area 5 is the usual test.
        n_blocks: how many; 0 for one for each 2,048 points of the rooms, as published.
        seed: of the blocks.
        cache_dir: where native rooms are laid out as .npy once; empty for the user's cache.

    Raises:
        FileNotFoundError, ValueError: no room of these areas, or one that cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        label_set: str | None = "s3dis13",
        areas: Sequence[int] = AREAS,
        n_blocks: int = 0,
        seed: int = 0,
        cache_dir: str = "",
    ) -> None:
        self.table = label_table("s3dis13", label_set)
        self.n_classes = len(load_label_set(label_set)) if label_set else 0
        self.rooms = _rooms(Path(root), areas, Path(cache_dir) if cache_dir else cache_root())
        if not self.rooms:
            raise FileNotFoundError(
                f"'{root}' holds no room of areas {tuple(areas)}: neither Area_N/ROOM/Annotations nor Area_N_ROOM.npy"
            )
        sizes = np.array([len(_points(room)) for room in self.rooms], np.float64)
        self.share, self.seed = sizes / sizes.sum(), seed
        self.n_blocks = n_blocks or max(int(sizes.sum()) // N_POINTS, 1)

    def __len__(self) -> int:
        return self.n_blocks

    def name(self, index: int) -> str:
        """Name block ``index``."""
        return f"{self.rooms[self._room(index)].stem} block {index} (seed {self.seed})"

    def _room(self, index: int) -> int:
        return int(np.random.default_rng([self.seed, index]).choice(len(self.rooms), p=self.share))

    def __getitem__(self, index: int) -> PointCloud:
        """Return 2,048 points of one column, drawn with repetition where it has fewer.

        Raises:
            ValueError: the room has no column with enough points.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        room = self.rooms[self._room(index)]
        points, rng = _points(room), np.random.default_rng([self.seed, index, 1])
        for _ in range(MAX_TRIES):
            middle = points[rng.integers(len(points)), :2]
            inside = np.flatnonzero((np.abs(points[:, :2] - middle) <= SIDE_M / 2).all(1))
            if len(inside) > N_LEAST:
                break
        else:
            raise ValueError(f"room '{room.stem}' has no column of {SIDE_M:g} m with over {N_LEAST} points")
        rows = points[rng.choice(inside, N_POINTS, replace=len(inside) < N_POINTS)]
        xyz = rows[:, :3].copy()
        xyz[:, :2] -= middle
        cloud = PointCloud(xyz.astype(np.float32), {"rgb": rows[:, 3:6].astype(np.uint8)})
        return with_labels(cloud, rows[:, 6], self.table)

    def class_weights(self) -> NDArray[np.float32]:
        """(C,) weights of the loss: (commonest / own frequency) ^ (1/3) over all points of the rooms.

        A class without a point gets that of one with a single point.

        Raises:
            ValueError: the blocks have no labels.
        """
        if self.table is None:
            raise ValueError("these blocks have no classes; name a label_set, such as s3dis13")
        counts = np.zeros(self.n_classes, np.int64)
        for room in self.rooms:
            label = self.table[_points(room)[:, 6].astype(np.int64)]
            counts += np.bincount(label[label < self.n_classes], minlength=self.n_classes)
        return np.cbrt(counts.max() / np.maximum(counts, 1)).astype(np.float32)


@lru_cache(maxsize=8)
def _points(room: Path) -> NDArray[np.float32]:
    """(N, 7) float32: x, y, z from the room's lowest corner, colour 0..255, label."""
    table = load_npy(room)
    if table.ndim != 2 or table.shape[1] != 7 or not len(table):
        raise ValueError(f"'{room}' must hold (N, 7) numbers x, y, z, r, g, b, label; it is {table.shape}")
    if not 0 <= table[:, 6].min() <= table[:, 6].max() < len(CLASSES):
        raise ValueError(f"'{room}' has labels up to {table[:, 6].max():g}; S3DIS has {len(CLASSES)} classes")
    table = table - np.r_[table[:, :3].min(0), np.zeros(4)]
    return table.astype(np.float32)


def _rooms(root: Path, areas: Sequence[int], cache: Path) -> list[Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder '{root}'")
    found = []
    for area in areas:
        found += sorted(root.glob(f"Area_{area}_*.npy"))
        found += [
            _laid_out(room, cache) for room in sorted((root / f"Area_{area}").glob("*")) if is_room(room)
        ]
    return found


def _laid_out(room: Path, cache: Path) -> Path:
    """Return the .npy of a native room, written when first asked for."""
    stats = [
        (f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted((room / "Annotations").glob("*.txt"))
    ]
    key = hashlib.sha256(repr((str(room.resolve()), stats)).encode()).hexdigest()[:12]
    file = cache / "s3dis" / f"{room.parent.name}_{room.name}-{key}.npy"
    if not file.is_file():
        cloud = read_room(room)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}")
        with unfinished.open("wb") as stream:
            np.save(
                stream,
                np.column_stack([cloud.xyz, cloud.fields["rgb"], cloud.fields["label"]]).astype(np.float32),
            )
        unfinished.replace(file)
    return file
