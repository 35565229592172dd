# SPDX-License-Identifier: Apache-2.0
"""``PointCloud`` and labelled points to the attribute values of sensor_msgs/PointCloud2."""

from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.fields import pack_rgb
from pc_perception.io.message_layout import DATATYPES
from pc_perception.io.records import columns_of, pack_colors, to_records
from pc_perception.labels import UNLABELED_COLOR, LabelSet

_CODES = {np.dtype(code): number for number, code in DATATYPES.items()}


@dataclass(frozen=True)
class PointField:
    """The attributes of sensor_msgs/PointField."""

    name: str
    offset: int
    datatype: int
    count: int = 1


class Stamp(NamedTuple):
    """The attributes of builtin_interfaces/Time."""

    sec: int
    nanosec: int


class Header(NamedTuple):
    """The attributes of std_msgs/Header."""

    stamp: Stamp
    frame_id: str


@dataclass
class CloudMessage:
    """Exactly the attributes of sensor_msgs/PointCloud2, as plain values.

    ``pointcloud2.cloud_from_msg`` reads it like any other message; ``fill_message`` copies it into one.
    """

    header: Header
    height: int
    width: int
    fields: list[PointField]
    point_step: int
    row_step: int
    data: array.array  # rclpy takes nothing else without checking it byte by byte
    is_dense: bool
    is_bigendian: bool = field(default=False)


LABELLED_FIELDS = [
    PointField("x", 0, 7),
    PointField("y", 4, 7),
    PointField("z", 8, 7),
    PointField("label", 12, 4),
    PointField("confidence", 16, 7),
    PointField("rgb", 20, 7),
]
"""Layout of labelled clouds; rgb holds the bits 0x00RRGGBB typed as FLOAT32."""
INSTANCE_FIELD = PointField("instance", 24, 6)
"""Follows them where a model tells objects apart."""
_NO_INSTANCE = np.empty(0, np.uint32)


def fill_message(target: Any, values: CloudMessage, make_field: Callable[..., Any]) -> Any:
    """Copy all of ``values`` but the header into a message object and return it.

    Args:
        target: a PointCloud2 of rclpy, or any object with its attributes.
        make_field: the PointField class that belongs to it; called with keyword arguments.
    """
    for name in ("height", "width", "point_step", "row_step", "is_bigendian", "is_dense", "data"):
        setattr(target, name, getattr(values, name))
    target.fields = [make_field(**vars(f)) for f in values.fields]
    return target


def make_header(frame: str, stamp_ns: int) -> Header:
    """Return the header of a frame and a stamp in nanoseconds."""
    return Header(Stamp(*divmod(int(stamp_ns), 10**9)), frame)


class LabelledCloudEncoder:
    """Write labelled points into messages, straight into the memory that the message keeps."""

    def __init__(self, label_set: LabelSet) -> None:
        colors = np.array([*label_set.colors, UNLABELED_COLOR], dtype=np.uint8)
        self._palette = pack_rgb(colors)

    def encode(
        self,
        cloud: PointCloud,
        labels: NDArray[np.uint16],
        confidence: NDArray[np.float32],
        instance: NDArray[np.uint32] | None = None,
    ) -> CloudMessage:
        """Return the message of labelled points, in the cloud's order, size, grid, frame and stamp.

        Args:
            cloud: N points.
            labels: (N,) uint16 labels of the encoder's set; anything beyond it is drawn as unlabeled.
            confidence: (N,) float32.
            instance: (N,) uint32, or None: the message then has no such field.

        Raises:
            ValueError: the arrays do not have one value a point.
        """
        n_points = len(cloud)
        for name, values in (("labels", labels), ("confidence", confidence), ("instance", instance)):
            if values is not None and values.shape != (n_points,):
                raise ValueError(f"{n_points} points need as many {name}, got {values.shape}")
        from pc_perception.io.decode_kernel import encode_labelled

        fields = LABELLED_FIELDS if instance is None else [*LABELLED_FIELDS, INSTANCE_FIELD]
        step = 4 * len(fields)  # each takes four bytes
        data = array.array("B", b"\0") * (step * n_points)
        is_dense = encode_labelled(
            np.ascontiguousarray(cloud.xyz).reshape(-1).view(np.uint32),
            np.ascontiguousarray(labels, dtype=np.uint16),
            np.ascontiguousarray(confidence, dtype=np.float32).view(np.uint32),
            self._palette,
            _NO_INSTANCE if instance is None else np.ascontiguousarray(instance, dtype=np.uint32),
            np.frombuffer(data, np.uint32),
        )
        return _message(cloud, list(fields), data, step, bool(is_dense))


def encode_cloud(cloud: PointCloud) -> CloudMessage:
    """Return the message of a cloud with all its fields.

    ``rgb`` is packed into one FLOAT32-typed value, ``normal`` becomes normal_x, normal_y, normal_z, other
    (N, k) fields have COUNT k; 64-bit integers and booleans get the nearest type that PointField has.

    Raises:
        ValueError: a field's values have no PointField type.
    """
    raw = pack_colors(columns_of(cloud))
    columns = {name: _as_message_type(name, values) for name, values in raw.items()}
    point_fields, offset = [], 0
    for name, values in columns.items():
        count = values.shape[1] if values.ndim == 2 else 1
        point_fields.append(PointField(name, offset, _CODES[values.dtype], count))
        offset += values.dtype.itemsize * count
    step = -(-offset // 4) * 4
    data = array.array("B")
    data.frombytes(to_records(columns, step).reshape(-1).view(np.uint8).data)
    return _message(cloud, point_fields, data, step, bool(cloud.finite().all()))


def _message(
    cloud: PointCloud, fields: list[PointField], data: array.array, step: int, dense: bool
) -> CloudMessage:
    height, width = cloud.grid_shape or (1, len(cloud))
    return CloudMessage(
        make_header(cloud.frame, cloud.stamp_ns), height, width, fields, step, step * width, data, dense
    )


def _as_message_type(name: str, values: NDArray) -> NDArray:
    values = np.asarray(values)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    if values.dtype in (np.int64, np.uint64):
        low, high = values.min(initial=0), values.max(initial=0)
        if low >= 0 and high < 2**32:
            return values.astype(np.uint32)
        if low >= -(2**31) and high < 2**31:
            return values.astype(np.int32)
        return values.astype(np.float64)
    if values.dtype not in _CODES or values.ndim > 2:
        raise ValueError(f"field '{name}' of type {values.dtype} {values.shape} has no PointField type")
    return values
