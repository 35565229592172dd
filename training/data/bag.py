# SPDX-License-Identifier: Apache-2.0
"""The clouds of a recording, labelled or not, with or without what its cameras saw.

A recording is read in order and training reads at random, so its clouds are laid out as files once.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pc_perception.cloud import PointCloud
from pc_perception.io.files import read_cloud

from .bag_cameras import LISTING, lay_out, read_cameras
from .cameras import CameraCloud
from .dataset import Target, label_table, with_labels
from .plain_files import cache_root, fingerprint, write_plain

_log = logging.getLogger(__name__)


class BagClouds:
    """Clouds of one topic.

    Args:
        path: .mcap, .db3, .bag, or a rosbag2 folder.
        label_set: target preset, or None.
        label_source: id space of the clouds' field ``label``; empty where it holds the target's ids.
        topic: empty for the recording's own choice (its only PointCloud2 topic, else a depth image).
        cache_dir: where the clouds are laid out; empty for the user's cache.
        pictures: folder for decoded pictures: clouds are then ``CameraCloud``. None: without cameras.

    Raises:
        FileNotFoundError, ValueError: nothing can be read.
    """

    def __init__(
        self,
        path: str | Path,
        label_set: Target,
        label_source: str = "",
        topic: str = "",
        cache_dir: str = "",
        pictures: Path | None = None,
    ) -> None:
        self.path, self.pictures = Path(path), pictures
        self.table = label_table(label_source, label_set)
        root = Path(cache_dir) if cache_dir else cache_root()
        more = () if pictures is None else ("pictures",)
        self.folder = root / "bags" / f"{self.path.stem}-{fingerprint(self.path, topic, *more)}"
        listing = self.folder / "clouds.json"
        if not listing.is_file():
            _lay_out(self.path, topic, self.folder, pictures is not None)
        self.n = int(json.loads(listing.read_text(encoding="utf-8"))["clouds"])
        self.cameras: list[Any] = []
        if pictures is not None:
            self.cameras = json.loads((self.folder / LISTING).read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return self.n

    def name(self, index: int) -> str:
        """Name cloud ``index``."""
        return f"{self.path.name} cloud {index}"

    def __getitem__(self, index: int) -> PointCloud:
        if not 0 <= index < self.n:
            raise IndexError(index)
        cloud = read_cloud(self.folder / f"{index:06d}.npz")
        cloud = with_labels(cloud, cloud.fields.get("label"), self.table)
        if self.pictures is None:
            return cloud
        cameras = read_cameras(self.folder, self.name(index), self.cameras[index], self.pictures)
        return CameraCloud(cloud.xyz, cloud.fields, cloud.frame, cloud.stamp_ns, cameras=cameras)


def _lay_out(path: Path, topic: str, folder: Path, pictures: bool) -> None:
    from pc_perception.io.bags import BagReader, BagTruncated

    found: list[tuple[str, int]] = []
    with BagReader(path) as bag:
        try:
            for _, cloud in bag.clouds(topic or None):
                write_plain(folder / f"{len(found):06d}.npz", cloud)
                found.append((cloud.frame, cloud.stamp_ns))
        except BagTruncated as error:
            _log.warning("%s: %s; using the %d clouds before the break", path, error, len(found))
        if not found:
            raise ValueError(f"'{path}' holds no cloud that can be read; name the topic, or record it again")
        if pictures:
            lay_out(bag, found, folder)
    (folder / "clouds.json").write_text(json.dumps({"clouds": len(found)}), encoding="utf-8")
