# SPDX-License-Identifier: Apache-2.0
"""Write a picture of labelled clouds with a legend; needs Pillow for text and PNG, and no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.upright import upright
from pc_perception.io.whole_files import whole_file
from pc_perception.labels import LabelSet

from .legend import LegendEntry, legend
from .splat import draw, splat_radii
from .view import choose_view

BACKGROUND = (18, 20, 26)
_PANEL = (27, 30, 38)
_TEXT = (232, 234, 240)
MUTED = (150, 156, 168)
_LEGEND_WIDTH = 300
_HEADER_HEIGHT = 56
_MAX_PANELS = 6


def render_png(
    path: str | Path,
    clouds: PointCloud | Sequence[PointCloud],
    labels: NDArray | Sequence[NDArray],
    label_set: LabelSet,
    *,
    truth: NDArray | Sequence[NDArray] | None = None,
    title: str = "",
    size: tuple[int, int] = (1600, 900),
) -> Path:
    """Draw one cloud, or up to six chosen evenly from several, and write the picture.

    Args:
        clouds: one cloud or several; the view is chosen for each (see ``choose_view``).
        labels: (N,) integers per cloud.
        truth: the same for a ground truth, which is drawn beside the labels.
        title: a line above the picture.
        size: (width, height) of the whole picture in pixels.

    Returns:
        The path written.

    Raises:
        ValueError: labels or truth do not fit the clouds, or there is no cloud.
    """
    from PIL import Image, ImageDraw

    cloud_list, label_list = _matched(clouds, labels, "labels")
    truth_list = _matched(clouds, truth, "truth")[1] if truth is not None else None
    per_cloud = 2 if truth_list is not None else 1
    n_shown = min(len(cloud_list), _MAX_PANELS // per_cloud)
    shown = np.linspace(0, len(cloud_list) - 1, n_shown).round().astype(int)
    columns, rows = _grid(n_shown * per_cloud, per_cloud)
    area = (size[0] - _LEGEND_WIDTH, size[1] - _HEADER_HEIGHT)
    panel_size = (area[0] // columns, area[1] // rows)

    image = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(image)
    for place, i in enumerate(shown):
        panels = [("labels" if truth_list is not None else "", label_list[i])]
        if truth_list is not None:
            panels.append(("ground truth", truth_list[i]))
        pictures = _draw_cloud(cloud_list[i], [v for _, v in panels], label_set, panel_size)
        for at, ((caption, _), pixels) in enumerate(zip(panels, pictures, strict=True), place * per_cloud):
            corner = (at % columns * panel_size[0], _HEADER_HEIGHT + at // columns * panel_size[1])
            image.paste(Image.fromarray(pixels), corner)
            pen.text((corner[0] + 16, corner[1] + 8), caption, font=font(18), fill=MUTED)
    everything = np.concatenate([label_list[i] for i in shown])
    _header(pen, title or label_set.name, len(everything), size[0])
    _legend_panel(pen, legend(everything, label_set), size)
    path = Path(path)
    with whole_file(path) as partial:
        image.save(partial, optimize=True)
    return path


def _matched(
    clouds: PointCloud | Sequence[PointCloud], values: NDArray | Sequence[NDArray], what: str
) -> tuple[list[PointCloud], list[NDArray]]:
    cloud_list = [clouds] if isinstance(clouds, PointCloud) else list(clouds)
    value_list = [np.asarray(values)] if isinstance(clouds, PointCloud) else [np.asarray(v) for v in values]
    if not cloud_list:
        raise ValueError("there is no cloud to draw; pass at least one")
    sizes = [(len(c), v.shape) for c, v in zip(cloud_list, value_list, strict=False)]
    if len(cloud_list) != len(value_list) or any(shape != (n,) for n, shape in sizes):
        found = [v.shape for v in value_list]
        raise ValueError(f"{what} have shapes {found} for clouds of {[len(c) for c in cloud_list]} points")
    return cloud_list, value_list


def _grid(n_panels: int, per_cloud: int) -> tuple[int, int]:
    columns = n_panels if n_panels <= 2 else max(per_cloud, int(np.ceil(np.sqrt(n_panels))))
    return columns, -(-n_panels // columns)


def _draw_cloud(
    cloud: PointCloud, colorings: list[NDArray], label_set: LabelSet, size: tuple[int, int]
) -> list[NDArray[np.uint8]]:
    """Draw a cloud once per label array; the first one chooses the view."""
    view = choose_view(cloud, size[0] / size[1], colorings[0], label_set)
    xyz = upright(cloud)
    radii = splat_radii(xyz)
    pictures = []
    for labels in colorings:
        colors = label_set.colorize(np.where(labels < 0, len(label_set), labels))
        pictures.append(draw(xyz, colors, radii, view, size, BACKGROUND))
    return pictures


def font(size_px: int) -> Any:
    """Return the font of all captions."""
    from PIL import ImageFont

    return ImageFont.load_default(size_px)


def _header(pen: Any, title: str, n_points: int, width: int) -> None:
    pen.rectangle((0, 0, width, _HEADER_HEIGHT), fill=_PANEL)
    pen.text((20, _HEADER_HEIGHT / 2), title, font=font(24), fill=_TEXT, anchor="lm")
    count = f"{n_points:,} points"
    pen.text((width - 20, _HEADER_HEIGHT / 2), count, font=font(18), fill=MUTED, anchor="rm")


def _legend_panel(pen: Any, entries: list[LegendEntry], size: tuple[int, int]) -> None:
    left, top = size[0] - _LEGEND_WIDTH, _HEADER_HEIGHT
    pen.rectangle((left, top, *size), fill=_PANEL)
    available = size[1] - top - 30
    step = min(58, max(available // max(len(entries), 1), 14))
    text = font(min(19, step - 2))
    for i, entry in enumerate(entries):
        y = top + 22 + i * step
        pen.rounded_rectangle((left + 20, y, left + 38, y + min(18, step - 4)), 4, fill=entry.color)
        name = entry.name.replace("_", " / ")
        pen.text((left + 50, y + 9), name, font=text, fill=_TEXT, anchor="lm")
        share = f"{100 * entry.share:.1f} %"
        pen.text((size[0] - 20, y + 9), share, font=text, fill=MUTED, anchor="rm")
        if step >= 44:
            bar = (_LEGEND_WIDTH - 70) * entry.share
            pen.rectangle((left + 50, y + 26, size[0] - 20, y + 30), fill=(44, 48, 60))
            pen.rectangle((left + 50, y + 26, left + 50 + bar, y + 30), fill=entry.color)
