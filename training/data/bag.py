# SPDX-License-Identifier: Apache-2.0
"""The clouds of a recording, labelled or not.

A recording is read in order and training reads at random, so its clouds are laid out as files once.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.io.files import read_cloud

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
    ) -> None:
        self.path = Path(path)
        self.table = label_table(label_source, label_set)
        root = Path(cache_dir) if cache_dir else cache_root()
        self.folder = root / "bags" / f"{self.path.stem}-{fingerprint(self.path, topic)}"
        listing = self.folder / "clouds.json"
        if not listing.is_file():
            _lay_out(self.path, topic, self.folder)
        self.n = int(json.loads(listing.read_text(encoding="utf-8"))["clouds"])

    def __len__(self) -> int:
        return self.n

    def name(self, index: int) -> str:
        """Name cloud ``index``."""
        return f"{self.path.name} cloud {index}"

    def __getitem__(self, index: int) -> PointCloud:
        if not 0 <= index < self.n:
            raise IndexError(index)
        cloud = read_cloud(self.folder / f"{index:06d}.npz")
        return with_labels(cloud, cloud.fields.get("label"), self.table)


def _lay_out(path: Path, topic: str, folder: Path) -> None:
    from pc_perception.io.bags import BagReader, BagTruncated

    n = 0
    with BagReader(path) as bag:
        try:
            for _, cloud in bag.clouds(topic or None):
                write_plain(folder / f"{n:06d}.npz", cloud)
                n += 1
        except BagTruncated as error:
            _log.warning("%s: %s; using the %d clouds before the break", path, error, n)
    if not n:
        raise ValueError(f"'{path}' holds no cloud that can be read; name the topic, or record it again")
    (folder / "clouds.json").write_text(json.dumps({"clouds": n}), encoding="utf-8")
