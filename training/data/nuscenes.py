# SPDX-License-Identifier: Apache-2.0
"""nuScenes-format data through nuscenes-devkit: keyframes of LIDAR_TOP with lidarseg and with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.files import read_cloud
from pc_perception.io.label_files import read_labels
from pc_perception.labels import load_label_set

from .boxes import with_boxes
from .cameras import Camera, CameraCloud
from .dataset import Target, label_table, with_labels
from .nuscenes_cameras import read_cameras
from .nuscenes_splits import every_nth, scenes_of


class NuScenesClouds:
    """LIDAR_TOP keyframes in the order of their scenes and stamps.

    Args:
        root: the data set's folder, which holds ``v1.0-...``, ``samples`` and ``lidarseg``.
        label_set: target preset, or None: then keyframes without labels are used too.
        version: name of the tables' folder; empty where there is only one.
        label_source: ``nuscenes32`` (the default) or another id space whose labels lie in
            ``lidarseg_NAME`` instead of ``lidarseg`` (``pandaset43``).
        split: ``train``, ``val``, ``mini_train`` ... of the official lists, or SLidR's ``parametrizing`` and
            ``verifying``; empty for all scenes.
        every: only every how many-th scene of the split (``nuscenes_splits.every_nth``).
        instances: give clouds a field ``instance`` out of ``panoptic``, unique in a cloud, 0 for no object.
        boxes: clouds are ``BoxCloud``, with the boxes of ``label_set``'s classes instead of labels of points.
        pictures: folder for decoded pictures: clouds are then ``CameraCloud``. None: without cameras.

    Raises:
        FileNotFoundError, ValueError: tables or labels are missing.
        ImportError: nuscenes-devkit is not installed.
    """

    def __init__(
        self,
        root: str | Path,
        label_set: Target,
        version: str = "",
        label_source: str = "",
        split: str = "",
        pictures: str | Path | None = None,
        every: int = 1,
        instances: bool = False,
        boxes: bool = False,
    ) -> None:
        self.root, self.pictures = Path(root), None if pictures is None else Path(pictures)
        self.instances = instances
        source = label_source or "nuscenes32"
        self.classes: tuple[str, ...] = _box_classes(label_set) if boxes else ()
        self.table = None if boxes else label_table(source, label_set)
        self.tables: Any = None  # kept for boxes alone
        self.label_folder = "lidarseg" if source == "nuscenes32" else f"lidarseg_{source}"
        self.version = version or self._only_version()
        self.cameras: dict[str, tuple[Camera, ...] | str] = {}
        self.frames = self._read_tables(split, every)
        if self.table is not None:
            self.frames = [frame for frame in self.frames if self._labels(frame[1]).is_file()]
        if not self.frames:
            raise ValueError(f"'{root}' has no keyframe with labels in '{self.label_folder}'")

    def _only_version(self) -> str:
        found = sorted(p.name for p in self.root.glob("v1.0-*") if p.is_dir())
        if len(found) != 1:
            raise ValueError(
                f"'{self.root}' has the tables {found or 'of no version'}; say which: version=v1.0-..."
            )
        return found[0]

    def _read_tables(self, split: str, every: int) -> list[tuple[str, str, str]]:
        """(scene, sample_data token, file) of every LIDAR_TOP keyframe."""
        try:
            from nuscenes import NuScenes
        except ImportError as error:
            raise ImportError(
                "nuScenes data needs nuscenes-devkit; install with: pip install 'pc_perception[nuscenes]'"
            ) from error

        if not (self.root / self.version).is_dir():
            raise FileNotFoundError(f"there are no tables '{self.root / self.version}'")
        wanted = scenes_of(split)
        tables = NuScenes(self.version, str(self.root), verbose=False)
        names = [scene["name"] for scene in tables.scene if wanted is None or scene["name"] in wanted]
        chosen = set(every_nth(names, every, f"'{self.root.name}'" + (f", split {split}" if split else "")))
        frames = []
        for scene in tables.scene:
            token = scene["first_sample_token"] if scene["name"] in chosen else ""
            while token:
                sample = tables.get("sample", token)
                data = tables.get("sample_data", sample["data"]["LIDAR_TOP"])
                frames.append((scene["name"], data["token"], data["filename"]))
                if self.pictures is not None:
                    self.cameras[data["token"]] = self._cameras(tables, sample, self.pictures)
                token = sample["next"]
        self.tables = tables if self.classes else None
        return frames

    def _cameras(self, tables: Any, sample: Any, cache: Path) -> tuple[Camera, ...] | str:
        """Return the cameras of a sample or, where they cannot be used, why."""
        try:
            return read_cameras(tables, sample, self.root, cache)
        except ValueError as error:
            return str(error)

    def _labels(self, token: str) -> Path:
        return self._folder(self.label_folder) / f"{token}_lidarseg.bin"

    def _folder(self, name: str) -> Path:
        versioned = self.root / name / self.version
        return versioned if versioned.is_dir() else self.root / name

    def _instances(self, token: str, n_points: int) -> NDArray[np.int32]:
        """Return (N,) category * 1000 + number of the object, 0 for points of none."""
        found = read_labels(self._folder("panoptic") / f"{token}_panoptic.npz", n_points)[0]
        return np.where(found % 1000 > 0, found, 0)

    def __len__(self) -> int:
        return len(self.frames)

    def name(self, index: int) -> str:
        """Name keyframe ``index``."""
        scene, _, file = self.frames[index]
        return f"{scene} {Path(file).name}"

    def __getitem__(self, index: int) -> PointCloud:
        _, token, file = self.frames[index]
        cloud = read_cloud(self.root / file, 5)
        raw = None if self.table is None else read_labels(self._labels(token), len(cloud))[0]
        cloud = with_labels(cloud, raw, self.table)
        if self.instances:
            cloud = cloud.with_fields(instance=self._instances(token, len(cloud)))
        if self.classes:
            return with_boxes(cloud, self.tables, token, self.classes)
        if self.pictures is None:
            return cloud
        cameras = self.cameras[token]
        if isinstance(cameras, str):
            raise ValueError(cameras)
        return CameraCloud(cloud.xyz, cloud.fields, cloud.frame, cloud.stamp_ns, cameras=cameras)


def _box_classes(label_set: Target) -> tuple[str, ...]:
    """Return the classes of boxes, which must be some of the detection challenge's."""
    from nuscenes.eval.detection.constants import DETECTION_NAMES

    wanted = load_label_set(label_set) if isinstance(label_set, str) else label_set
    names = wanted.classes if wanted else ()
    if not names or set(names) - set(DETECTION_NAMES):
        raise ValueError(
            f"boxes need label_set=nuscenes10, or some of its classes, not {', '.join(names) or 'none'}"
        )
    return names
