# SPDX-License-Identifier: Apache-2.0
"""Where clouds come from on the command line: a file, a folder of files, or a recording."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.inference.model_choice import choose_model
from pc_perception.io import bags
from pc_perception.io.arrays import Columns
from pc_perception.io.files import cloud_files, read_clouds
from pc_perception.refusals import sentence


@dataclass(frozen=True)
class SourceCloud:
    """One cloud with the name that its output gets."""

    name: str
    cloud: PointCloud


class LeftOut(ValueError):
    """Damaged files of a folder or messages of a recording; raised after all others were handed out.

    Attributes:
        n: how many.
    """

    def __init__(self, damaged: Sequence[str], n_all: int, kind: str) -> None:
        told = "; ".join(damaged[:3]) + ("; ..." if len(damaged) > 3 else "")
        super().__init__(f"{len(damaged)} of {n_all} {kind} were left out: {told}")
        self.n = len(damaged)


@dataclass
class Tally:
    """What was worked on; ``empty`` are the clouds without one finite point, of which nothing can be said."""

    clouds: int = 0
    points: int = 0
    empty: int = 0

    def count(self, cloud: PointCloud) -> None:
        """Count one cloud."""
        self.clouds += 1
        self.points += len(cloud)
        self.empty += not cloud.finite().any()

    def refuse_nothing(self, path: Path) -> None:
        """Tell of empty clouds among others, such as the first of a live recording.

        Raises:
            ValueError: there was no cloud, or no finite point in any.
        """
        if not self.clouds:
            raise ValueError(f"'{path}' holds no cloud")
        if self.empty == self.clouds:
            raise ValueError(
                f"'{path}' holds nothing to label: none of its {self.points:,} points in {self.clouds} cloud(s) has "
                "finite x, y and z; look at the sensor, or at what wrote the file"
            )
        if self.empty:
            print(f"{self.empty} of {self.clouds} clouds have no finite point: no labels", file=sys.stderr)


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
            ValueError: the one file is damaged; or, after all that could be read, ``LeftOut``, or the recording
                breaks off (``BagTruncated``).
        """
        if self.is_bag:
            yield from self._messages()
        else:
            yield from self._file_clouds()

    def _messages(self) -> Iterator[SourceCloud]:
        with bags.BagReader(self.path) as reader:
            for stamp_ns, cloud in reader.clouds(self.topic):
                yield SourceCloud(str(stamp_ns), cloud)
            if reader.left_out:
                told = [f"of '{name}' at {at} ns: {why}" for (name, at), why in reader.left_out.items()]
                n_all = sum(reader.topics[name].count for name in {name for name, _ in reader.left_out})
                raise LeftOut(told, n_all, "messages")

    def _file_clouds(self) -> Iterator[SourceCloud]:
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
            raise LeftOut(damaged, len(self.files), "files")

    def telling(self, first: PointCloud) -> PointCloud:
        """Return the cloud that a model is chosen by: the first with a finite point; ``first`` where there is none."""
        if first.finite().any():
            return first
        with suppress(ValueError, OSError):  # told by who reads it all
            return next((item.cloud for item in self.clouds() if item.cloud.finite().any()), first)
        return first


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
        raise ValueError(_nothing_in(path, out))
    return Source(path, tuple(files), columns)


def suitable_model(source: Source, first: PointCloud) -> str:
    """Return the shipped model that suits a source, and say so on stderr."""
    name, reason = choose_model(source.telling(first))
    whose = "" if len(source.files) == 1 else " for all clouds, by the first"
    print(f"model '{name}'{whose}: {reason} (--model overrides)", file=sys.stderr)
    return name


def _nothing_in(folder: Path, out: Path | None) -> str:
    from .fleet_plan import bags_below

    found = bags_below(folder, out)
    if not found:
        return f"folder '{folder}' holds no cloud files and no recording"
    return (
        f"folder '{folder}' holds no cloud files, but {len(found)} recording(s), such as '{found[0]}': name one, or "
        "label all by pc-perception segment with --jobs N and --out FOLDER"
    )


def _refuse_both(path: Path) -> None:
    """Refuse a folder in which recordings lie among clouds, unless its metadata says that it is one recording."""
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        clouds = cloud_files(path)
        if clouds:
            raise ValueError(
                f"folder '{path}' holds recordings and cloud files, such as '{clouds[0].name}'; name one of them"
            )
