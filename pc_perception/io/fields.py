# SPDX-License-Identifier: Apache-2.0
"""Names and units of per-point fields: from what drivers and files write to what ``PointCloud`` fixes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

ALIASES = {
    "intensity": ("i", "intensities", "reflectivity"),
    "ring": ("channel", "laser_id"),
    "time": ("t", "timestamp", "time_stamp", "offset_time"),
}
"""Other names of a field, in order of preference; used only where the field itself is absent."""

_TRIPLES = {
    "rgb": (("r", "g", "b"), ("red", "green", "blue")),
    "normal": (("normal_x", "normal_y", "normal_z"), ("nx", "ny", "nz")),
}
# A sweep lasts well under this; anything above is a time since the epoch, in seconds or nanoseconds.
_EPOCH_SECONDS = 1e8
_EPOCH_NANOSECONDS = 1e16
_SAME_SWEEP_S = 1.0


def find_column(names: tuple[str, ...], wanted: str) -> str | None:
    """Return which of ``names`` holds the field ``wanted`` (itself or an alias), or None."""
    if wanted in names:
        return wanted
    return next((alias for alias in ALIASES.get(wanted, ()) if alias in names), None)


def sources_of(fields: Iterable[str]) -> frozenset[str]:
    """Return the names of all columns that ``standard_fields`` might make some of its fields of."""
    found: set[str] = set()
    for name in fields:
        found |= {name, *ALIASES.get(name, ()), *(part for parts in _TRIPLES.get(name, ()) for part in parts)}
    return frozenset(found | {"rgba"} if "rgb" in found else found)


def standard_fields(columns: Mapping[str, NDArray], stamp_ns: int = 0) -> dict[str, NDArray]:
    """Rename and convert raw columns to the fields that ``PointCloud`` describes.

    Args:
        columns: raw arrays of length N by the name that the driver or file gave, without x, y, z.
        stamp_ns: the cloud's stamp; absolute point times become relative to it.

    Returns:
        ``intensity`` float32, ``ring`` uint16, ``time`` float32 seconds, ``rgb`` (N, 3) uint8, ``normal``
        (N, 3) float32, ``label`` and ``instance`` integer where they hold whole numbers, and every other
        column as it is.
    """
    fields = dict(columns)
    for name in ALIASES:
        source = find_column(tuple(fields), name)
        if source is not None and fields[source].ndim == 1:
            fields[name] = _convert(name, fields.pop(source), stamp_ns)
    if (
        "reflectivity" in fields
        and fields["reflectivity"].ndim == 1
        and not np.any(fields.get("intensity", 1))
    ):
        # Ouster's low data profile has no signal: its driver fills intensity with zeros.
        fields["intensity"] = _convert("intensity", fields["reflectivity"], stamp_ns)
    for name, spellings in _TRIPLES.items():
        for parts in spellings:
            if name not in fields and all(p in fields and fields[p].ndim == 1 for p in parts):
                fields[name] = np.stack([fields.pop(p) for p in parts], axis=1)
    if "rgb" not in fields and "rgba" in fields:
        fields["rgb"] = fields.pop("rgba")
    if "rgb" in fields:
        fields["rgb"] = to_rgb(fields["rgb"])
    if "normal" in fields:
        fields["normal"] = fields["normal"].astype(np.float32, copy=False)
    for name in ("label", "instance"):
        if name in fields and fields[name].dtype.kind == "f":
            fields[name] = _whole_numbers(fields[name])
    return fields


def to_rgb(values: NDArray) -> NDArray[np.uint8]:
    """Return (N, 3) uint8 colours of packed 0x00RRGGBB values or of separate channels.

    Args:
        values: (N,) float32 whose bits are the colour, or (N,) integers; or (N, 3+) channels as uint8,
            as floats 0..1, as floats 0..255, or as 16-bit integers.
    """
    if values.ndim == 1:
        bits = values.astype(np.float32).view(np.uint32) if values.dtype.kind == "f" else values
        bits = bits.astype(np.uint32, copy=False)
        return np.stack([bits >> 16, bits >> 8, bits], axis=1).astype(np.uint8)
    channels = values[:, :3]
    if channels.dtype == np.uint8:
        return np.ascontiguousarray(channels)
    scaled = np.nan_to_num(channels.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)
    top = scaled.max(initial=0.0)
    if channels.dtype.kind == "f" and top <= 1.0:
        scaled = scaled * 255.0
    elif top > 255.0:
        scaled = scaled / 257.0  # 16-bit channels, as LAS asks for: 65535 is 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def pack_rgb(rgb: NDArray) -> NDArray[np.uint32]:
    """Return (N,) uint32 0x00RRGGBB of (N, 3) uint8 colours."""
    wide = rgb.astype(np.uint32)
    return np.asarray((wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2], np.uint32)


def _convert(name: str, values: NDArray, stamp_ns: int) -> NDArray:
    if name == "time":
        return _to_time(values, stamp_ns)
    return _to_ring(values) if name == "ring" else values.astype(np.float32, copy=False)


def _to_ring(values: NDArray) -> NDArray[np.uint16]:
    if values.dtype == np.uint16:
        return values
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0)
    return np.clip(values, 0, 65535).astype(np.uint16)


def _absolute_unit(values: NDArray, stamp_ns: int = 0) -> float:
    """Return how many seconds one unit of absolute times is; 0 where the times are relative ones.

    Times about the stamp's are absolute too: a sensor whose clock nobody set counts from when it was switched on.
    """
    top, stamp_s = float(np.max(values, where=np.isfinite(values), initial=0)), stamp_ns * 1e-9
    if values.dtype.kind == "f" and stamp_s > 2 * _SAME_SWEEP_S:
        for unit in (1.0, 1e-9):
            if abs(top * unit - stamp_s) < _SAME_SWEEP_S:
                return unit
    if top > _EPOCH_NANOSECONDS:
        return 1e-9
    return 1.0 if top > _EPOCH_SECONDS and values.dtype.kind == "f" else 0.0


def earliest_stamp_ns(times: NDArray) -> int:
    """Return the first of absolute times in nanoseconds; 0 where they are relative or there are none."""
    unit = _absolute_unit(times)
    usable = times[np.isfinite(times) & (times > 0)]
    if unit == 0.0 or len(usable) == 0:
        return 0
    first = usable.min()
    return int(first) if unit == 1e-9 else int(float(first) * 1e9)


def _to_time(values: NDArray, stamp_ns: int) -> NDArray[np.float32]:
    """Return seconds after the stamp: integers are nanoseconds, floats seconds, unless they are absolute."""
    if values.dtype == np.float32:
        return values  # cannot hold a time since the epoch to better than a minute
    unit = _absolute_unit(values, stamp_ns)
    with np.errstate(over="ignore", invalid="ignore"):
        if values.dtype.kind in "iu":
            relative = values.astype(np.int64) - (stamp_ns if unit else 0)
            return (relative * 1e-9).astype(np.float32)
        seconds = values.astype(np.float64)
        if unit == 1e-9:
            seconds = (seconds - stamp_ns) * 1e-9
        elif unit:
            seconds = (seconds - stamp_ns // 10**9) - (stamp_ns % 10**9) * 1e-9
        return seconds.astype(np.float32)


def _whole_numbers(values: NDArray) -> NDArray:
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 2**31 - 1:
        return values
    whole = values.astype(np.int32)
    return whole if (whole == values).all() else values
