# SPDX-License-Identifier: Apache-2.0
"""Headerless .bin files: rows of float32, whose number of columns only the name or the user can tell.

=================  =======  ==========================================================
file               columns  meaning
=================  =======  ==========================================================
``*.pcd.bin``      5        nuScenes: x, y, z, intensity, ring
``velodyne*/``,    4        KITTI, SemanticKITTI: x, y, z, intensity; also a name of
``000123.bin``              6 or 10 digits
other              4 or 5   the one that the size is a multiple of; refused where it is
                            a multiple of both, or of neither
``columns=3``      3        x, y, z
``columns=6``      6        x, y, z, red, green, blue (SUN RGB-D)
=================  =======  ==========================================================

Text, and values that are no coordinates in metres, are refused: any file can be taken for rows of float32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.records import cloud_from_matrix

COLUMN_NAMES: dict[int, tuple[str, ...]] = {
    3: ("x", "y", "z"),
    4: ("x", "y", "z", "intensity"),
    5: ("x", "y", "z", "intensity", "ring"),
    6: ("x", "y", "z", "red", "green", "blue"),
}
_FAR_M = 1e6
_FAR_SHARE = 0.1  # of other files' bytes, taken for float32, about half are further; of sensors' none


def column_names(columns: int | Sequence[str]) -> tuple[str, ...]:
    """Return the names that ``columns`` stands for.

    Raises:
        ValueError: the number is not one of 3 to 6, or x, y, z are not among the names.
    """
    if isinstance(columns, int):
        if columns not in COLUMN_NAMES:
            raise ValueError(f"columns is {columns}; 3, 4, 5, 6 or a list of names (x,y,z,_,...) are known")
        return COLUMN_NAMES[columns]
    names = tuple(columns)
    if not {"x", "y", "z"} <= set(names):
        raise ValueError(f"the columns {', '.join(names)} do not include x, y and z")
    return names


def read_bin(path: Path, columns: int | Sequence[str] | None = None) -> PointCloud:
    """Return the cloud of a .bin file.

    Args:
        path: the file.
        columns: number or names of its columns; None decides as the module's table says.

    Raises:
        ValueError: the size does not fit the columns, or they cannot be told, or the file is of another kind.
    """
    raw = path.read_bytes()
    _refuse_text(raw[:64])
    if len(raw) % 4:
        raise ValueError(f"its {len(raw)} bytes are not a whole number of float32 values: truncated?")
    values = np.frombuffer(raw, "<f4").astype(np.float32)
    names = column_names(columns) if columns is not None else _guess(path, values)
    if len(values) % len(names):
        raise ValueError(
            f"its {len(raw)} bytes are not a whole number of rows of {len(names)} float32 "
            f"({', '.join(names)}): truncated, or other columns?"
        )
    rows = values.reshape(-1, len(names))
    _refuse_absurd(rows[:, [names.index(axis) for axis in "xyz"]])
    return cloud_from_matrix(rows, names, _stamp_ns(path))


def _refuse_text(head: bytes) -> None:
    if head and all(32 <= byte < 127 or 9 <= byte <= 13 for byte in head):
        begin = head[:20].decode("ascii")
        raise ValueError(
            f"it is text (it begins with {begin!r}), a .bin holds float32 values: give it the ending of its format, "
            "such as .txt, .csv, .pcd or .ply"
        )


def _refuse_absurd(xyz: NDArray[np.float32]) -> None:
    n_finite = np.count_nonzero(np.isfinite(xyz))
    n_far = np.count_nonzero(np.isfinite(xyz) & (np.abs(xyz) > _FAR_M))
    if n_far > _FAR_SHARE * n_finite:
        raise ValueError(
            f"{n_far / xyz.size:.0%} of its coordinates are beyond {_FAR_M / 1e3:,.0f} km and "
            f"{1 - n_finite / xyz.size:.0%} are NaN or infinite: it is another kind of file, or has other columns "
            "(columns=, or --columns of a command)"
        )


def write_bin(path: Path, cloud: PointCloud) -> None:
    """Write x, y, z, intensity, and ring too where the name ends in .pcd.bin; absent ones are zero."""
    names = COLUMN_NAMES[5 if path.name.endswith(".pcd.bin") else 4]
    table = np.zeros((len(cloud), len(names)), "<f4")
    table[:, :3] = cloud.xyz
    for k, name in enumerate(names[3:], start=3):
        if name in cloud.fields:
            table[:, k] = cloud.fields[name]
    path.write_bytes(table.tobytes())


def _guess(path: Path, values: NDArray) -> tuple[str, ...]:
    if path.name.endswith(".pcd.bin"):
        return COLUMN_NAMES[5]
    if path.name.endswith("_lidarseg.bin"):
        raise ValueError("this is a file of labels, not of points")
    kitti_like = path.parent.name.startswith("velodyne") or re.fullmatch(r"\d{6}|\d{10}", path.stem)
    if len(values) == 0:
        return COLUMN_NAMES[4]
    if kitti_like:
        if len(values) % 4 == 0 and not is_one_table(values, 4):
            other = [n for n in (5, 6, 3) if len(values) % n == 0 and is_one_table(values, n)]
            if other:
                raise ValueError(_two_readings(values, 4, other[0], "by its name", "by its content"))
        return COLUMN_NAMES[4]
    fitting = [n for n in (4, 5) if len(values) % n == 0]
    if len(fitting) == 1:
        return COLUMN_NAMES[fitting[0]]
    if not fitting:
        raise ValueError(
            f"its {4 * len(values)} bytes are rows neither of 4 nor of 5 float32: it is truncated, or its "
            "columns have to be given (columns=6, or --columns 6 of a command, for x,y,z,r,g,b)"
        )
    raise ValueError(_two_readings(values, 4, 5))


def _two_readings(values: NDArray, a: int, b: int, why_a: str = "", why_b: str = "") -> str:
    def reading(n: int, why: str) -> str:
        return f"{len(values) // n} points of {n} columns ({','.join(COLUMN_NAMES[n])}){' ' * bool(why)}{why}"

    return (
        f"it can be {reading(a, why_a)} or {reading(b, why_b)}; say which with columns={a} or {b} "
        f"(--columns {a} or {b} of a command)"
    )


def is_one_table(values: NDArray, n_columns: int) -> bool:
    """Tell whether ``values`` look like rows of ``n_columns``.

    With a wrong width the real columns rotate through each guessed one, so that the first, second, third,
    ... row of a cycle follow different distributions in every column. With the right width at most a
    few columns do (ring and height, where a scanner fires its beams in turn).
    """
    rows = values[: len(values) // n_columns * n_columns].reshape(-1, n_columns)[:60000]
    if len(rows) < 100:
        return True
    rows = np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)
    spread = np.ptp(np.quantile(rows, (0.05, 0.95), axis=0), axis=0) + 1e-6
    worst = np.zeros(n_columns)
    for period in (2, 3, 4, 5, 6):
        parts = np.stack([np.quantile(rows[k::period], (0.1, 0.5, 0.9), axis=0) for k in range(period)])
        worst = np.maximum(worst, (np.ptp(parts, axis=0) / spread).max(axis=0))
    return bool(np.median(worst) < 0.25)


def _stamp_ns(path: Path) -> int:
    """nuScenes file names end in microseconds since the epoch."""
    match = re.search(r"__(\d{16})\.pcd\.bin$", path.name)
    return int(match.group(1)) * 1000 if match else 0
