# SPDX-License-Identifier: Apache-2.0
"""Where labelled clouds go on the command line. Every cloud is complete on disk before the next begins."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.io.files import SUFFIXES, write_cloud
from pc_perception.io.label_files import write_labels

from .sources import Source

LABEL_SUFFIX = ".label"


class Sink(Protocol):
    """Takes labelled clouds one by one."""

    def write(self, name: str, cloud: PointCloud, result: SegmentationResult) -> None:
        """Store one result."""

    def __enter__(self) -> Sink: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def labelled(cloud: PointCloud, result: SegmentationResult) -> PointCloud:
    """Return the cloud with its fields ``label`` (uint16) and ``confidence`` (float32), same order."""
    return cloud.with_fields(label=result.labels, confidence=result.confidence)


class FileSink:
    """One labelled cloud in one file, or one file per cloud in a folder."""

    def __init__(self, out: Path, one_file: bool) -> None:
        self._out, self._one_file = out, one_file

    def write(self, name: str, cloud: PointCloud, result: SegmentationResult) -> None:
        """Write ``out`` itself, or ``out/<name>.npz``."""
        path = self._out if self._one_file else self._out / f"{name}.npz"
        if path.suffix == LABEL_SUFFIX:
            write_labels(path, result.labels)
        else:
            write_cloud(path, labelled(cloud, result))

    def __enter__(self) -> FileSink:
        return self

    def __exit__(self, kind, error, trace) -> None:  # type: ignore[no-untyped-def]
        return None


def open_sink(out: Path, source: Source) -> Sink:
    """Choose the writer that fits the source and the name of ``out``.

    Raises:
        ValueError: ``out`` cannot hold what the source gives.
    """
    if source.is_bag and out.suffix == ".mcap":
        from .bag_sink import BagSink

        return BagSink(out, source)
    if source.is_bag or len(source.files) > 1:
        if out.suffix in (*SUFFIXES, LABEL_SUFFIX):
            many = "a bag gives an .mcap file or" if source.is_bag else "several clouds give"
            raise ValueError(f"'{out}' can hold one cloud; {many} a folder: name one with --out")
        return FileSink(out, one_file=False)
    if out.is_dir() or not out.suffix:
        return FileSink(out, one_file=False)
    if out.suffix not in (*SUFFIXES, LABEL_SUFFIX):
        known = ", ".join((*SUFFIXES, LABEL_SUFFIX))
        raise ValueError(f"'{out.suffix}' files are not written; give --out a folder or one of {known}")
    return FileSink(out, one_file=True)
