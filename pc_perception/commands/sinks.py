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
from pc_perception.refusals import refuse_unwritable

from .sources import Source

LABEL_SUFFIX = ".label"
LABELLED_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix not in (".bin", ".npy"))
"""Formats of clouds that have room for labels; the two others keep coordinates and intensity."""
_FILES = (*SUFFIXES, LABEL_SUFFIX, ".mcap", ".db3", ".bag")


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
            write_labels(path, result.labels, result.instance)
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

        refuse_input(out, source)
        return BagSink(out, source)
    return open_file_sink(out, source, labelled, (*LABELLED_SUFFIXES, LABEL_SUFFIX))


def open_file_sink(
    out: Path,
    source: Source,
    mark: Callable[[PointCloud, Any], PointCloud],
    suffixes: tuple[str, ...] = LABELLED_SUFFIXES,
) -> Sink:
    """Write one file, or a folder of them, of clouds with the fields that ``mark`` gives them.

    Raises:
        ValueError: ``out`` cannot hold what the source gives.
    """
    suffix = out.suffix.lower()
    several = source.is_bag or len(source.files) > 1
    if several and suffix in _FILES:
        many = "a bag gives an .mcap file or" if source.is_bag else "several clouds give"
        raise ValueError(f"'{out}' is not what is written: {many} a folder; name one with --out")
    one_file = not (several or out.is_dir() or not suffix)
    if one_file and suffix not in suffixes:
        known = ", ".join(suffixes)
        raise ValueError(f"labels are not written to '{suffix}' files; give --out a folder or one of {known}")
    refuse_input(out, source, is_folder=not one_file)
    return FileSink(out, one_file, mark)


def refuse_picture(path: Path | None) -> None:
    """Refuse a picture that could not be written, before the work for it begins.

    Raises:
        ValueError: the name's ending is no picture's, or as ``refuse_unwritable``.
    """
    if path is None:
        return
    refuse_unwritable(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"'{path}' does not end as a picture; give --picture a name ending in .png")


def refuse_input(out: Path, source: Source, is_folder: bool = False) -> None:
    """Refuse an output that would replace what is read or be read by the next run, or that cannot be written.

    Raises:
        ValueError: it is so.
    """
    there, read = out.resolve(), source.path.resolve()
    if there == read or (source.is_bag and read in there.parents):
        raise ValueError(f"'{out}' is or lies in what is read; give --out another place")
    refuse_unwritable(out, is_folder)
