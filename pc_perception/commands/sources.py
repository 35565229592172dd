# SPDX-License-Identifier: Apache-2.0
"""Where clouds come from on the command line: a file, a folder of files, or a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.io import bags
from pc_perception.io.arrays import Columns
from pc_perception.io.files import cloud_files, read_clouds
from pc_perception.refusals import sentence


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
    columns: Columns = None
    topic: str | None = None

    @property
    def is_bag(self) -> bool:
        """True for a recording."""
        return not self.files

    def clouds(self) -> Iterator[SourceCloud]:
        """Yield the clouds in order.

        Raises:
            ValueError: files are damaged, or a recording ends early (after all that could be read).
        """
        if self.is_bag:
            with bags.BagReader(self.path) as reader:
                for stamp_ns, cloud in reader.clouds(self.topic):
                    yield SourceCloud(str(stamp_ns), cloud)
            return
        root = self.path if self.path.is_dir() and self.path not in self.files else self.path.parent
        damaged: list[str] = []
        for file in self.files:
            try:
                several = list(read_clouds(file, self.columns))
            except (ValueError, OSError) as error:
                if len(self.files) == 1:
                    raise
                damaged.append(sentence(error))
                continue
            stem = file.relative_to(root).as_posix()
            for i, cloud in enumerate(several):
                yield SourceCloud(f"{stem}[{i}]" if len(several) > 1 else stem, cloud)
        if damaged:
            told = "; ".join(damaged[:3]) + ("; ..." if len(damaged) > 3 else "")
            raise ValueError(f"{len(damaged)} of {len(self.files)} files were left out: {told}")


def open_source(
    path: Path, topic: str | None = None, columns: Columns = None, out: Path | None = None
) -> Source:
    """Find out what ``path`` is; what lies in the folder ``out``, the results of a run before, is no part of it.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a folder holds neither clouds nor a recording, or both; or an option is for the other kind.
    """
    if not path.exists():
        raise FileNotFoundError(f"'{path}' is not there; give a cloud file, a bag or a folder of clouds")
    if bags.is_bag(path):
        if columns is not None:
            raise ValueError(f"--columns was given, but '{path}' is a bag, whose clouds name their fields")
        _refuse_both(path)
        return Source(path, (), None, topic)
    if topic is not None:
        raise ValueError(f"--topic was given, but '{path}' is not a bag")
    if path.is_file():
        return Source(path, (path,), columns)
    files = cloud_files(path)
    if out is not None and path.resolve() in out.resolve().parents:
        files = [file for file in files if out.resolve() not in file.resolve().parents]
    if not files:
        raise ValueError(
            f"folder '{path}' holds no cloud files and no rosbag2 recording; name a ROS 1 .bag itself"
            " (segment --jobs N labels all bags below a folder)"
        )
    return Source(path, tuple(files), columns)


def _refuse_both(path: Path) -> None:
    """Refuse a folder in which recordings lie among clouds, unless its metadata says that it is one recording."""
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        clouds = cloud_files(path)
        if clouds:
            raise ValueError(
                f"folder '{path}' holds recordings and cloud files, such as '{clouds[0].name}'; name one of them"
            )
