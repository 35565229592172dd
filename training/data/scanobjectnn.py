# SPDX-License-Identifier: Apache-2.0
"""ScanObjectNN: 15 classes of real indoor objects, 2,048 points, three variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.labels import load_label_set

from .h5_objects import read_h5
from .objects import StoredObjects, z_up

VARIANTS = {
    "bg": ("main_split", "objectdataset.h5"),
    "only": ("main_split_nobg", "objectdataset.h5"),
    "hardest": ("main_split", "objectdataset_augmentedrot_scale75.h5"),
}
"""OBJ_BG (2,309 / 581 objects), OBJ_ONLY (the same without background) and PB_T50_RS (11,416 / 2,882)."""
CLASSES = load_label_set("scanobjectnn15").classes


def open_scanobjectnn(root: str | Path, variant: str = "hardest", split: str = "train") -> StoredObjects:
    """Read the objects of ``train`` or ``test``. The published code does not scale them; nor is it done here.

    Where the file's ``mask`` marks background with -1, the field ``label`` is 0 there and 1 on the object.
    PB_T50_RS holds five perturbed copies of each object but does not say which: every copy is its own instance.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown variant or split, or a file that cannot be used.
    """
    variant, split = variant or "hardest", split or "train"
    if variant not in VARIANTS:
        raise ValueError(f"ScanObjectNN has no variant '{variant}'; there are {', '.join(VARIANTS)}")
    if split not in ("train", "test"):
        raise ValueError(f"ScanObjectNN has no split '{split}'; there are train and test")
    folder, ending = VARIANTS[variant]
    file = Path(root) / folder / f"{'training' if split == 'train' else 'test'}_{ending}"
    points, labels, rest = read_h5(file, len(CLASSES))
    fields = {}
    if "mask" in rest and rest["mask"].shape == points.shape[:2]:
        fields["label"] = (rest["mask"].reshape(-1) != -1).astype(np.uint16)
    cloud = z_up(PointCloud(points.reshape(-1, 3), fields))
    names = [f"{variant} {split} {i}" for i in range(len(points))]
    offsets = np.arange(len(points) + 1) * points.shape[1]
    return StoredObjects(cloud, offsets, labels, CLASSES, names, source=f"'{file}'")
