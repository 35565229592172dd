# SPDX-License-Identifier: Apache-2.0
"""What is known about the objects of one sweep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc_perception.labels import UNLABELED, LabelSet

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ObjectsResult:
    """The K objects of one sweep, the nearest first.

    Attributes:
        index: (N,) int64, row 0 .. K-1 of every input point's object, in input order; -1 where it has none.
        T_cloud_box: (K, 4, 4) float64, pose of each box's centre in the cloud's frame; x along the length, z up.
        sizes: (K, 3) float64, length, width, height, metres.
        labels: (K,) uint16, ids of ``label_set``; ``UNLABELED`` where no class is sure enough ("unknown").
        scores: (K, C) float32, class probabilities over the track's last sweeps; all 0 where nothing is known.
        track_ids: (K,) int64, from 1 on, the same for the same object from sweep to sweep.
        confirmed: (K,) bool, False for objects seen in too few sweeps to be sure of.
        velocities: (K, 3) float64, m/s over ground, in the cloud's axes; NaN until confirmed.
        label_set: names and colours.
        milliseconds: wall time of the stages.
    """

    index: NDArray[np.int64]
    T_cloud_box: NDArray[np.float64]
    sizes: NDArray[np.float64]
    labels: NDArray[np.uint16]
    scores: NDArray[np.float32]
    track_ids: NDArray[np.int64]
    confirmed: NDArray[np.bool_]
    velocities: NDArray[np.float64]
    label_set: LabelSet
    milliseconds: dict[str, float]

    def __len__(self) -> int:
        return len(self.track_ids)

    def name(self, row: int) -> str:
        """Return the class of an object, ``unknown`` where none is sure enough."""
        label = self.labels[row]
        return UNKNOWN if label == UNLABELED else self.label_set.classes[label]

    def points(self, row: int) -> NDArray[np.int64]:
        """Return which input points are an object's."""
        return np.flatnonzero(self.index == row)

    @property
    def instance(self) -> NDArray[np.uint32]:
        """(N,) track id of every input point's object, 0 where it has none."""
        return np.append(self.track_ids, 0)[self.index].astype(np.uint32)

    @property
    def total_ms(self) -> float:
        """Wall time from cloud to objects."""
        return sum(self.milliseconds.values())
