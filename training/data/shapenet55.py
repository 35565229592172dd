# SPDX-License-Identifier: Apache-2.0
"""ShapeNet-55 as Point-BERT lays it out: lists ``train.txt`` and ``test.txt`` of ``SYNSET-MODEL.npy``, 8192 x 3.

41,952 and 10,518 shapes. Point-MAE pre-trains on the train list; Point-PQAE, as released,
on both (``split="all"``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.io.arrays import load_npy

from .objects import LabeledObject, z_up

SPLITS = {"": ("train",), "train": ("train",), "test": ("test",), "all": ("train", "test")}


class ShapeNet55:
    """The shapes of one list, or of both; classes are the synsets of both lists, in order.

    Args:
        root: the folder of the lists (or the one that holds ``ShapeNet-55``), with the .npy files in it, in
            ``shapenet_pc`` or in ``../shapenet_pc``.
        split: ``train`` (the default), ``test`` or ``all``.

    Raises:
        FileNotFoundError: a list or the folder of points is missing.
        ValueError: an unknown split, or a line that is no file name.
    """

    def __init__(self, root: str | Path, split: str = "") -> None:
        if split not in SPLITS:
            raise ValueError(f"ShapeNet-55 has no split '{split}'; there are train, test and all")
        lists = Path(root)
        if not (lists / "train.txt").is_file() and (lists / "ShapeNet-55").is_dir():
            lists = lists / "ShapeNet-55"
        lines = {name: _read_list(lists / f"{name}.txt") for name in ("train", "test")}
        self.files = [file for name in SPLITS[split] for file in lines[name]]
        self.classes = tuple(sorted({file.partition("-")[0] for both in lines.values() for file in both}))
        if not self.files:
            raise ValueError(f"the list of '{lists}' for split '{split or 'train'}' is empty")
        places = [lists, lists / "shapenet_pc", lists.parent / "shapenet_pc"]
        found = [place for place in places if (place / self.files[0]).is_file()]
        if not found:
            raise FileNotFoundError(
                f"'{self.files[0]}' of the list is in none of {', '.join(map(str, places))}"
            )
        self.folder = found[0]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Name shape ``index``."""
        return self.files[index]

    def label(self, index: int) -> int:
        """Return the synset of shape ``index``."""
        return self.classes.index(self.files[index].partition("-")[0])

    def instance(self, index: int) -> str:
        """Every shape is one thing."""
        return self.files[index]

    def __getitem__(self, index: int) -> LabeledObject:
        file = self.folder / self.files[index]
        if not file.is_file():
            raise FileNotFoundError(f"there is no file '{file}'")
        points = load_npy(file)
        if points.ndim != 2 or points.shape[1] < 3:
            raise ValueError(f"'{file}' must hold (N, 3) points, it is {points.shape}")
        cloud = z_up(PointCloud(points[:, :3].astype(np.float32)))
        return LabeledObject(cloud.xyz, category=self.label(index))


def _read_list(file: Path) -> list[str]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no list '{file}'")
    names = file.read_text(encoding="utf-8").split()
    wrong = [name for name in names if "-" not in name or not name.endswith(".npy")]
    if wrong:
        raise ValueError(f"'{file}' must list files SYNSET-MODEL.npy; it has '{wrong[0]}'")
    return names
