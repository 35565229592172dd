# SPDX-License-Identifier: Apache-2.0
"""numpy arrays and text tables as clouds: .npy, .npz, .txt, .xyz, .csv.

What the columns of an (N, k) array or of a text file mean, unless ``columns`` says otherwise:
3: x, y, z; 4: + intensity; 5: + intensity, ring; 6: + normal where the last three are unit vectors, else
red, green, blue (S3DIS, ScanNet's ``_vert.npy``); 7: x, y, z, red, green, blue, label. Arrays with named
fields, and text files whose first line is names, say it themselves.

An .npz holds one cloud: ``xyz`` (N, 3), or ``points`` (N, k) as above, and further arrays of length N as
fields; ``frame``, ``stamp_ns`` and ``grid_shape`` are kept. It holds several clouds where ``points`` is
(sum of N, k) with ``offsets`` (clouds + 1,), or (clouds, N, k): see ``read_npz_clouds``.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.bins import COLUMN_NAMES, column_names
from pc_perception.io.fields import standard_fields
from pc_perception.io.records import (
    cloud_from_columns,
    cloud_from_matrix,
    columns_of,
    split_colors,
    to_records,
)

Columns = int | Sequence[str] | None

# What numpy, zipfile and zlib let through on damaged files. SyntaxError and TokenError: an array's header,
# which numpy reads as Python; AttributeError: it is a plain .npy.
_LOAD_ERRORS = (
    ValueError,
    EOFError,
    OSError,
    KeyError,
    AttributeError,
    TypeError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_NPY, _ZIP = b"\x93NUMPY", b"PK"


def read_npy(path: Path, columns: Columns = None) -> PointCloud:
    """Return the cloud of a .npy file.

    Raises:
        ValueError: it is not an array of at least three columns, or is truncated.
    """
    return cloud_from_array(load_npy(path), columns)


def cloud_from_array(values: NDArray, columns: Columns = None) -> PointCloud:
    """Return the cloud of an (N, k) array or of one with named fields, as the module's first lines say."""
    if values.dtype.names:
        return cloud_from_columns({name: values[name].reshape(-1) for name in values.dtype.names})
    if values.ndim != 2 or values.shape[1] < 3 or values.dtype.kind not in "fiu":
        raise ValueError(
            f"the array has shape {values.shape} and type {values.dtype}; (N, 3 or more) real numbers are needed"
        )
    names = column_names(columns) if columns is not None else _names_for(values)
    if len(names) != values.shape[1]:
        raise ValueError(
            f"the array has {values.shape[1]} columns, {len(names)} were named: {', '.join(names)}"
        )
    return cloud_from_matrix(values, names)


def _names_for(values: NDArray) -> tuple[str, ...]:
    n_columns = values.shape[1]
    if n_columns == 6:
        rest = values[:, 3:].astype(np.float64)
        rest = rest[np.isfinite(rest).all(axis=1)]
        length = np.linalg.norm(rest, axis=1)
        if len(rest) and (rest < 0).any() and np.median(np.abs(length - 1)) < 0.05:
            return ("x", "y", "z", "normal_x", "normal_y", "normal_z")
    if n_columns == 7:
        return (*COLUMN_NAMES[6], "label")
    if n_columns not in COLUMN_NAMES:
        raise ValueError(
            f"the table has {n_columns} columns; name them, as columns=x,y,z,_,intensity (--columns of a command; "
            "_: left out)"
        )
    return COLUMN_NAMES[n_columns]


def load_npy(path: Path) -> NDArray:
    """Return the array of a .npy file; ValueError where it is damaged."""
    with path.open("rb") as stream:
        _refuse_other(stream, _NPY, ".npy")
        try:
            shape, dtype = _npy_header(stream)
            needed, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - stream.tell()
            if there < needed:
                raise ValueError(f"its {shape} values of {dtype} need {needed} bytes, {there} are there")
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
        except _LOAD_ERRORS as error:
            raise _damaged(".npy", error) from error


def load_npz(path: Path) -> dict[str, NDArray]:
    """Return the arrays of an .npz file by name; ValueError where it is damaged."""
    # Opened here, because numpy leaves its own handle open when the archive is damaged.
    with path.open("rb") as stream:
        _refuse_other(stream, _ZIP, ".npz")
        try:
            if not zipfile.is_zipfile(stream):
                raise ValueError("the list of its arrays, at its end, is missing")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except _LOAD_ERRORS as error:
            raise _damaged(".npz", error) from error


def _refuse_other(stream: BinaryIO, magic: bytes, kind: str) -> None:
    head = stream.read(8)
    stream.seek(0)
    if not head.startswith(magic):
        found = (
            f"begins with {head!r}, not with {magic!r}; is its ending right?"
            if head
            else "is empty; copy it again"
        )
        raise ValueError(f"it is no {kind} file: it {found}")


def _damaged(kind: str, error: Exception) -> ValueError:
    if "allow_pickle" in str(error):
        return ValueError(
            f"the {kind} file holds Python objects, which are never loaded; save arrays of numbers"
        )
    return ValueError(f"the {kind} file is truncated or damaged: {error}; copy or write it again")


def _npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
    shape, _, dtype = (reader or np.lib.format.read_array_header_2_0)(stream)
    return shape, dtype


def read_npz(path: Path, columns: Columns = None) -> PointCloud:
    """Return the one cloud of an .npz file.

    Raises:
        ValueError: it has neither ``xyz`` nor ``points``, or holds several clouds.
    """
    arrays = load_npz(path)
    n_clouds = _count_clouds(arrays)
    if n_clouds is not None:
        raise ValueError(f"it holds {n_clouds} clouds; read them with read_clouds")
    key = next((k for k in ("xyz", "points") if k in arrays), None)
    if key is None:
        raise ValueError(f"it has no array 'xyz' or 'points'; its arrays are {sorted(arrays)}")
    return _with_extras(cloud_from_array(arrays.pop(key), columns), arrays)


def looks_like_cloud(path: Path) -> bool:
    """Tell from the header of a .npy or .npz file, without its data, whether clouds are inside.

    A damaged one might have held some: it counts, so that its reader tells what is wrong.
    """
    try:
        with path.open("rb") as stream:
            if path.suffix.lower() == ".npz":
                names = zipfile.ZipFile(stream).namelist()
                return "xyz.npy" in names or "points.npy" in names
            shape, dtype = _npy_header(stream)
    except _LOAD_ERRORS:
        return True
    return dtype.names is not None or (len(shape) == 2 and shape[1] in COLUMN_NAMES)


def _with_extras(cloud: PointCloud, arrays: dict[str, NDArray]) -> PointCloud:
    stamp_ns = int(arrays["stamp_ns"]) if "stamp_ns" in arrays else 0
    frame = str(arrays["frame"]) if "frame" in arrays and arrays["frame"].ndim == 0 else cloud.frame
    grid = tuple(int(n) for n in arrays["grid_shape"]) if "grid_shape" in arrays else None
    per_point = {
        name: values
        for name, values in arrays.items()
        if values.ndim in (1, 2) and len(values) == len(cloud) and values.dtype.kind in "fiub"
    }
    fields = {**cloud.fields, **standard_fields(per_point, stamp_ns)}
    return PointCloud(cloud.xyz, fields, frame, stamp_ns, grid if grid and len(grid) == 2 else None)


def _count_clouds(arrays: dict[str, NDArray]) -> int | None:
    points = arrays.get("points")
    if points is None:
        return None
    if points.ndim == 3:
        return len(points)
    return len(arrays["offsets"]) - 1 if "offsets" in arrays else None


def read_npz_clouds(path: Path, columns: Columns = None) -> Iterator[PointCloud]:
    """Yield every cloud of an .npz file, be it one or many.

    Raises:
        ValueError: as ``read_npz``, or the offsets do not cut the points.
    """
    arrays = load_npz(path)
    if _count_clouds(arrays) is None:
        yield read_npz(path, columns)
        return
    points = arrays["points"]
    if points.ndim == 3:
        yield from (cloud_from_array(p, columns) for p in points)
        return
    offsets = arrays["offsets"].astype(np.int64)
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(points) or (np.diff(offsets) < 0).any():
        raise ValueError(f"its offsets do not cut its {len(points)} points into clouds")
    names = column_names(columns) if columns is not None else _names_for(points)
    for start, end in pairwise(offsets):
        yield cloud_from_matrix(points[start:end], names)


def write_npz(path: Path, cloud: PointCloud) -> None:
    """Write ``xyz``, every field, frame, stamp and grid; nothing is lost."""
    extras: dict[str, Any] = {"frame": cloud.frame, "stamp_ns": cloud.stamp_ns}
    if cloud.grid_shape is not None:
        extras["grid_shape"] = cloud.grid_shape
    # np.savez leaves its archive open where the disk is full, which then complains a second time.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in {"xyz": cloud.xyz, **cloud.fields, **extras}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(values), allow_pickle=False)


def write_npy(path: Path, cloud: PointCloud) -> None:
    """Write x, y, z and intensity where there is one: (N, 3) or (N, 4) float32."""
    parts = [cloud.xyz]
    if "intensity" in cloud.fields:
        parts.append(cloud.fields["intensity"].astype(np.float32)[:, None])
    with path.open("wb") as stream:
        np.save(stream, np.concatenate(parts, axis=1))


def read_text(path: Path, columns: Columns = None) -> PointCloud:
    """Return the cloud of a text table: values separated by spaces, tabs, commas or semicolons.

    Raises:
        ValueError: a line is not numbers, or the columns cannot be told.
    """
    text = path.read_text(encoding="utf-8", errors="replace").replace(",", " ").replace(";", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("//")]
    if lines and columns is None:
        words = lines[0].lstrip("# ").lower().split()
        if {"x", "y", "z"} <= set(words):
            columns, lines = words, lines[1:]
    if not [line for line in lines if not line.lstrip().startswith("#")]:
        return PointCloud(np.empty((0, 3), np.float32))
    try:
        table = np.loadtxt(lines, np.float64, ndmin=2)
    except ValueError as error:
        raise ValueError(f"the text is not a table of numbers: {error}") from error
    return cloud_from_array(table, columns)


def write_text(path: Path, cloud: PointCloud) -> None:
    """Write one line of names and one line a point."""
    columns = {k: v for k, v in split_colors(columns_of(cloud)).items() if v.ndim == 1}
    wide = columns["x"].dtype == np.float64
    formats = ["%d" if v.dtype.kind in "iub" else "%.4f" if wide else "%.9g" for v in columns.values()]
    table = to_records(columns)
    np.savetxt(path, table, fmt=" ".join(formats), header=" ".join(columns), comments="# ")
