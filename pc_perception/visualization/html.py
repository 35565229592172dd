# SPDX-License-Identifier: Apache-2.0
"""Write labelled clouds as one interactive page that needs no network and no server.

The page holds a WebGL viewer (``assets/viewer.html``), one JSON description and each frame's points as
base64: positions quantised to 16 bits per axis, everything else to 8.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.upright import upright
from pc_perception.io.whole_files import whole_file
from pc_perception.labels import UNLABELED_COLOR, LabelSet

from .splat import splat_radii
from .view import choose_view

MAX_BYTES = 24_000_000
"""Upper limit of a page's size; frames are thinned, then left out evenly, to stay below it."""

_MIN_POINTS_PER_FRAME = 15_000  # rather fewer frames than frames nobody can read
_UNLABELED = 255


@dataclass(frozen=True)
class Frame:
    """One labelled cloud of a page.

    Attributes:
        cloud: fields ``intensity`` and ``rgb`` become colourings where present.
        labels: (N,) integers.
        confidence: (N,) float in 0..1, or None.
        truth: (N,) integers, or None.
        caption: shown with the frame, e.g. its time.
    """

    cloud: PointCloud
    labels: NDArray
    confidence: NDArray | None = None
    truth: NDArray | None = None
    caption: str = ""


def write_html(
    path: str | Path,
    frames: Sequence[Frame],
    label_set: LabelSet,
    *,
    title: str = "",
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Write a page that shows ``frames`` with orbit, zoom, colourings, class filter and playback.

    Points that are not finite are left out. Where all points would exceed ``max_bytes``, each frame
    is thinned at random (seeded) to an equal number of points and, below 15,000 points a frame,
    frames are left out evenly; the page says what it shows.

    Returns:
        The path written.

    Raises:
        ValueError: there is no frame, a frame's arrays do not fit, or there are over 255 classes.
    """
    _validate(frames, label_set)
    columns = columns_of(frames)
    chosen, limit = _budget(frames, columns, max_bytes)
    packed = [pack(frames[i], limit, columns, len(label_set)) for i in chosen]
    meta = {
        "shown": {
            "frames": [len(chosen), len(frames)],
            "points": [sum(p.meta["n"] for p in packed), sum(len(f.labels) for f in frames)],
        },
        "frames": [p.meta for p in packed],
        **describe(frames[chosen[0]], limit, label_set, columns, title),
    }
    blocks = "\n".join(
        f'<script type="application/octet-stream" id="frame{i}">{base64.b64encode(p.data).decode("ascii")}'
        "</script>"
        for i, p in enumerate(packed)
    )
    path = Path(path)
    with whole_file(path) as partial:
        partial.write_text(render_page(meta, blocks), encoding="utf-8")
    return path


def describe(
    first: Frame, limit: int, label_set: LabelSet, columns: dict[str, int], title: str = ""
) -> dict[str, Any]:
    """Return what the page knows of all frames: names, colours, columns and where its camera starts."""
    return {
        "title": title or label_set.name,
        "classes": [*label_set.classes, "unlabeled"],
        "colors": [list(color) for color in (*label_set.colors, UNLABELED_COLOR)],
        "columns": columns,
        **_first_view(first, limit, label_set),
    }


def render_page(meta: dict[str, Any], blocks: str = "") -> str:
    """Return the viewer's page with its description and the frames' elements."""
    page = (resources.files(__package__) / "assets" / "viewer.html").read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(meta["title"]))
    # A class name must not be able to end the script element that holds it.
    page = page.replace("{{meta}}", json.dumps(meta, separators=(",", ":")).replace("<", "\\u003c"))
    return page.replace("{{frames}}", blocks)


def _first_view(frame: Frame, limit: int, label_set: LabelSet) -> dict[str, Any]:
    """Return where the page's camera starts and a point size that closes most gaps there."""
    view = choose_view(frame.cloud, 16 / 9, frame.labels, label_set)
    xyz = upright(frame.cloud)[view.keep]
    radii = splat_radii(xyz[:: max(1, len(xyz) // 20_000)])
    # A sample is sparser than what is shown, by the square root of its share on surfaces.
    sparser = np.sqrt(max(1.0, min(len(xyz), limit) / max(len(radii), 1)))
    away = np.linalg.norm(view.eye - view.target)
    pixels = 450 / np.tan(np.radians(view.fov_deg) / 2) / away
    size = 2.3 * float(np.median(radii)) / sparser * pixels if len(radii) else 3.0
    return {
        "eye": view.eye.round(3).tolist(),
        "target": view.target.round(3).tolist(),
        "fov": view.fov_deg,
        "cut": view.cut,
        "size": round(float(np.clip(size, 2.0, 9.0)) * 2) / 2,
    }


def _validate(frames: Sequence[Frame], label_set: LabelSet) -> None:
    if not frames:
        raise ValueError("there is no frame to show; pass at least one")
    if len(label_set) >= _UNLABELED:
        raise ValueError(f"the page shows up to 254 classes, '{label_set.name}' has {len(label_set)}")
    for i, frame in enumerate(frames):
        for name in ("labels", "confidence", "truth"):
            values = getattr(frame, name)
            if values is not None and np.shape(values) != (len(frame.cloud),):
                raise ValueError(
                    f"frame {i}: {name} has shape {np.shape(values)}, expected ({len(frame.cloud)},)"
                )


def columns_of(frames: Sequence[Frame]) -> dict[str, int]:
    """Return the arrays that every frame has, with bytes per point, in the order they are stored."""
    columns = {"xyz": 6, "label": 1}
    if all(f.confidence is not None for f in frames):
        columns["confidence"] = 1
    if all("intensity" in f.cloud.fields for f in frames):
        columns["intensity"] = 1
    if all("rgb" in f.cloud.fields for f in frames):
        columns["rgb"] = 3
    if all(f.truth is not None for f in frames):
        columns["truth"] = 1
    return columns


def _budget(frames: Sequence[Frame], columns: dict[str, int], max_bytes: int) -> tuple[list[int], int]:
    """Return the frames to show and how many points each may have."""
    n_points = int((max_bytes - 100_000) * 0.75 / sum(columns.values()))  # base64 writes 4 for 3 bytes
    n_frames = min(len(frames), max(1, n_points // _MIN_POINTS_PER_FRAME))
    if sum(len(f.cloud) for f in frames) <= n_points:
        return list(range(len(frames))), max(len(f.cloud) for f in frames)
    chosen = np.linspace(0, len(frames) - 1, n_frames).round().astype(int).tolist()
    return chosen, max(1, n_points // n_frames)


class Packed(NamedTuple):
    """A frame as the page reads it: its description, and its columns one after the other."""

    meta: dict[str, Any]
    data: bytes


def pack(frame: Frame, limit: int, columns: dict[str, int], n_classes: int) -> Packed:
    """Pack the finite points of a frame, at most ``limit`` of them."""
    xyz = upright(frame.cloud)
    index = np.flatnonzero(np.isfinite(xyz).all(axis=1))
    if len(index) > limit:
        index = np.sort(np.random.default_rng(0).choice(index, limit, replace=False))
    xyz = xyz[index].astype(np.float64)
    low = xyz.min(axis=0) if len(xyz) else np.zeros(3)
    span = np.maximum(xyz.max(axis=0) - low if len(xyz) else np.ones(3), 1e-6)
    arrays: dict[str, NDArray] = {
        "xyz": np.rint((xyz - low) / span * 65535).astype("<u2"),
        "label": _labels(frame.labels[index], n_classes),
    }
    if "confidence" in columns:
        assert frame.confidence is not None
        arrays["confidence"] = _unit(frame.confidence[index])
    if "intensity" in columns:
        arrays["intensity"] = _stretched(frame.cloud.fields["intensity"][index])
    if "rgb" in columns:
        arrays["rgb"] = frame.cloud.fields["rgb"][index].astype(np.uint8)
    if "truth" in columns:
        assert frame.truth is not None
        arrays["truth"] = _labels(frame.truth[index], n_classes)
    data = b"".join(arrays[name].tobytes() for name in columns)
    meta = {"n": len(index), "low": low.tolist(), "span": span.tolist(), "caption": frame.caption}
    return Packed(meta, data)


def _labels(labels: NDArray, n_classes: int) -> NDArray[np.uint8]:
    """Index of the class, or of ``unlabeled``, which the page lists after the classes."""
    return np.where((labels >= 0) & (labels < n_classes), labels, n_classes).astype(np.uint8)


def _unit(values: NDArray) -> NDArray[np.uint8]:
    return np.rint(np.clip(np.nan_to_num(values), 0.0, 1.0) * 255).astype(np.uint8)


def _stretched(values: NDArray) -> NDArray[np.uint8]:
    """Spread the values between their 1st and 99th percentile over 0..255."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return np.zeros(len(values), dtype=np.uint8)
    low, high = np.percentile(finite.astype(np.float64), [1, 99])
    return _unit((values.astype(np.float64) - low) / max(high - low, 1e-9))
