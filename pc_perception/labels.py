# SPDX-License-Identifier: Apache-2.0
"""Class names, colours and the maps between data sets' ids and ours.

Inside the package a label is an index 0 .. C-1 into a ``LabelSet``, or ``UNLABELED``. Data sets' own
("raw") ids appear only where their files are read or written. The sets and maps are data:
``label_sets/*.yaml``, and files of the same form that a user writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

UNLABELED = 65535
"""Label of a point that no class was given to (UINT16 on the wire, as vision_msgs asks)."""

UNLABELED_COLOR = (90, 90, 90)

GROUNDS = (
    "road", "sidewalk", "terrain", "driveable_surface", "other_flat", "parking", "other_ground", "floor", "wall",
    "ceiling",
)  # fmt: skip
"""Classes of the label sets that are not made of single objects."""
MASSES = ("building", "vegetation", "manmade", "fence")
"""Classes whose objects only instance ids tell apart."""


def whole_ids(values: NDArray) -> NDArray[np.int32]:
    """Return ids, which files may hold as floats, as int32; NaN and Inf, a tool's sign for none, are ``UNLABELED``."""
    values = np.asarray(values)
    if values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, UNLABELED)
    return values.astype(np.int32)


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
    file = Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"
    if not file.is_file():
        known = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
        raise ValueError(
            f"no label set '{name}'; there are {', '.join(known)}, or give a .yaml file of the same form"
        )
    return _read_mapping(name, file.read_text(encoding="utf-8"))


def _read_mapping(name: str, text: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"'{name}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ValueError(f"'{name}' must be a YAML mapping, it is {type(data).__name__}")
    return data


def load_label_set(name: str) -> LabelSet:
    """Return the preset ``name`` (``street8``, ``room9``, ``scannet20`` ...) or the one of a ``.yaml`` file.

    A file has the form of ours in ``label_sets/``: ``classes``, a list of {name, color}, and perhaps
    ``from``, the maps of ``label_map``. The set is then called by the file's stem.

    Raises:
        ValueError: there is no such preset or file, or it has another form.
    """
    try:
        classes = _read(name)["classes"]
        names, colors = [str(c["name"]) for c in classes], [tuple(c["color"]) for c in classes]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"label set '{name}' needs 'classes', a list of {{name, color}}: {error!r}"
        ) from error
    return LabelSet(Path(name).stem, tuple(names), tuple(colors))


def other_names(target: LabelSet) -> dict[str, str]:
    """Return what other sets of objects call members of ``target``'s classes: their name -> its class.

    They are listed as ``also`` in the preset of the same name and classes; empty where there is none.
    """
    try:
        known = load_label_set(target.name).classes == target.classes
    except ValueError:
        return {}
    listed = _read(target.name)["classes"] if known else []
    return {str(other): str(c["name"]) for c in listed for other in c.get("also", ())}


def overlap(first: LabelSet, second: LabelSet) -> NDArray[np.bool_]:
    """Return which classes of two sets can be of one thing: both have an id of a data set that both map from.

    Returns:
        (A, B) bool for A and B classes; all True where the presets have no data set in common, or are none.
    """
    try:
        maps = [_read(s.name).get("from", {}) if load_label_set(s.name) == s else {} for s in (first, second)]
    except ValueError:
        maps = [{}, {}]
    common = set(maps[0]) & set(maps[1])
    if not common:
        return np.ones((len(first), len(second)), bool)
    out = np.zeros((len(first), len(second)), bool)
    for source in common:
        for i, j in np.ndindex(out.shape):
            ids = [
                set(m[source].get(s.classes[k], ()))
                for m, s, k in zip(maps, (first, second), (i, j), strict=True)
            ]
            out[i, j] |= bool(ids[0] & ids[1])
    return out


def label_map(source: str, target: str | LabelSet) -> NDArray[np.uint16]:
    """Return the table from raw ids of ``source`` to labels of ``target``.

    Args:
        source: id space of a data set's files: ``nuscenes32``, ``semantickitti``, ``pandaset43``,
            ``nyu40``, ``s3dis13``, ``simulation`` (also ``simulation_street``, ``simulation_room``) ..., or a
            ``.yaml`` file with a list of raw ids for each class of ``target`` and, under ``unlabeled``, those
            that belong to none.
        target: a preset (or file of one) that has a map from ``source``; with a ``.yaml`` source any set.

    Returns:
        (65536,) uint16: ``table[raw & 0xFFFF]`` is the label, ``UNLABELED`` for every other id.

    Raises:
        ValueError: ``target`` has no map from ``source``, or the file does not fit ``target``.
    """
    names = (target if isinstance(target, LabelSet) else load_label_set(target)).classes
    table = np.full(65536, UNLABELED, dtype=np.uint16)
    for class_name, ids in _ids_by_class(source, target).items():
        if class_name in names:
            table[ids] = names.index(class_name)
        elif class_name != "unlabeled":
            raise ValueError(f"'{source}' maps to '{class_name}', which is no class of {', '.join(names)}")
    return table


def _ids_by_class(source: str, target: str | LabelSet) -> dict[str, list[int]]:
    if source.endswith(".yaml"):
        maps = _read(source)
        for ids in maps.values():
            if not isinstance(ids, list) or not all(type(i) is int and -32768 <= i < 65536 for i in ids):
                raise ValueError(f"'{source}' must give each class a list of whole numbers, it has {ids!r}")
        return maps
    name = target.name if isinstance(target, LabelSet) else target
    maps = _read(name).get("from", {})
    if source in ("simulation_street", "simulation_room") and source not in maps:
        source = "simulation"  # of a set that is for one of the two alone
    if source not in maps:
        raise ValueError(
            f"label set '{name}' has no map from '{source}'; it has {sorted(maps)}, or give a .yaml file"
        )
    return maps[source]


_N_IDS = {"nyu40": 41, "s3dis13": 13}


def known_ids(source: str) -> NDArray[np.bool_] | None:
    """Return which raw ids an id space has, mapped to a class or not; None where we do not know.

    Known are ``nyu40`` (0, nothing, to 40), ``s3dis13``, and what a ``.yaml`` map names. 255 and -1, which
    data sets write where there is no label, count as known.

    Returns:
        (65536,) bool, by ``raw & 0xFFFF``.
    """
    if not source.endswith(".yaml") and source not in _N_IDS:
        return None
    known = np.zeros(65536, dtype=bool)
    known[[255, 65535]] = True
    if source in _N_IDS:
        known[: _N_IDS[source]] = True
    else:
        for ids in _ids_by_class(source, "").values():
            known[ids] = True
    return known
