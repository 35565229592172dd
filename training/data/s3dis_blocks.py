# SPDX-License-Identifier: Apache-2.0
"""S3DIS in blocks: columns of 1 m x 1 m, 2,048 points, as the Point-MAE family segments it (protocols, 6a).

Scores on blocks are not those of whole rooms and belong in no table with them. As published, a column stands
around a random point of a room that is drawn by its number of points, needs over 1,024 points, and keeps x and y
relative to its middle and z above the room's lowest point; only coordinates are used. Here block ``index`` is
a function of the seed and the index, so that a test set is the same every time.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud

from .dataset import CloudDataset, Target, as_label_set

SIDE_M = 1.0
N_POINTS = 2048
N_LEAST = 1024
MAX_TRIES = 50


class S3DISBlocks:
    """Blocks of rooms; a ``CloudDataset``.

    Args:
        rooms: whole rooms (``S3DISClouds``), labelled with ``label_set``; Area 5 is the usual test.
        label_set: ``s3dis13``, ``room9``, or None for clouds without labels.
        n_blocks: how many; 0 for one for each 2,048 points of the rooms, as published.
        seed: of the blocks.
    """

    def __init__(self, rooms: CloudDataset, label_set: Target, n_blocks: int = 0, seed: int = 0) -> None:
        self.rooms, self.seed = rooms, seed
        self.n_classes = len(as_label_set(label_set)) if label_set else 0
        self._kept = lru_cache(maxsize=8)(self._placed)
        sizes = np.array([len(self._kept(i)) for i in range(len(rooms))], np.float64)
        self.share = sizes / sizes.sum()
        self.n_blocks = n_blocks or max(int(sizes.sum()) // N_POINTS, 1)

    def __len__(self) -> int:
        return self.n_blocks

    def name(self, index: int) -> str:
        """Name block ``index``."""
        return f"{self.rooms.name(self._room(index))} block {index} (seed {self.seed})"

    def _room(self, index: int) -> int:
        return int(np.random.default_rng([self.seed, index]).choice(len(self.rooms), p=self.share))

    def _placed(self, room: int) -> PointCloud:
        """Return a room with its lowest corner at the origin."""
        cloud = self.rooms[room]
        return PointCloud(cloud.xyz - cloud.xyz.min(0), cloud.fields)

    def __getitem__(self, index: int) -> PointCloud:
        """Return 2,048 points of one column, drawn with repetition where it has fewer.

        Raises:
            ValueError: the room has no column with enough points.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        cloud, rng = self._kept(self._room(index)), np.random.default_rng([self.seed, index, 1])
        for _ in range(MAX_TRIES):
            middle = cloud.xyz[rng.integers(len(cloud)), :2]
            inside = np.flatnonzero((np.abs(cloud.xyz[:, :2] - middle) <= SIDE_M / 2).all(1))
            if len(inside) > N_LEAST:
                break
        else:
            name = self.rooms.name(self._room(index))
            raise ValueError(f"room '{name}' has no column of {SIDE_M:g} m with over {N_LEAST} points")
        block = cloud.select(rng.choice(inside, N_POINTS, replace=len(inside) < N_POINTS))
        return PointCloud(block.xyz - np.append(middle, np.float32(0)), block.fields)

    def class_weights(self) -> NDArray[np.float32]:
        """(C,) weights of the loss: (commonest / own frequency) ^ (1/3) over all points of the rooms.

        A class without a point gets that of one with a single point.

        Raises:
            ValueError: the blocks have no labels.
        """
        if not self.n_classes:
            raise ValueError("these blocks have no classes; name a label_set, such as s3dis13")
        counts = np.zeros(self.n_classes, np.int64)
        for room in range(len(self.rooms)):
            label = np.asarray(self._kept(room).fields["label"])
            counts += np.bincount(label[label < self.n_classes], minlength=self.n_classes)
        return np.cbrt(counts.max() / np.maximum(counts, 1)).astype(np.float32)
