# SPDX-License-Identifier: Apache-2.0
"""Where clouds come from on the command line: a file, a folder of files, or a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.io import bags
from pc_perception.io.files import cloud_files, read_clouds


@dataclass(frozen=True)
class SourceCloud:
    """One cloud with the name that its output gets."""

    name: str
    cloud: PointCloud


@dataclass(frozen=True)
class Source:
    """What the user named, not yet read.

    Attributes:
        path: file or folder.
        files: the cloud files, in order; empty for a recording.
        columns: how .bin, .npy and text tables are read, None for the rule of their names.
        topic: of a recording, None for its only cloud topic.
    """

    path: Path
    files: tuple[Path, ...]
    columns: int | None = None
    topic: str | None = None

    @property
    def is_bag(self) -> bool:
        """True for a recording."""
        return not self.files

    def clouds(self) -> Iterator[SourceCloud]:
        """Yield the clouds in order.

        Raises:
            ValueError: a file is damaged, or a recording ends early (after all that could be read).
        """
        if self.is_bag:
            with bags.BagReader(self.path) as reader:
                for stamp_ns, cloud in reader.clouds(self.topic):
                    yield SourceCloud(str(stamp_ns), cloud)
            return
        root = self.path if self.path.is_dir() and self.path not in self.files else self.path.parent
        for file in self.files:
            several = list(read_clouds(file, self.columns))
            stem = file.relative_to(root).as_posix()
            for i, cloud in enumerate(several):
                yield SourceCloud(f"{stem}[{i}]" if len(several) > 1 else stem, cloud)


def open_source(path: Path, topic: str | None = None, columns: int | None = None) -> Source:
    """Find out what ``path`` is.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a folder holds neither clouds nor a recording.
    """
    if not path.exists():
        raise FileNotFoundError(f"'{path}' is not there; give a cloud file, a bag or a folder of clouds")
    if bags.is_bag(path):
        return Source(path, (), columns, topic)
    if topic is not None:
        raise ValueError(f"--topic was given, but '{path}' is not a bag")
    if path.is_file():
        return Source(path, (path,), columns)
    files = cloud_files(path)
    if not files:
        raise ValueError(
            f"folder '{path}' holds no cloud files and no bag (--jobs N labels all bags below it)"
        )
    return Source(path, tuple(files), columns)
