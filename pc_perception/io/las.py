# SPDX-License-Identifier: Apache-2.0
"""LAS and LAZ files, through laspy (and lazrs for LAZ)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.fields import to_rgb
from pc_perception.io.origin import shift_origin, true_coordinates

_SCALE_M = 0.001


def _laspy() -> Any:
    try:
        import laspy
    except ImportError as error:
        raise ImportError("LAS and LAZ files need laspy: pip install laspy lazrs") from error
    return laspy


def read_las(path: Path) -> PointCloud:
    """Return the cloud of a LAS or LAZ file.

    ``classification`` becomes ``label``; ``gps_time`` becomes ``time`` after the first point's, since an
    airborne strip has no one stamp; colours of 16 bits become 8.

    Raises:
        ValueError: the file is damaged or truncated.
        ImportError: laspy is not installed.
    """
    laspy = _laspy()
    try:
        _refuse_cut(laspy, path)
        data = laspy.read(str(path))
        fields: dict[str, NDArray] = {}
        xyz, frame = shift_origin(np.stack([data.x, data.y, data.z], axis=1))
        names = set(data.point_format.dimension_names)
        fields["intensity"] = np.asarray(data.intensity).astype(np.float32)
        if {"red", "green", "blue"} <= names:
            fields["rgb"] = to_rgb(np.stack([data.red, data.green, data.blue], axis=1))
        fields["label"] = np.asarray(data.classification).astype(np.int32)
        if "gps_time" in names and len(xyz):
            seconds = np.asarray(data.gps_time, dtype=np.float64)
            fields["time"] = (seconds - np.nanmin(seconds)).astype(np.float32)
        for name in data.point_format.extra_dimension_names:
            fields[name] = np.array(data[name])
    except Exception as error:  # laspy and lazrs raise many types of their own, none documented
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the LAS file is truncated or damaged: {why}; copy or export it again") from error
    return PointCloud(xyz, fields, frame)


def _refuse_cut(laspy: Any, path: Path) -> None:
    with laspy.open(str(path)) as reader:
        header = reader.header
    if header.are_points_compressed:  # their size is not known before; lazrs finds the end
        return
    needed = header.offset_to_point_data + header.point_count * header.point_format.size
    if path.stat().st_size < needed:
        raise ValueError(
            f"its {header.point_count} points need {needed} bytes, {path.stat().st_size} are there"
        )


def write_las(path: Path, cloud: PointCloud) -> None:
    """Write points (1 mm steps), intensity, colour, and labels up to 255 as classification.

    Other one-valued fields become extra dimensions. Non-finite points cannot be stored and are left out.
    """
    laspy = _laspy()
    cloud = cloud.select(np.flatnonzero(cloud.finite()))
    header = laspy.LasHeader(point_format=7 if "rgb" in cloud.fields else 6, version="1.4")
    xyz = true_coordinates(cloud).astype(np.float64)
    header.scales = np.full(3, _SCALE_M)
    header.offsets = np.floor(xyz.min(axis=0)) if len(xyz) else np.zeros(3)
    extra = {
        name: values
        for name, values in cloud.fields.items()
        if values.ndim == 1 and name not in ("intensity", "label") and values.dtype.kind in "fiu"
    }
    for name, values in extra.items():
        header.add_extra_dim(laspy.ExtraBytesParams(name=name, type=values.dtype))
    data = laspy.LasData(header)
    data.x, data.y, data.z = xyz.T
    if "intensity" in cloud.fields:
        data.intensity = np.clip(np.nan_to_num(cloud.fields["intensity"]), 0, 65535).astype(np.uint16)
    if "rgb" in cloud.fields:
        data.red, data.green, data.blue = cloud.fields["rgb"].astype(np.uint16).T * 257
    if "label" in cloud.fields:
        data.classification = np.clip(cloud.fields["label"], 0, 255).astype(np.uint8)
    for name, values in extra.items():
        data[name] = values
    with path.open("wb") as stream:
        data.write(stream, do_compress=path.suffix.lower() == ".laz", laz_backend=None)
