# SPDX-License-Identifier: Apache-2.0
"""Where labelled clouds go on the command line. Every cloud is complete on disk before the next begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pc_perception.cloud import PointCloud
from pc_perception.inference.segmenter import SegmentationResult
from pc_perception.io.files import SUFFIXES, write_cloud
from pc_perception.io.label_files import write_labels

from .sources import Source

LABEL_SUFFIX = ".label"


class Sink(Protocol):
    """Takes clouds with what was found in them one by one."""

    def write(self, name: str, cloud: PointCloud, result: Any) -> None:
        """Store one result."""

    def __enter__(self) -> Sink: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def labelled(cloud: PointCloud, result: SegmentationResult) -> PointCloud:
    """Return the cloud with its fields ``label`` (uint16) and ``confidence`` (float32), same order.

    Of a model that tells objects apart, also ``instance`` (uint32).
    """
    found = cloud.with_fields(label=result.labels, confidence=result.confidence)
    return found if result.instance is None else found.with_fields(instance=result.instance)


class FileSink:
    """One cloud with the fields that ``mark`` gives it in one file, or one file per cloud in a folder."""

    def __init__(self, out: Path, one_file: bool, mark: Callable[[PointCloud, Any], PointCloud]) -> None:
        self._out, self._one_file, self._mark = out, one_file, mark

    def write(self, name: str, cloud: PointCloud, result: Any) -> None:
        """Write ``out`` itself, or ``out/<name>.npz``."""
        path = self._out if self._one_file else self._out / f"{name}.npz"
        if path.suffix == LABEL_SUFFIX:
            write_labels(path, result.labels)
        else:
            write_cloud(path, self._mark(cloud, result))

    def __enter__(self) -> FileSink:
        return self

    def __exit__(self, kind, error, trace) -> None:  # type: ignore[no-untyped-def]
        return None


def open_sink(out: Path, source: Source) -> Sink:
    """Choose the writer of labelled clouds that fits the source and the name of ``out``.

    Raises:
        ValueError: ``out`` cannot hold what the source gives.
    """
    if source.is_bag and out.suffix == ".mcap":
        from .bag_sink import BagSink

        return BagSink(out, source)
    return open_file_sink(out, source, labelled, (*SUFFIXES, LABEL_SUFFIX))


def open_file_sink(
    out: Path,
    source: Source,
    mark: Callable[[PointCloud, Any], PointCloud],
    suffixes: tuple[str, ...] = SUFFIXES,
) -> Sink:
    """Write one file, or a folder of them, of clouds with the fields that ``mark`` gives them.

    Raises:
        ValueError: ``out`` cannot hold what the source gives.
    """
    if source.is_bag or len(source.files) > 1:
        if out.suffix in suffixes:
            many = "a bag gives an .mcap file or" if source.is_bag else "several clouds give"
            raise ValueError(f"'{out}' can hold one cloud; {many} a folder: name one with --out")
        return FileSink(out, False, mark)
    if out.is_dir() or not out.suffix:
        return FileSink(out, False, mark)
    if out.suffix not in suffixes:
        known = ", ".join(suffixes)
        raise ValueError(f"'{out.suffix}' files are not written; give --out a folder or one of {known}")
    return FileSink(out, True, mark)
