# SPDX-License-Identifier: Apache-2.0
"""Results in the forms that nuScenes' challenges take: lidarseg, panoptic and detection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.labels import UNLABELED

META = {
    "use_camera": False,
    "use_lidar": True,
    "use_radar": False,
    "use_map": False,
    "use_external": False,
}
MOST_OBJECTS = 999


def official_ids(labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the challenges' class ids of labels of ``nuscenes16``: 1 .. 16, 0 where there is none."""
    return np.where(labels == UNLABELED, 0, labels + 1).astype(np.uint16)


def panoptic_ids(labels: NDArray[np.uint16], instance: NDArray) -> NDArray[np.uint16]:
    """Return (N,) class * 1000 + object; of more objects than the form can number, the largest keep theirs.

    Args:
        labels: (N,) of ``nuscenes16``, or another set with at most 64 classes.
        instance: (N,) objects, 0 for none.
    """
    ids, index, counts = np.unique(instance, return_inverse=True, return_counts=True)
    counts = np.where(ids == 0, 0, counts)
    number = np.zeros(len(ids), np.int64)
    largest = np.argsort(-counts, kind="stable")[:MOST_OBJECTS]
    largest = largest[counts[largest] > 0]
    number[largest] = np.arange(1, len(largest) + 1)
    return (official_ids(labels).astype(np.int64) * 1000 + number[index]).astype(np.uint16)


class LabelResults:
    """Write the labels of one set of samples, ``lidarseg/SET/TOKEN_lidarseg.bin`` or ``panoptic/SET/..._panoptic.npz``.

    Args:
        folder: of the results.
        eval_set: ``val``, ``test`` or the name of an own split.
        task: ``lidarseg`` or ``panoptic``.
    """

    def __init__(self, folder: str | Path, eval_set: str, task: str) -> None:
        self.folder, self.task = Path(folder) / task / eval_set, task
        self.folder.mkdir(parents=True, exist_ok=True)
        about = Path(folder) / eval_set
        about.mkdir(parents=True, exist_ok=True)
        meta = META | ({"task": "segmentation"} if task == "panoptic" else {})
        (about / "submission.json").write_text(json.dumps({"meta": meta}), encoding="utf-8")

    def add(self, token: str, labels: NDArray[np.uint16], instance: NDArray | None = None) -> None:
        """Write the (N,) labels of ``nuscenes16``, and for panoptic results the objects, of one sample_data token."""
        if self.task == "lidarseg":
            official_ids(labels).astype(np.uint8).tofile(self.folder / f"{token}_lidarseg.bin")
            return
        assert instance is not None, "panoptic results need objects"
        np.savez_compressed(self.folder / f"{token}_panoptic.npz", data=panoptic_ids(labels, instance))


def write_detections(path: str | Path, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write the boxes of samples, by sample token, in the detection challenge's form."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"meta": META, "results": results}), encoding="utf-8")
