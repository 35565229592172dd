# SPDX-License-Identifier: Apache-2.0
"""PLY files: ascii and binary of either byte order; written as binary little-endian."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.records import cloud_from_columns, columns_of, split_colors, to_records

_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
_WRITTEN = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint"}
_WRITTEN |= {"f4": "float", "f8": "double"}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass
class _Element:
    name: str
    count: int
    # (name, type, type of the list's length or None for a plain value)
    properties: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        return any(length is not None for _, _, length in self.properties)

    def dtype(self, order: str) -> np.dtype:
        return np.dtype([(name, order + kind) for name, kind, _ in self.properties])


def read_ply(path: Path) -> PointCloud:
    """Return the vertices of a PLY file as a cloud; faces and other elements are left out.

    Raises:
        ValueError: the header is wrong, or the data is shorter than the header says.
    """
    raw = path.read_bytes()
    order, elements, start = _read_header(raw)
    before: list[_Element] = []
    for element in elements:
        if element.name == "vertex":
            break
        before.append(element)
    else:
        raise ValueError("the PLY file has no element 'vertex'")
    if element.has_lists:
        raise ValueError("the PLY file's vertices have list properties; plain values are needed")
    names = [name for name, _, _ in element.properties]
    if len(set(names)) != len(names):
        raise ValueError("the PLY file names a property of its vertices twice")
    if order == "=":
        return cloud_from_columns(_read_ascii(raw[start:], before, element))
    at = start
    for other in before:
        at = _skip(raw, at, other, order)
    return cloud_from_columns(_read_binary(raw, at, element, order))


def _read_header(raw: bytes) -> tuple[str, list[_Element], int]:
    if not raw.startswith(b"ply"):
        raise ValueError(f"this is not a PLY file: it begins with {raw[:4]!r}, not b'ply'")
    end = raw.find(b"end_header")
    start = raw.find(b"\n", end) + 1
    if end < 0 or start == 0:
        raise ValueError("the PLY header has no end_header line")
    order, elements = "", []
    try:
        for line in raw[:end].decode("ascii", "replace").splitlines():
            words = line.split()
            if not words or words[0] in ("ply", "comment", "obj_info"):
                continue
            if words[0] == "format":
                order = _ORDERS[words[1]]
            elif words[0] == "element":
                elements.append(_Element(words[1], int(words[2])))
            elif words[0] == "property" and words[1] == "list":
                elements[-1].properties.append((words[4], _TYPES[words[3]], _TYPES[words[2]]))
            elif words[0] == "property":
                elements[-1].properties.append((words[2], _TYPES[words[1]], None))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"the PLY header line '{line}' cannot be read") from error
    if not order or any(e.count < 0 for e in elements):
        raise ValueError("the PLY header has no format line or a negative count")
    return order, elements, start


def _skip(raw: bytes, at: int, element: _Element, order: str) -> int:
    """Return where the data after ``element`` starts."""
    if not element.has_lists:
        return at + element.dtype(order).itemsize * element.count
    for _ in range(element.count):
        for _, kind, length in element.properties:
            n_values = 1
            if length is not None:
                length_type = np.dtype(order + length)
                if at + length_type.itemsize > len(raw):
                    raise ValueError(f"the PLY file ends inside its element '{element.name}'")
                n_values = int(np.frombuffer(raw, length_type, 1, at)[0])
                at += length_type.itemsize
            at += max(n_values, 0) * np.dtype(kind).itemsize
    return at


def _read_binary(raw: bytes, at: int, element: _Element, order: str) -> dict[str, NDArray]:
    dtype = element.dtype(order)
    needed = dtype.itemsize * element.count
    if len(raw) - at < needed:
        raise ValueError(
            f"the file is truncated: {element.count} vertices need {needed} bytes, {max(len(raw) - at, 0)} "
            "are there"
        )
    records = np.frombuffer(raw, dtype, element.count, at) if needed else np.empty(element.count, dtype)
    return {name: records[name].astype(dtype[name].newbyteorder("=")) for name in dtype.names or ()}


def _read_ascii(body: bytes, before: list[_Element], element: _Element) -> dict[str, NDArray]:
    n_skipped = sum(e.count for e in before)
    n_columns, n_rows = len(element.properties), element.count
    if n_rows * n_columns * 2 > len(body) + 1:
        raise ValueError(f"the file is truncated: {n_rows} vertices do not fit in {len(body)} bytes of text")
    if n_rows == 0 or n_columns == 0:
        table = np.empty((n_rows, n_columns))
    else:
        lines = body.decode("ascii", "replace").splitlines()[n_skipped : n_skipped + n_rows]
        if len(lines) < n_rows:
            raise ValueError(f"the file is truncated: it has {len(lines)} of {n_rows} vertices")
        try:
            table = np.loadtxt(lines, np.float64, ndmin=2, comments=None)
        except ValueError as error:
            raise ValueError(f"the vertices cannot be read: {error}") from error
    if table.shape != (n_rows, n_columns):
        raise ValueError(
            f"the header promises {n_rows} vertices of {n_columns} values, the file has "
            f"{table.shape[0]} of {table.shape[1]}"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        return {name: table[:, k].astype(kind) for k, (name, kind, _) in enumerate(element.properties)}


def write_ply(path: Path, cloud: PointCloud) -> None:
    """Write a cloud with all its fields; (N, k) fields other than colours become name_0, name_1, ..."""
    columns: dict[str, NDArray] = {}
    for name, values in split_colors(columns_of(cloud)).items():
        parts = {name: values} if values.ndim == 1 else {f"{name}_{k}": v for k, v in enumerate(values.T)}
        columns.update({k: _ply_type(k, v) for k, v in parts.items()})
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(cloud)}"]
    lines += [f"property {_WRITTEN[v.dtype.str[1:]]} {name}" for name, v in columns.items()]
    lines += ["end_header\n"]
    path.write_bytes("\n".join(lines).encode("ascii") + to_records(columns).tobytes())


def _ply_type(name: str, values: NDArray) -> NDArray:
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        if low < -(2**31) or high >= 2**32 or (low < 0 and high >= 2**31):
            raise ValueError(f"field '{name}' holds integers that PLY's 32 bits do not")
        return values.astype(np.int32 if low < 0 else np.uint32)
    return values
