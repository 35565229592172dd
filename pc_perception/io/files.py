# SPDX-License-Identifier: Apache-2.0
"""Point cloud files of every format that the package reads and writes, chosen by the file's name.

==============================  ====================================================================
``.pcd``                        ascii, binary, binary_compressed; organised grids kept
``.ply``                        vertices; ascii, binary of either byte order
``.bin``, ``.pcd.bin``          rows of float32: the table in ``bins`` says which columns
``.npy``, ``.npz``              arrays: ``arrays`` says which columns and keys
``.las``, ``.laz``              through laspy
``.txt``, ``.xyz``, ``.csv``    tables of numbers, as ``arrays`` says
folder with ``Annotations/``    an S3DIS room
==============================  ====================================================================

A file names no coordinate frame, so ``frame`` is empty, or says where the origin was moved to (``origin``);
whether an organised cloud looks along z (Kinect) or x is for the caller to know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pc_perception.cloud import PointCloud
from pc_perception.io import arrays, bins, las, pcd, ply, s3dis
from pc_perception.io.whole_files import whole_file

_Columns = int | Sequence[str] | None

_WRITERS: dict[str, Callable[[Path, PointCloud], None]] = {
    ".pcd": pcd.write_pcd,
    ".ply": ply.write_ply,
    ".bin": bins.write_bin,
    ".npy": arrays.write_npy,
    ".npz": arrays.write_npz,
    ".las": las.write_las,
    ".laz": las.write_las,
    ".txt": arrays.write_text,
    ".xyz": arrays.write_text,
    ".csv": arrays.write_text,
}
SUFFIXES = tuple(_WRITERS)
"""Suffixes of the files that ``read_cloud`` and ``write_cloud`` know."""


def read_cloud(path: str | Path, columns: _Columns = None) -> PointCloud:
    """Return the cloud of a file, or of an S3DIS room's folder.

    Args:
        path: the file; its suffix says the format.
        columns: for .bin, .npy, .npz and text: how many columns a row has, or their names. None: as the
            format's module says.

    Returns:
        The cloud in the file's order. NaN points are kept; zero points are a cloud of length zero.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, truncated, ambiguous or of an unknown format.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file '{path}'")
    try:
        return _read(path, columns)
    except (ValueError, OverflowError, MemoryError) as error:
        raise ValueError(f"'{path}' cannot be read as a point cloud: {error}") from error


def _read(path: Path, columns: _Columns) -> PointCloud:
    suffix = path.suffix.lower()
    if path.is_dir():
        if s3dis.is_room(path):
            return s3dis.read_room(path)
        raise ValueError("it is a folder, but not an S3DIS room (it has no folder Annotations)")
    if suffix == ".pcd":
        return pcd.read_pcd(path)
    if suffix == ".ply":
        return ply.read_ply(path)
    if suffix == ".bin":
        return bins.read_bin(path, columns)
    if suffix == ".npy":
        return arrays.read_npy(path, columns)
    if suffix == ".npz":
        return arrays.read_npz(path, columns)
    if suffix in (".las", ".laz"):
        return las.read_las(path)
    if suffix in (".txt", ".xyz", ".csv"):
        return arrays.read_text(path, columns)
    raise ValueError(f"files ending in '{suffix}' are not known; these are: {', '.join(SUFFIXES)}")


def read_clouds(path: str | Path, columns: _Columns = None) -> Iterator[PointCloud]:
    """Yield the clouds of a file that may hold several (.npz with offsets); else its one cloud.

    Raises:
        FileNotFoundError, ValueError: as ``read_cloud``.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz" or not path.exists():
        yield read_cloud(path, columns)
        return
    try:
        yield from arrays.read_npz_clouds(path, columns)
    except ValueError as error:
        raise ValueError(f"'{path}' cannot be read as point clouds: {error}") from error


def write_cloud(path: str | Path, cloud: PointCloud) -> Path:
    """Write a cloud in the format that the file's suffix names and return the path.

    The file appears under its name only when it is complete. ``.npz`` keeps everything; ``.pcd`` and
    ``.ply`` every field; the others what their format holds.

    Raises:
        ValueError: the suffix is unknown, or the format cannot hold a field.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"files ending in '{path.suffix}' are not written; these are: {', '.join(SUFFIXES)}")
    native = {n: v.astype(v.dtype.newbyteorder("="), copy=False) for n, v in cloud.fields.items()}
    with whole_file(path) as partial:
        writer(partial, replace(cloud, fields=native))
    return path


def cloud_files(folder: str | Path, tables: bool = False) -> list[Path]:
    """Return the cloud files in a folder and below it, in the order of their paths.

    S3DIS rooms count as one each. Left out: hidden files, text tables (calibrations and poses look the
    same) unless ``tables`` asks for them, arrays that are not clouds, lidarseg labels.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder '{folder}'")
    if s3dis.is_room(folder):
        return [folder]
    found = []
    for where, folders, names in os.walk(folder):
        here = Path(where)
        rooms = [name for name in folders if s3dis.is_room(here / name)]
        folders[:] = sorted(f for f in folders if f not in rooms and not f.startswith("."))
        found += [here / name for name in rooms]
        found += [here / name for name in names if _is_cloud(here / name, tables)]
    return sorted(found)


def _is_cloud(path: Path, tables: bool) -> bool:
    suffix = path.suffix.lower()
    if path.name.startswith(".") or suffix not in SUFFIXES or (suffix in (".txt", ".csv") and not tables):
        return False
    if path.name.endswith(("_lidarseg.bin", "_bbox.npy")):  # labels; boxes have a cloud's number of columns
        return False
    if suffix in (".npy", ".npz"):
        return arrays.looks_like_cloud(path)
    return True
