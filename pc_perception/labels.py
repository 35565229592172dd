# SPDX-License-Identifier: Apache-2.0
"""Class names, colours and the maps between data sets' ids and ours.

Inside the package a label is an index 0 .. C-1 into a ``LabelSet``, or ``UNLABELED``. Data sets' own
("raw") ids appear only where their files are read or written. The sets and maps are data:
``label_sets/*.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

UNLABELED = 65535
"""Label of a point that no class was given to (UINT16 on the wire, as vision_msgs asks)."""

UNLABELED_COLOR = (90, 90, 90)


@dataclass(frozen=True)
class LabelSet:
    """Names and colours of the classes 0 .. C-1.

    Attributes:
        name: short identifier, e.g. ``street8``.
        classes: C class names.
        colors: C (red, green, blue) triples, 0..255.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError(f"label set '{self.name}' has no classes")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"label set '{self.name}' names a class twice")
        if len(self.classes) != len(self.colors):
            raise ValueError(
                f"label set '{self.name}' has {len(self.classes)} classes and {len(self.colors)} colours"
            )

    def __len__(self) -> int:
        return len(self.classes)

    def colorize(self, labels: NDArray) -> NDArray[np.uint8]:
        """Return (N, 3) uint8 colours of (N,) labels; grey where ``UNLABELED``."""
        palette = np.array([*self.colors, UNLABELED_COLOR], dtype=np.uint8)
        return palette[np.minimum(labels, len(self.classes))]

    def count(self, labels: NDArray) -> dict[str, int]:
        """Return how many of ``labels`` each class has, ``unlabeled`` last, empty classes left out."""
        counts = np.bincount(np.minimum(labels, len(self.classes)), minlength=len(self) + 1)
        names = (*self.classes, "unlabeled")
        return {name: int(n) for name, n in zip(names, counts, strict=True) if n}

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that a model file's header holds."""
        return {"name": self.name, "classes": list(self.classes), "colors": [list(c) for c in self.colors]}

    @classmethod
    def from_json(cls, data: Any) -> LabelSet:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: a key is missing or a value has the wrong form.
        """
        try:
            colors = tuple((int(r), int(g), int(b)) for r, g, b in data["colors"])
            classes = tuple(str(c) for c in data["classes"])
            return cls(str(data["name"]), classes, colors)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the label set cannot be read: {error!r}") from error


@cache
def _read(name: str) -> dict[str, Any]:
    folder = resources.files("pc_perception") / "label_sets"
    file = folder / f"{name}.yaml"
    if not file.is_file():
        known = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
        raise ValueError(f"no label set '{name}'; there are {', '.join(known)}")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def load_label_set(name: str) -> LabelSet:
    """Return the preset ``name`` (``street8``, ``room9``, ``nuscenes16``, ...).

    Raises:
        ValueError: there is no such preset.
    """
    classes = _read(name)["classes"]
    return LabelSet(name, tuple(c["name"] for c in classes), tuple(tuple(c["color"]) for c in classes))


def label_map(source: str, target: str) -> NDArray[np.uint16]:
    """Return the table from raw ids of ``source`` to labels of the preset ``target``.

    Args:
        source: id space of a data set's files: ``nuscenes32``, ``semantickitti``, ``pandaset43``,
            ``nyu40``, ``s3dis13``, ``simulation`` ...
        target: a preset whose YAML file has a map from ``source``.

    Returns:
        (65536,) uint16: ``table[raw & 0xFFFF]`` is the label, ``UNLABELED`` for every other id.

    Raises:
        ValueError: ``target`` has no map from ``source``.
    """
    data = _read(target)
    maps = data.get("from", {})
    if source not in maps:
        raise ValueError(f"label set '{target}' has no map from '{source}'; it has {sorted(maps)}")
    names = [c["name"] for c in data["classes"]]
    table = np.full(65536, UNLABELED, dtype=np.uint16)
    for class_name, ids in maps[source].items():
        table[ids] = names.index(class_name)
    return table
