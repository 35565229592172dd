# SPDX-License-Identifier: Apache-2.0
"""PCD files (Point Cloud Library): ascii, binary and binary_compressed; written as binary.

``VIEWPOINT`` is where the sensor stood, not a transform to apply, and is not used. A PCD names no frame:
whether an organised one is in an optical frame (Kinect: z forward) is for the caller to know.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.records import cloud_from_columns, columns_of, pack_colors, to_records

_KINDS = {"F": "f", "U": "u", "I": "i"}
_MAX_EXPANSION = 300  # LZF cannot do better than 264 bytes out of 3


@dataclass
class _Header:
    names: list[str] = field(default_factory=list)
    dtypes: list[np.dtype] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    width: int = 0
    height: int = 1
    n_points: int = 0
    data: str = ""

    @property
    def sizes(self) -> list[int]:
        return [d.itemsize * c for d, c in zip(self.dtypes, self.counts, strict=True)]


def read_pcd(path: Path) -> PointCloud:
    """Return the cloud of a PCD file.

    Raises:
        ValueError: the header is wrong or the data is shorter than the header says.
    """
    raw = path.read_bytes()
    header, start = _read_header(raw)
    body = memoryview(raw)[start:]
    if header.data == "ascii":
        columns = _read_ascii(header, body)
    elif header.data == "binary":
        columns = _read_binary(header, body)
    elif header.data == "binary_compressed":
        columns = _read_compressed(header, body)
    else:
        raise ValueError(f"DATA is '{header.data}'; ascii, binary and binary_compressed are known")
    grid = (header.height, header.width) if header.height > 1 else None
    return cloud_from_columns(columns, grid_shape=grid)


def _read_header(raw: bytes) -> tuple[_Header, int]:
    """Return the header and where the data starts."""
    entries: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in entries:
        end = raw.find(b"\n", at, at + 65536)
        if end < 0:
            raise ValueError("this is not a PCD file: no DATA line was found in its header")
        words = raw[at:end].decode("ascii", "replace").split()
        at = end + 1
        if words and not words[0].startswith("#"):
            entries[words[0].upper()] = words[1:]
        if len(entries) > 32:
            raise ValueError("this is not a PCD file: its header has no DATA line")
    try:
        return _parse_header(entries), at
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"the PCD header cannot be read: {error!r} (missing or malformed)") from error


def _parse_header(entries: dict[str, list[str]]) -> _Header:
    names = entries.get("FIELDS") or entries["COLUMNS"]
    kinds, sizes = entries["TYPE"], [int(s) for s in entries["SIZE"]]
    counts = [int(c) for c in entries.get("COUNT", ["1"] * len(names))]
    if not len(names) == len(kinds) == len(sizes) == len(counts):
        raise ValueError(
            f"the PCD header has {len(names)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE and "
            f"{len(counts)} COUNT entries; the numbers must be equal"
        )
    if min(counts, default=0) < 0:
        raise ValueError("the PCD header has a negative COUNT")
    dtypes = []
    for name, kind, size in zip(names, kinds, sizes, strict=True):
        if kind not in _KINDS or size not in (1, 2, 4, 8) or (kind == "F" and size < 4):
            raise ValueError(f"field '{name}' has TYPE {kind} SIZE {size}, which PCD does not have")
        dtypes.append(np.dtype(f"<{_KINDS[kind]}{size}"))
    n_points = int(entries["POINTS"][0]) if "POINTS" in entries else -1
    width = int(entries["WIDTH"][0]) if "WIDTH" in entries else n_points
    height = int(entries["HEIGHT"][0]) if "HEIGHT" in entries else 1
    if n_points < 0:
        n_points = width * height
    if width < 0 or height < 0 or width * height != n_points:
        raise ValueError(f"the PCD header says WIDTH {width} x HEIGHT {height} but POINTS {n_points}")
    return _Header(names, dtypes, counts, width, height, n_points, entries["DATA"][0].lower())


def _column(header: _Header, k: int, values: NDArray) -> NDArray:
    return values.reshape(header.n_points) if header.counts[k] == 1 else values


def _kept(header: _Header) -> list[int]:
    """Positions of the fields that hold something: neither padding nor COUNT 0, no name twice."""
    kept: dict[str, int] = {}
    for k, name in enumerate(header.names):
        if name != "_" and header.counts[k] > 0:
            if name in kept:
                raise ValueError(f"the PCD header names the field '{name}' twice")
            kept[name] = k
    return list(kept.values())


def _read_binary(header: _Header, body: memoryview) -> dict[str, NDArray]:
    offsets = [0, *np.cumsum(header.sizes).tolist()]
    step, n_points = offsets[-1], header.n_points
    if len(body) < step * n_points:
        raise ValueError(
            f"the file is truncated: {n_points} points of {step} bytes need {step * n_points} bytes of data, "
            f"it has {len(body)}"
        )
    columns = {}
    for k in _kept(header):
        shape, dtype = (n_points, header.counts[k]), header.dtypes[k]
        if n_points == 0:
            view = np.empty(shape, dtype)
        else:
            view = np.ndarray(shape, dtype, body, offsets[k], (step, dtype.itemsize))
        columns[header.names[k]] = _column(header, k, np.array(view, order="C"))
    return columns


def _read_compressed(header: _Header, body: memoryview) -> dict[str, NDArray]:
    """Expand the data, which holds one field after the other, each for all points."""
    from pc_perception.io.lzf import decompress

    if len(body) < 8:
        raise ValueError("the file is truncated: the sizes of its compressed block are missing")
    packed, size = struct.unpack_from("<II", body)
    needed = sum(header.sizes) * header.n_points
    if size != needed:
        raise ValueError(f"the compressed block holds {size} bytes, but the header's points need {needed}")
    if len(body) - 8 < packed or size > _MAX_EXPANSION * (packed + 1):
        raise ValueError(
            f"the file is truncated: its compressed block has {packed} bytes, {len(body) - 8} are there"
        )
    data = decompress(body[8 : 8 + packed], size)
    starts = [0, *np.cumsum([s * header.n_points for s in header.sizes]).tolist()]
    columns = {}
    for k in _kept(header):
        values = data[starts[k] : starts[k + 1]].view(header.dtypes[k])
        columns[header.names[k]] = _column(header, k, values.reshape(header.n_points, header.counts[k]))
    return columns


def _read_ascii(header: _Header, body: memoryview) -> dict[str, NDArray]:
    n_columns, n_points = sum(header.counts), header.n_points
    # A number takes two characters at least: refuse before allocating what a lying header asks for.
    if n_points * n_columns * 2 > len(body) + 1:
        raise ValueError(f"the file is truncated: {n_points} points do not fit in {len(body)} bytes of text")
    if n_points == 0:
        table = np.empty((0, n_columns))
    else:
        try:
            table = np.loadtxt(io.StringIO(str(body, "ascii")), np.float64, ndmin=2, max_rows=n_points)
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"the ascii data cannot be read: {error}") from error
    if table.shape != (n_points, n_columns):
        raise ValueError(
            f"the header promises {n_points} rows of {n_columns} values, the file has "
            f"{table.shape[0]} rows of {table.shape[1]}"
        )
    starts = [0, *np.cumsum(header.counts).tolist()]
    columns = {}
    with np.errstate(invalid="ignore", over="ignore"):
        for k in _kept(header):
            values = table[:, starts[k] : starts[k + 1]]
            columns[header.names[k]] = _column(header, k, values.astype(header.dtypes[k]))
    return columns


def write_pcd(path: Path, cloud: PointCloud) -> None:
    """Write a cloud with all its fields as a binary PCD; ``rgb`` is packed the way PCL does."""
    columns = pack_colors(columns_of(cloud))
    columns = {k: v.astype(np.uint8) if v.dtype == bool else v for k, v in columns.items()}
    records = to_records(columns)
    height, width = cloud.grid_shape or (1, len(cloud))
    kinds = {"f": "F", "u": "U", "i": "I"}
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS " + " ".join(columns),
        "SIZE " + " ".join(str(v.dtype.itemsize) for v in columns.values()),
        "TYPE " + " ".join(kinds[v.dtype.kind] for v in columns.values()),
        "COUNT " + " ".join(str(v.shape[1] if v.ndim == 2 else 1) for v in columns.values()),
        f"WIDTH {width}",
        f"HEIGHT {height}",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(cloud)}",
        "DATA binary\n",
    ]
    path.write_bytes("\n".join(lines).encode("ascii") + records.tobytes())
