# SPDX-License-Identifier: Apache-2.0
"""Where the values of a PointCloud2 message lie in its bytes, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""numpy type code of each value of sensor_msgs/PointField.datatype."""


@dataclass(frozen=True)
class Column:
    """One named field: ``count`` values of ``dtype``, ``offset`` bytes into each point."""

    name: str
    offset: int
    dtype: np.dtype
    datatype: int
    count: int

    @property
    def end(self) -> int:
        """First byte behind the field."""
        return self.offset + self.dtype.itemsize * self.count


@dataclass(slots=True)  # made for every message: a frozen one costs two microseconds more
class MessageLayout:
    """A message's bytes and the geometry of the points in them.

    Attributes:
        data: (n_bytes,) uint8, a view of the message's own memory where it has any.
        height, width: rows and points per row.
        point_step, row_step: bytes from one point, one row, to the next.
        columns: by name; every one lies inside ``point_step``.
    """

    data: NDArray[np.uint8]
    height: int
    width: int
    point_step: int
    row_step: int
    columns: dict[str, Column]
    big_endian: bool

    def __len__(self) -> int:
        return self.height * self.width

    def view(self, column: Column) -> NDArray:
        """Return (height, width) or (height, width, count) of a column without copying."""
        shape: tuple[int, ...] = (self.height, self.width)
        strides: tuple[int, ...] = (self.row_step, self.point_step)
        if column.count > 1:
            shape, strides = (*shape, column.count), (*strides, column.dtype.itemsize)
        if len(self) == 0:
            return np.empty(shape, column.dtype)
        # numpy itself refuses a view that would leave the buffer: a second check behind ours.
        return np.ndarray(shape, column.dtype, self.data, column.offset, strides)

    def read(self, column: Column) -> NDArray:
        """Return (N,) or (N, count), row-major, contiguous, native byte order: a copy."""
        view = self.view(column)
        values = np.array(view, dtype=column.dtype.newbyteorder("="), order="C")
        return values.reshape(len(self), *view.shape[2:])


def message_layout(msg: Any) -> MessageLayout:
    """Check a PointCloud2 message and return where its values are.

    Args:
        msg: any object with the attributes of sensor_msgs/PointCloud2 (rclpy, rosbags, DDS).

    Raises:
        ValueError: a size, offset or type is impossible, or the data is shorter than it should be.
    """
    try:
        height, width = int(msg.height), int(msg.width)
        point_step, row_step = int(msg.point_step), int(msg.row_step)
        big_endian = bool(msg.is_bigendian)
        fields = tuple([(f.name, int(f.offset), int(f.datatype), int(f.count)) for f in msg.fields])
        data = _bytes_of(msg.data)
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"this is not a PointCloud2 message: {error}") from error
    columns = _columns(fields, point_step, big_endian)
    if height < 0 or width < 0:
        raise ValueError(f"the cloud's size is {height} x {width}; neither may be negative")
    if height * width:
        row_step = _check_size(height, width, point_step, row_step, len(data))
    return MessageLayout(data, height, width, point_step, row_step, columns, big_endian)


def _bytes_of(data: Any) -> NDArray[np.uint8]:
    if isinstance(data, np.ndarray):
        if data.dtype.itemsize != 1:
            raise ValueError(f"the message's data has type {data.dtype}, not bytes")
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if isinstance(data, (list, tuple)):  # DDS bindings hand over sequences of small integers
        return np.frombuffer(bytes(data), np.uint8)
    return np.frombuffer(data, np.uint8)


def _check_size(height: int, width: int, point_step: int, row_step: int, n_bytes: int) -> int:
    """Return the row step to use, after checking that all points lie inside the data."""
    if point_step <= 0:
        raise ValueError(f"point_step is {point_step} for {height} x {width} points; it must be positive")
    if height == 1 and row_step == 0:
        row_step = width * point_step  # left unset by some drivers; one row does not need it
    if row_step < width * point_step:
        raise ValueError(
            f"row_step is {row_step} bytes, but a row of {width} points of {point_step} bytes needs "
            f"{width * point_step}"
        )
    needed = (height - 1) * row_step + width * point_step
    if n_bytes < needed:
        raise ValueError(
            f"the message is truncated: {height} x {width} points need {needed} bytes, it has {n_bytes}"
        )
    return row_step


@lru_cache(maxsize=64)
def _columns(
    fields: tuple[tuple[str, int, int, int], ...], point_step: int, big_endian: bool
) -> dict[str, Column]:
    order = ">" if big_endian else "<"
    columns: dict[str, Column] = {}
    for name, offset, datatype, count in fields:
        if count == 0 or name in ("", "_"):
            continue  # padding
        if datatype not in DATATYPES:
            raise ValueError(f"field '{name}' has the unknown datatype {datatype}; 1 to 8 are defined")
        if name in columns:
            raise ValueError(f"the field '{name}' appears twice")
        column = Column(name, offset, np.dtype(order + DATATYPES[datatype]), datatype, count)
        if offset < 0 or count < 0 or column.end > point_step:
            raise ValueError(
                f"field '{name}' covers bytes {offset} to {column.end} of a point of {point_step} bytes"
            )
        columns[name] = column
    missing = [name for name in "xyz" if name not in columns]
    if missing:
        raise ValueError(f"the cloud has no field {', '.join(missing)}; its fields are {sorted(columns)}")
    if any(columns[name].count != 1 for name in "xyz"):
        raise ValueError("x, y and z must have one value a point each")
    _check_overlap(list(columns.values()))
    return columns


def _check_overlap(columns: list[Column]) -> None:
    """Refuse fields that share bytes; a second name for exactly the same bytes (rgb, rgba) is allowed."""
    by_start = sorted(columns, key=lambda c: (c.offset, c.end))
    for first, second in pairwise(by_start):
        same = (first.offset, first.end) == (second.offset, second.end)
        coordinates = first.name in ("x", "y", "z") and second.name in ("x", "y", "z")
        if second.offset < first.end and (coordinates or not same):
            raise ValueError(f"fields '{first.name}' and '{second.name}' overlap in the point's bytes")
