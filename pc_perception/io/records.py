# SPDX-License-Identifier: Apache-2.0
"""Named columns and packed records of a cloud: the common step of every reader and writer here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.fields import earliest_stamp_ns, find_column, pack_rgb, standard_fields
from pc_perception.io.origin import shift_origin, true_coordinates


def cloud_from_columns(
    columns: Mapping[str, NDArray], stamp_ns: int = 0, grid_shape: tuple[int, int] | None = None
) -> PointCloud:
    """Build a cloud from raw columns read from a file.

    Args:
        columns: arrays of length N by the file's names; x, y and z (any case) are required.
        stamp_ns: stamp where the file has one; 0 takes the earliest absolute time of a point, if any.
        grid_shape: (height, width) of an organised file.

    Raises:
        ValueError: x, y or z is missing.
    """
    named: dict[str, NDArray] = {}
    for name, values in columns.items():
        short = name.lower().removeprefix("scalar_")  # CloudCompare's prefix for everything it adds
        named[short if short not in named else name] = values
    missing = [name for name in "xyz" if name not in named]
    if missing:
        raise ValueError(f"there is no column {', '.join(missing)}; the columns are {sorted(columns)}")
    xyz, frame = shift_origin(np.stack([named.pop(name) for name in "xyz"], axis=1))
    times = find_column(tuple(named), "time")
    if stamp_ns == 0 and times is not None:
        stamp_ns = earliest_stamp_ns(named[times])
    return PointCloud(xyz, standard_fields(named, stamp_ns), frame, stamp_ns, grid_shape)


def cloud_from_matrix(values: NDArray, names: Sequence[str], stamp_ns: int = 0) -> PointCloud:
    """Build a cloud from an (N, len(names)) array whose columns are ``names``; ``_`` is left out."""
    columns = {name: values[:, k] for k, name in enumerate(names) if name != "_"}
    return cloud_from_columns(columns, stamp_ns)


def columns_of(cloud: PointCloud) -> dict[str, NDArray]:
    """Return the columns a file of this cloud has: x, y, z in true coordinates, then every field.

    ``normal`` becomes normal_x, normal_y, normal_z; ``rgb`` and other (N, k) fields stay 2-D. Where the
    origin was moved on reading, x, y and z are float64 and the file's own again.
    """
    columns: dict[str, NDArray] = dict(zip("xyz", true_coordinates(cloud).T, strict=True))
    for name, values in cloud.fields.items():
        if name == "normal" and values.ndim == 2:
            columns.update(zip(("normal_x", "normal_y", "normal_z"), values.T, strict=True))
        else:
            columns[name] = values
    return columns


def pack_colors(columns: dict[str, NDArray]) -> dict[str, NDArray]:
    """Replace (N, 3) ``rgb`` by one float32 column holding the bits 0x00RRGGBB (PCL's and ROS's habit)."""
    return {
        name: pack_rgb(values).view(np.float32) if name == "rgb" and values.ndim == 2 else values
        for name, values in columns.items()
    }


def split_colors(columns: dict[str, NDArray]) -> dict[str, NDArray]:
    """Replace (N, 3) ``rgb`` by the columns red, green, blue."""
    split: dict[str, NDArray] = {}
    for name, values in columns.items():
        if name == "rgb" and values.ndim == 2:
            split.update(zip(("red", "green", "blue"), values.T, strict=True))
        else:
            split[name] = values
    return split


def to_records(columns: Mapping[str, NDArray], step: int | None = None) -> NDArray:
    """Return (N,) packed records of the columns, padded with zeros to ``step`` bytes if given."""
    formats = [(values.dtype, values.shape[1:]) for values in columns.values()]
    sizes = [dtype.itemsize * int(np.prod(shape)) for dtype, shape in formats]
    offsets = [0, *np.cumsum(sizes).tolist()]
    dtype = np.dtype(
        {
            "names": list(columns),
            "formats": formats,
            "offsets": offsets[:-1],
            "itemsize": step or offsets[-1],
        }
    )
    records = np.zeros(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        records[name] = values
    return records
