# SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI: ``sequences/XX/velodyne/*.bin`` with ``labels/*.label``, and pictures by KITTI's calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.io.files import read_cloud
from pc_perception.io.label_files import read_labels

from .cameras import CameraCloud
from .dataset import Target, label_table, with_labels
from .kitti_cameras import read_cameras

SPLITS = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": tuple(str(k) for k in range(11, 22)),
}
"""The official sequences of each split."""


class SemanticKittiClouds:
    """The scans of some sequences that have labels (all scans where no labels are wanted).

    Labelled ones have a field ``instance`` too, unique in a scan, 0 for no object.

    Args:
        root: the folder that holds ``sequences/``, or the sequences, or one sequence's ``velodyne/``.
        label_set: target preset, or None.
        sequences: names such as ``08``; empty for those of ``split``.
        split: one of ``SPLITS``; empty for all sequences.
        every: only every how many-th scan of the sorted list, the first one included (SLidR's subsets for few
            labels: 100 for "1 %").
        pictures: folder for decoded pictures: clouds are then ``CameraCloud``. None: without cameras.

    Raises:
        ValueError: no such scan or split.
    """

    def __init__(
        self,
        root: str | Path,
        label_set: Target,
        sequences: Sequence[str] = (),
        split: str = "",
        every: int = 1,
        pictures: Path | None = None,
    ) -> None:
        self.root, self.table, self.pictures = Path(root), label_table("semantickitti", label_set), pictures
        if split and split not in SPLITS:
            raise ValueError(f"there is no split '{split}'; choose one of {', '.join(SPLITS)}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        wanted = tuple(sequences) or SPLITS.get(split, ())
        folders = [
            folder
            for pattern in ("velodyne", "*/velodyne", "sequences/*/velodyne")
            for folder in sorted(self.root.glob(pattern))
            if not wanted or folder.parent.name in wanted
        ]
        files = [file for folder in folders for file in sorted(folder.glob("*.bin"))]
        if label_set is not None:
            files = [file for file in files if self._labels(file).is_file()]
        if not files:
            where = f"sequences {', '.join(wanted)}" if wanted else "a sequence"
            raise ValueError(
                f"'{root}' holds no labelled scan of {where}; it needs velodyne/*.bin and labels/*.label"
            )
        self.files = files[::every]

    @staticmethod
    def _labels(file: Path) -> Path:
        return file.parent.parent / "labels" / f"{file.stem}.label"

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Name scan ``index``."""
        file = self.files[index]
        return f"{file.parent.parent.name}/{file.stem}"

    def __getitem__(self, index: int) -> PointCloud:
        file = self.files[index]
        cloud = read_cloud(file, 4)
        if self.table is None:
            cloud = with_labels(cloud, None, None)
        else:
            raw, number = read_labels(self._labels(file), len(cloud))
            cloud = with_labels(cloud, raw, self.table)
            # Numbers are unique within a class alone.
            cloud = cloud.with_fields(instance=np.where(number > 0, number * 65536 + raw, 0))
        if self.pictures is None:
            return cloud
        return CameraCloud(
            cloud.xyz, cloud.fields, cloud.frame, cloud.stamp_ns, cameras=read_cameras(file, self.pictures)
        )
