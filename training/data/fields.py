# SPDX-License-Identifier: Apache-2.0
"""Shapes as occupancy fields: points on the surface, and places in the cube [-1, 1]^3 with whether they are inside.

============================  ======================================================================
``shapes:``                   procedural, the classes of ``object_shapes.SHAPES``; ``shapes:chair+table``
``analytic:``                 spheres, boxes and tori with exact occupancy
``meshes:DIR``                closed meshes, repaired where need be (``mesh_repair``)
``occupancy:DIR``             what 3DILG and 3DShape2VecSet publish (``field_files``)
============================  ======================================================================

Shapes fill the cube as in 3DILG (``object_shapes.in_cube``) and stand with z up.

    python -m training.data.fields meshes:DIR --split train --picture shapes.png

makes a split's fields in advance, says what was repaired and what refused, and draws the first of the shapes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.refusals import run_command

from .field_arrays import Sizes
from .field_files import file_shapes
from .field_sources import made_shapes
from .field_store import FieldSource, open_stored
from .objects import LabeledObject
from .plain_files import cache_root

KINDS = ("shapes", "analytic", "meshes", "occupancy")
DRAWN = 56
"""Shapes in a picture."""


def _no_places() -> NDArray[np.float32]:
    return np.zeros((0, 3), np.float32)


def _no_answers() -> NDArray[np.bool_]:
    return np.zeros(0, bool)


@dataclass(frozen=True)
class FieldObject(LabeledObject):
    """One shape: a cloud of its surface (``xyz``), its class (``category``), and its field.

    Attributes:
        queries_vol, queries_near: (Q, 3) float32, evenly in the cube and near the surface.
        occupancy_vol, occupancy_near: (Q,) bool, True inside.
        name: where it comes from.
    """

    queries_vol: NDArray[np.float32] = field(default_factory=_no_places)
    occupancy_vol: NDArray[np.bool_] = field(default_factory=_no_answers)
    queries_near: NDArray[np.float32] = field(default_factory=_no_places)
    occupancy_near: NDArray[np.bool_] = field(default_factory=_no_answers)
    name: str = ""

    @property
    def points(self) -> NDArray[np.float32]:
        """(N, 3) float32 points drawn evenly over the surface."""
        return self.xyz

    @property
    def label(self) -> int:
        """Index into the data set's ``classes``, -1 where it has none."""
        return self.category


class FieldDataset:
    """Shapes by number, each with all that is kept of it (``draw_field`` takes fewer); an ``ObjectDataset``.

    Attributes:
        classes: names of the labels.
        repaired, refused: what was done to shapes of files, or why they are left out, by name.
    """

    def __init__(
        self, source: FieldSource, folder: Path, sizes: Sizes, workers: int = 1, progress: bool = False
    ) -> None:
        self.classes, self._source = tuple(source.classes), source
        self._stored = open_stored(folder, source, sizes.validate(), workers, progress)
        rows = self._stored.usable.tolist()
        names, labels = source.names, source.labels
        self._names, self._labels = [names[i] for i in rows], [labels[i] for i in rows]
        self.repaired, self.refused = self._stored.repaired, self._stored.refused

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> FieldObject:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = int(self._stored.usable[index])
        kept = {name: np.array(array[row]) for name, array in self._stored.arrays.items()}
        return FieldObject(
            kept["surface"],
            category=self._labels[index],
            queries_vol=kept["vol"],
            occupancy_vol=kept["vol_inside"],
            queries_near=kept["near"],
            occupancy_near=kept["near_inside"],
            name=self._names[index],
        )

    def surface(self, index: int, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Draw (n, 3) points on the surface of shape ``index``, however many are kept: for measuring distances."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = int(self._stored.usable[index])
        return self._source.surface(row, n, np.random.default_rng([seed, row])).astype(np.float32)

    def name(self, index: int) -> str:
        """Name shape ``index``."""
        return self._names[index]

    def label(self, index: int) -> int:
        """Return the class of shape ``index``."""
        return self._labels[index]

    def instance(self, index: int) -> str:
        """Name the shape."""
        return self._names[index]


def open_fields(
    spec: str,
    split: str = "train",
    n_shapes: int = 1000,
    seed: int = 0,
    sizes: Sizes = Sizes(),  # noqa: B008 (frozen)
    cache_dir: str | Path = "",
    workers: int = 1,
    progress: bool = False,
    y_up: bool = False,
) -> FieldDataset:
    """Open the shapes that a text names; see the module. They are made when first asked for, and kept.

    Args:
        split: ``train``, ``val`` or ``test``; no shape is in two of them.
        n_shapes, seed: of shapes that are made: how many, and where in the split's seeds they start.
        sizes: how much is kept of each.
        cache_dir: where files are kept; empty: the user's cache.
        workers: processes that make shapes.
        y_up: y is up in files of meshes and occupancy; they are turned.

    Raises:
        FileNotFoundError, ValueError: the text, the data or a number cannot be used.
    """
    kind, _, where = spec.partition(":")
    folder = (Path(cache_dir) if cache_dir else cache_root()) / "fields"
    if kind in ("shapes", "analytic"):
        source: FieldSource = made_shapes(kind, where, split, n_shapes, seed)
    elif kind in ("meshes", "occupancy"):
        source = file_shapes(kind, where, split, y_up)
    else:
        raise ValueError(f"'{spec}' names no fields; use one of {', '.join(f'{k}:' for k in KINDS)}")
    return FieldDataset(source, folder, sizes, workers, progress)


def draw_shapes(data: FieldDataset, columns: int = 7) -> Any:
    """Return a Pillow image of the points of the first ``DRAWN`` shapes."""
    from pc_perception.visualization import render_grid

    shown = range(min(len(data), DRAWN))
    return render_grid([data[i] for i in shown], [data.name(i) for i in shown], columns)


def main(argv: Sequence[str] | None = None) -> int:
    """Make fields and print the report; problems are told in one line."""
    parser = argparse.ArgumentParser(prog="python -m training.data.fields", description=main.__doc__)
    parser.add_argument("spec", help="shapes:, shapes:chair+table, analytic:, meshes:DIR or occupancy:DIR")
    parser.add_argument("--split", default="train", help="train, val or test")
    parser.add_argument("--n", type=int, default=1000, help="of shapes that are made: how many")
    parser.add_argument("--y-up", action="store_true", help="y is up in the files")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--picture", type=Path, help=f"draw the first {DRAWN} shapes to this file")
    parser.add_argument("--cache", default="", help="folder (default: the user's cache)")
    args = parser.parse_args(argv)
    return run_command("training.data.fields", lambda: _make(args), lines=True)


def _make(args: argparse.Namespace) -> None:
    data = open_fields(
        args.spec,
        args.split,
        args.n,
        cache_dir=args.cache,
        workers=args.workers,
        progress=True,
        y_up=args.y_up,
    )
    if args.picture:
        draw_shapes(data).save(args.picture)
    for name, note in data.repaired.items():
        print(f"{name}: {note}")
    for note in data.refused.values():
        print(f"refused: {note}")
    print(
        f"{len(data)} shapes of {len(data.classes)} classes, {len(data.repaired)} with a note, "
        f"{len(data.refused)} refused"
    )


if __name__ == "__main__":
    sys.exit(main())
