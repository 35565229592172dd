# SPDX-License-Identifier: Apache-2.0
"""Many single objects in one picture, clouds and meshes alike, each under its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.meshes import Mesh

from .png import BACKGROUND, MUTED, font
from .splat import draw, splat_radii
from .triangles import draw_mesh
from .view import object_view

_CAPTION_HEIGHT = 22
_COLOR = (126, 176, 232)


def render_grid(
    shapes: Sequence[PointCloud | Mesh | NDArray],
    names: Sequence[str] = (),
    columns: int = 0,
    cell: int = 240,
) -> Any:
    """Draw objects side by side, row by row, all from the same side.

    Args:
        shapes: clouds, (N, 3) arrays or meshes, z up; each fills its cell. Empty ones leave it empty.
        names: captions, one for each or none.
        columns: cells in a row; 0 makes the picture about square.
        cell: width and height of a cell, pixels.

    Returns:
        A Pillow image; ``save(path)`` writes it.

    Raises:
        ValueError: there is no object, or another number of names.
    """
    from PIL import Image, ImageDraw

    if not len(shapes) or (len(names) and len(names) != len(shapes)):
        raise ValueError(
            f"a grid needs at least one object and as many names or none; got {len(shapes)} and {len(names)} names"
        )
    columns = columns if columns > 0 else int(np.ceil(np.sqrt(len(shapes))))
    columns = min(columns, len(shapes))
    height = cell + (_CAPTION_HEIGHT if len(names) else 0)
    image = Image.new("RGB", (columns * cell, -(-len(shapes) // columns) * height), BACKGROUND)
    pen = ImageDraw.Draw(image)
    for i, shape in enumerate(shapes):
        x, y = i % columns * cell, i // columns * height
        image.paste(Image.fromarray(_draw(shape, cell)), (x, y))
        if len(names):
            pen.text((x + cell / 2, y + cell + 8), names[i], font=font(14), fill=MUTED, anchor="mm")
    return image


def _draw(shape: PointCloud | Mesh | NDArray, cell: int) -> NDArray[np.uint8]:
    """(cell, cell, 3) picture of one object."""
    if isinstance(shape, Mesh):
        view = object_view(shape.vertices, 1.0)
        return draw_mesh(shape, _COLOR, view, (cell, cell), BACKGROUND)
    xyz = np.asarray(shape.xyz if isinstance(shape, PointCloud) else shape, np.float64)
    colors = np.broadcast_to(np.array(_COLOR, np.uint8), (len(xyz), 3))
    return draw(xyz, colors, splat_radii(xyz, 0.5), object_view(xyz, 1.0), (cell, cell), BACKGROUND)
