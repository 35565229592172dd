# SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI: ``sequences/XX/velodyne/*.bin`` with ``labels/*.label``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.io.files import read_cloud
from pc_perception.io.label_files import read_labels

from .dataset import Target, label_table, with_labels


class SemanticKittiClouds:
    """The scans of some sequences that have labels (all scans where no labels are wanted).

    Args:
        root: the folder that holds ``sequences/``, or the sequences, or one sequence's ``velodyne/``.
        label_set: target preset, or None.
        sequences: names such as ``08``; empty for all.

    Raises:
        ValueError: no such scan.
    """

    def __init__(self, root: str | Path, label_set: Target, sequences: Sequence[str] = ()) -> None:
        self.root, self.table = Path(root), label_table("semantickitti", label_set)
        folders = [
            folder
            for pattern in ("velodyne", "*/velodyne", "sequences/*/velodyne")
            for folder in sorted(self.root.glob(pattern))
            if not sequences or folder.parent.name in sequences
        ]
        self.files = [file for folder in folders for file in sorted(folder.glob("*.bin"))]
        if label_set is not None:
            self.files = [file for file in self.files if self._labels(file).is_file()]
        if not self.files:
            wanted = f"sequences {', '.join(sequences)}" if sequences else "a sequence"
            raise ValueError(
                f"'{root}' holds no labelled scan of {wanted}; it needs velodyne/*.bin and labels/*.label"
            )

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
        cloud = read_cloud(self.files[index], 4)
        raw = None if self.table is None else read_labels(self._labels(self.files[index]), len(cloud))[0]
        return with_labels(cloud, raw, self.table)
