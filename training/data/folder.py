# SPDX-License-Identifier: Apache-2.0
"""A folder of cloud files: labels from the field ``label`` or from label files beside the clouds."""

from __future__ import annotations

from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.io.files import cloud_files, read_cloud
from pc_perception.io.label_files import labels_of

from .dataset import label_table, with_labels


class FolderClouds:
    """Every cloud file below a folder, in the order of their paths.

    Args:
        folder: searched with its subfolders; S3DIS rooms count as one cloud each.
        label_set: target preset, or None.
        label_source: id space of the labels, empty where they are the target's own ids.

    Raises:
        FileNotFoundError, ValueError: no folder, or no cloud in it.
    """

    def __init__(self, folder: str | Path, label_set: str | None, label_source: str = "") -> None:
        self.folder, self.table = Path(folder), label_table(label_source, label_set)
        self.files = cloud_files(folder)
        if not self.files:
            raise ValueError(f"'{folder}' holds no cloud file of a known format")

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Name cloud ``index``."""
        return str(self.files[index].relative_to(self.folder))

    def __getitem__(self, index: int) -> PointCloud:
        cloud = read_cloud(self.files[index])
        raw = None if self.table is None else labels_of(cloud, self.files[index])
        return with_labels(cloud, raw, self.table)
