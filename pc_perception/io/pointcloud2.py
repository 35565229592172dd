# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/PointCloud2 to ``PointCloud`` and back, for rclpy, rosbags and DDS messages alike.

Messages are read by their attributes only, so nothing here imports ROS. ``cloud_from_msg`` gives the
whole cloud in the message's order; ``decode_finite`` only the wanted fields of the finite points, in memory
that is used again. Writing is in ``message_encoding``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.fields import find_column, sources_of, standard_fields
from pc_perception.io.message_encoding import (
    CloudMessage,
    Header,
    LabelledCloudEncoder,
    PointField,
    Stamp,
    encode_cloud,
    fill_message,
)
from pc_perception.io.message_layout import Column, MessageLayout, message_layout

__all__ = [
    "CloudMessage",
    "Header",
    "LabelledCloudEncoder",
    "PointField",
    "Stamp",
    "cloud_from_msg",
    "decode_finite",
    "encode_cloud",
    "field_names",
    "fill_message",
    "header_of",
]


def header_of(msg: Any) -> tuple[str, int]:
    """Return the frame and the stamp in nanoseconds of any stamped message.

    Raises:
        ValueError: the header's stamp or frame is not usable.
    """
    try:
        sec, nanosec = msg.header.stamp.sec, msg.header.stamp.nanosec
        frame = msg.header.frame_id
        stamp_ns = int(sec) * 10**9 + int(nanosec)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ValueError(f"the message's header cannot be read: {error}") from error
    if not isinstance(frame, str):
        raise ValueError(f"the header's frame_id is {type(frame).__name__}, not text")
    return frame, stamp_ns


def field_names(msg: Any) -> tuple[str, ...]:
    """Return the names of the message's fields as ``cloud_from_msg`` would find them, padding left out."""
    return tuple(message_layout(msg).columns)


def cloud_from_msg(msg: Any, wanted: Iterable[str] | None = None) -> PointCloud:
    """Return the cloud of a PointCloud2 message; every point, in row-major order.

    Any field order and type, padding, byte order and organised grids are read. Fields get the names and
    units that ``PointCloud`` fixes (``fields.standard_fields``); NaN and Inf are kept. A point at (0, 0, 0), as
    drivers that know no NaN (Livox, SICK; RealSense and Orbbec with ``ordered_pc``) give a ray without return, is NaN.

    Args:
        msg: any object with the attributes of sensor_msgs/PointCloud2.
        wanted: the fields to read, by the names that ``PointCloud`` gives them; None: all.

    Raises:
        ValueError: the message contradicts itself, is truncated, or has no x, y, z.
    """
    frame, stamp_ns = header_of(msg)
    layout = message_layout(msg)
    names = layout.columns.keys() - {"x", "y", "z"}
    if wanted is not None:
        names &= sources_of(wanted)
    raw = {name: layout.read(column) for name, column in layout.columns.items() if name in names}
    grid = (layout.height, layout.width) if layout.height > 1 else None
    return PointCloud(_read_xyz(layout), standard_fields(raw, stamp_ns), frame, stamp_ns, grid)


def decode_finite(
    msg: Any,
    names: Sequence[str] = ("x", "y", "z", "intensity"),
    out: NDArray[np.float32] | None = None,
    index_out: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the fields ``names`` of the points where all of them are finite; points at (0, 0, 0) too.

    Args:
        msg: any object with the attributes of sensor_msgs/PointCloud2.
        names: fields of one value a point, or names that an alias stands for.
        out: (capacity, len(names)) float32 C-contiguous memory to write to; capacity >= the message's
            point count. None allocates.
        index_out: (capacity,) int32 likewise.

    Returns:
        (M, len(names)) float32 values and (M,) int32 positions of those points in the message: views of
        ``out`` and ``index_out``, overwritten by the next call with the same memory.

    Raises:
        ValueError: as ``cloud_from_msg``, or a name is missing, or the memory given does not fit.
    """
    layout = message_layout(msg)
    columns = _pick(layout, names)
    n_points = len(layout)
    out = np.empty((n_points, len(columns)), np.float32) if out is None else out
    index_out = np.empty(n_points, np.int32) if index_out is None else index_out
    _check_memory(out, index_out, n_points, len(columns))
    if n_points == 0:
        return out[:0], index_out[:0]
    if layout.big_endian or sys.byteorder != "little":
        n_kept = _decode_plain(layout, columns, out, index_out)
    else:
        from pc_perception.io import decode_kernel

        n_kept = decode_kernel.decode(layout, columns, out, index_out)
    return out[:n_kept], index_out[:n_kept]


def _pick(layout: MessageLayout, names: Sequence[str]) -> list[Column]:
    picked = []
    for name in names:
        source = find_column(tuple(layout.columns), name)
        if source is None:
            raise ValueError(f"the cloud has no field '{name}'; its fields are {sorted(layout.columns)}")
        column = layout.columns[source]
        if column.count != 1:
            raise ValueError(f"field '{source}' has {column.count} values a point, one is needed")
        picked.append(column)
    return picked


def _check_memory(out: NDArray, index_out: NDArray, n_points: int, n_columns: int) -> None:
    fits = (
        out.dtype == np.float32
        and out.ndim == 2
        and out.shape[0] >= n_points
        and out.shape[1] == n_columns
        and out.flags.c_contiguous
        and index_out.dtype == np.int32
        and index_out.ndim == 1
        and len(index_out) >= n_points
        and index_out.flags.c_contiguous
    )
    if not fits:
        raise ValueError(
            f"{n_points} points of {n_columns} fields need out float32 ({n_points}, {n_columns}) and "
            f"index_out int32 ({n_points},), contiguous; got {out.dtype} {out.shape} and "
            f"{index_out.dtype} {index_out.shape}"
        )


def _decode_plain(layout: MessageLayout, columns: list[Column], out: NDArray, index_out: NDArray) -> int:
    """Do in numpy what ``decode_kernel.decode`` does; for every type and byte order."""
    values = np.empty((len(layout), len(columns)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for i, column in enumerate(columns):
            values[:, i] = layout.read(column)
    kept = np.flatnonzero(np.isfinite(values).all(axis=1))
    out[: len(kept)] = values[kept]
    index_out[: len(kept)] = kept
    return len(kept)


def _read_xyz(layout: MessageLayout) -> NDArray[np.float32]:
    x, y, z = (layout.columns[name] for name in "xyz")
    xyz = np.empty((len(layout), 3), np.float32)
    adjacent = x.dtype == y.dtype == z.dtype and y.offset == x.end and z.offset == y.end
    if adjacent and x.dtype == np.dtype("<f4") and sys.byteorder == "little":
        from pc_perception.io import decode_kernel

        geometry = (layout.height, layout.width, layout.row_step, layout.point_step)
        decode_kernel.read_xyz(layout.data, *geometry, x.offset, xyz)
        return xyz
    with np.errstate(over="ignore", invalid="ignore"):
        for i, column in enumerate((x, y, z)):
            xyz[:, i] = layout.read(column)
    xyz[(xyz == 0).all(1)] = np.nan
    return xyz
