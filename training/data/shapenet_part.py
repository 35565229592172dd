# SPDX-License-Identifier: Apache-2.0
"""ShapeNetPart: 16 categories, 50 parts, text files x y z nx ny nz part.

12,137 / 1,870 / 2,874 shapes; published code trains on train and val together (``split="trainval"``).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pc_perception.io.arrays import read_text

from .objects import LabeledObject, z_up

CATEGORIES = (
    ("airplane", "02691156", 4), ("bag", "02773838", 2), ("cap", "02954340", 2), ("car", "02958343", 4),
    ("chair", "03001627", 4), ("earphone", "03261776", 3), ("guitar", "03467517", 3), ("knife", "03624134", 2),
    ("lamp", "03636649", 4), ("laptop", "03642806", 2), ("motorbike", "03790512", 6), ("mug", "03797390", 2),
    ("pistol", "03948459", 3), ("rocket", "04099429", 3), ("skateboard", "04225987", 3), ("table", "04379243", 3),
)  # fmt: skip
"""Name, synset and number of parts; part ids run on from category to category, 0 .. 49."""
_ENDS = np.cumsum([n for _, _, n in CATEGORIES]).tolist()
PARTS = tuple(tuple(range(end - n, end)) for end, (_, _, n) in zip(_ENDS, CATEGORIES, strict=True))
"""Part ids of each category."""
N_PARTS = _ENDS[-1]
SPLITS = {
    "": ("train", "val"),
    "trainval": ("train", "val"),
    "train": ("train",),
    "val": ("val",),
    "test": ("test",),
}


class ShapeNetPart:
    """Shapes with normals and, in the field ``label``, part ids 0 .. 49 (uint16).

    Args:
        root: the folder ``shapenetcore_partanno_segmentation_benchmark_v0_normal``.
        split: ``trainval`` (the default), ``train``, ``val`` or ``test``.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: an unknown split, or a list that cannot be used.
    """

    classes = tuple(name for name, _, _ in CATEGORIES)
    part_ids = PARTS

    def __init__(self, root: str | Path, split: str = "") -> None:
        if split not in SPLITS:
            raise ValueError(
                f"ShapeNetPart has no split '{split}'; there are {', '.join(k for k in SPLITS if k)}"
            )
        self.root = Path(root)
        synsets = [synset for _, synset, _ in CATEGORIES]
        self.shapes: list[tuple[int, str]] = []
        for part in SPLITS[split]:
            file = self.root / "train_test_split" / f"shuffled_{part}_file_list.json"
            for synset, model in _read_list(file):
                if synset not in synsets:
                    raise ValueError(f"'{file}' names synset {synset}, which is none of the 16 categories")
                self.shapes.append((synsets.index(synset), model))
        if not self.shapes:
            raise ValueError(f"the lists of split '{split or 'trainval'}' in '{root}' are empty")

    def __len__(self) -> int:
        return len(self.shapes)

    def name(self, index: int) -> str:
        """Name shape ``index``."""
        category, model = self.shapes[index]
        return f"{CATEGORIES[category][1]}/{model}"

    def label(self, index: int) -> int:
        """Return the category of shape ``index``."""
        return self.shapes[index][0]

    def instance(self, index: int) -> str:
        """Every shape is one thing."""
        return self.name(index)

    def __getitem__(self, index: int) -> LabeledObject:
        file, category = self.root / f"{self.name(index)}.txt", self.label(index)
        if not file.is_file():
            raise FileNotFoundError(f"there is no file '{file}'")
        try:
            cloud = z_up(read_text(file, ("x", "y", "z", "normal_x", "normal_y", "normal_z", "label")))
        except ValueError as error:
            raise ValueError(f"'{file}': {error}") from error
        parts = cloud.fields["label"].astype(np.int64)
        if not np.isin(parts, PARTS[category]).all():
            raise ValueError(
                f"'{file}' has parts {sorted(set(parts.tolist()))}; category {self.classes[category]} has "
                f"{PARTS[category]}"
            )
        fields = {**cloud.fields, "label": parts.astype(np.uint16)}
        return LabeledObject(cloud.xyz, fields, category=category)


def _read_list(file: Path) -> list[tuple[str, str]]:
    """Return (synset, model) of ``["shape_data/02691156/1a04e3", ...]``."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no list '{file}'")
    try:
        pairs = [
            (str(path).split("/")[-2], str(path).split("/")[-1]) for path in json.loads(file.read_text())
        ]
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"'{file}' must be a JSON list of shape_data/SYNSET/MODEL: {error}") from error
    return pairs
