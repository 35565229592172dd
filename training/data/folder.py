# SPDX-License-Identifier: Apache-2.0
"""A folder of cloud files: labels from a field of the clouds or from label files beside them.

This is how one's own scans and data sets of tiles are read: .las and .laz (their classification is the
field ``label``), .ply, .pcd, .npz, text tables, with a ``.yaml`` map from their ids to our classes. So too
3DSES: its papers name the classes, but neither the files' layout nor the ids in them is known to us, so
nothing here is made for it; ``label_field`` and a map are what it should need.
"""

from __future__ import annotations

from pathlib import Path

from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.files import cloud_files, read_cloud
from pc_perception.io.label_files import labels_of
from pc_perception.labels import known_ids

from .dataset import Target, label_table, with_labels


class FolderClouds:
    """Every cloud file below a folder, in the order of their paths.

    Args:
        folder: searched with its subfolders; S3DIS rooms count as one cloud each. Text tables (.txt, .csv)
            are taken where there is nothing else.
        label_set: target set, or None.
        label_source: id space of the labels or file of a map, empty where they are the target's own ids.
        label_field: field that holds them (any column's name, in lower case, without CloudCompare's
            ``scalar_``); empty takes ``label``, else label files.

    Raises:
        FileNotFoundError, ValueError: no folder, or no cloud in it.
    """

    def __init__(
        self, folder: str | Path, label_set: Target, label_source: str = "", label_field: str = ""
    ) -> None:
        self.folder, self.label_field = Path(folder), label_field
        self.table, self.known = label_table(label_source, label_set), known_ids(label_source)
        self.files = cloud_files(folder) or cloud_files(folder, tables=True)
        if not self.files:
            raise ValueError(f"'{folder}' holds no cloud file of a known format")

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Name cloud ``index``."""
        return str(self.files[index].relative_to(self.folder))

    def __getitem__(self, index: int) -> PointCloud:
        cloud = read_cloud(self.files[index])
        raw = None if self.table is None else self._raw_labels(cloud, index)
        return with_labels(cloud, raw, self.table, self.known, self.name(index))

    def _raw_labels(self, cloud: PointCloud, index: int) -> NDArray | None:
        if not self.label_field:
            return labels_of(cloud, self.files[index])
        if self.label_field not in cloud.fields:
            raise ValueError(
                f"'{self.files[index]}' has no field '{self.label_field}'; its fields are {sorted(cloud.fields)}"
            )
        return cloud.fields[self.label_field]
