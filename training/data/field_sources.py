# SPDX-License-Identifier: Apache-2.0
"""Where fields come from without any file: procedural and analytic shapes. Every split has seeds of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pc_perception.simulation.analytic import KINDS, random_analytic
from pc_perception.simulation.object_shapes import CLASSES, SHAPES, random_shape

from .field_arrays import FieldArrays, Sizes, arrays_of_mesh, draw_arrays, outer_surface

SPLITS = ("train", "val", "test")
SEEDS = 1_000_000
"""Seeds of a split: those of ``val`` begin here, those of ``test`` at twice this."""


@dataclass(frozen=True)
class MadeShapes:
    """Shapes made of seeds: shape s has class s mod C, so that all classes are equally common.

    Attributes:
        kind: ``shapes`` or ``analytic``.
        classes: what is made.
        seeds: of the shapes.
    """

    kind: str
    classes: tuple[str, ...]
    seeds: range

    @property
    def key(self) -> str:
        """Name the shapes."""
        names = "" if self.classes in (SHAPES, KINDS) else "-" + "+".join(self.classes)
        return f"{self.kind}{names}-{self.seeds.start}-{self.seeds.stop}"

    @property
    def labels(self) -> list[int]:
        """Classes of all shapes."""
        return [s % len(self.classes) for s in self.seeds]

    @property
    def names(self) -> list[str]:
        """Class and seed of all shapes."""
        return [f"{self.classes[s % len(self.classes)]} seed {s}" for s in self.seeds]

    def make(self, index: int, sizes: Sizes) -> tuple[FieldArrays, str]:
        """Make one shape and draw its points and queries."""
        name, seed, rng = self._of(index)
        if self.kind == "shapes":
            return arrays_of_mesh(random_shape(name, seed), sizes, rng), ""
        shape = random_analytic(name, seed)
        return draw_arrays(lambda n: shape.surface(n, rng), shape.contains, sizes, rng), ""

    def surface(self, index: int, n: int, rng: Generator) -> NDArray[np.float64]:
        """Make one shape and draw any number of points on its surface."""
        name, seed, _ = self._of(index)
        if self.kind == "shapes":
            return outer_surface(random_shape(name, seed), rng)(n)
        return random_analytic(name, seed).surface(n, rng)

    def _of(self, index: int) -> tuple[str, int, Generator]:
        """Class and seed of a shape, and the random numbers for what is drawn of it."""
        seed = self.seeds[index]
        name = self.classes[seed % len(self.classes)]
        return name, seed, np.random.default_rng([20261128, seed, *name.encode()])


def made_shapes(kind: str, which: str, split: str, n_shapes: int, seed: int = 0) -> MadeShapes:
    """Choose shapes to be made.

    Args:
        kind: ``shapes`` (procedural) or ``analytic``.
        which: names of classes with ``+`` between them; empty or ``all``: ``object_shapes.SHAPES``, or all analytic.
        seed: where in the split's seeds they start.

    Raises:
        ValueError: an unknown class or split, or numbers out of range.
    """
    known, usual = (CLASSES, SHAPES) if kind == "shapes" else (KINDS, KINDS)
    classes = usual if which in ("", "all") else tuple(which.split("+"))
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise ValueError(f"there is no class '{unknown[0]}' of {kind}; choose from {', '.join(known)}")
    if split not in SPLITS:
        raise ValueError(f"{kind} have no split '{split}'; there are {', '.join(SPLITS)}")
    if n_shapes < 1 or seed < 0 or seed + n_shapes > SEEDS:
        raise ValueError(
            f"n_shapes {n_shapes} must be at least 1, seed {seed} at least 0, and both together at most {SEEDS:,}, "
            "where the seeds of the next split begin"
        )
    first = SPLITS.index(split) * SEEDS + seed
    return MadeShapes(kind, classes, range(first, first + n_shapes))
