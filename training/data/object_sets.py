# SPDX-License-Identifier: Apache-2.0
"""Data sets of objects made of others: joined, in part, or with other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pc_perception.labels import LabelSet, other_names

from .objects import LabeledObject, ObjectDataset, labels_of


class JoinedObjects:
    """Several data sets as one; classes of the same name are one class."""

    def __init__(self, parts: Sequence[ObjectDataset]) -> None:
        if not parts:
            raise ValueError("no data set of objects was given")
        self.parts = with_same_classes(parts)
        self.classes = self.parts[0].classes
        self.starts = np.cumsum([0, *(len(p) for p in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return part, index - int(self.starts[part])

    def __getitem__(self, index: int) -> LabeledObject:
        part, inner = self._find(index)
        return self.parts[part][inner]

    def name(self, index: int) -> str:
        """Name object ``index``."""
        part, inner = self._find(index)
        return self.parts[part].name(inner)

    def label(self, index: int) -> int:
        """Return the class of object ``index`` among the joined classes."""
        part, inner = self._find(index)
        return self.parts[part].label(inner)

    def instance(self, index: int) -> str:
        """Name the thing; two data sets have none in common, unless they are splits of one."""
        part, inner = self._find(index)
        return self.parts[part].instance(inner)


class ObjectSubset:
    """The objects of another data set with the given numbers."""

    def __init__(self, whole: ObjectDataset, indices: Sequence[int] | NDArray) -> None:
        self.whole, self.indices, self.classes = whole, [int(i) for i in indices], whole.classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> LabeledObject:
        return self.whole[self.indices[index]]

    def name(self, index: int) -> str:
        """Name object ``index``."""
        return self.whole.name(self.indices[index])

    def label(self, index: int) -> int:
        """Return the class of object ``index``."""
        return self.whole.label(self.indices[index])

    def instance(self, index: int) -> str:
        """Name the thing that object ``index`` is a view of."""
        return self.whole.instance(self.indices[index])


class Relabeled:
    """Another data set with other classes: its classes keep their names, and have none where not named.

    Args:
        classes: the new ones.
        rename: names of old classes that are called otherwise among the new, such as
            ``{"background_building": "building"}``.

    Raises:
        ValueError: a name in ``rename`` is none of the old or new classes.
    """

    def __init__(
        self, whole: ObjectDataset, classes: Sequence[str], rename: Mapping[str, str] | None = None
    ) -> None:
        self.whole, self.classes = whole, tuple(classes)
        rename = rename or {}
        wrong = (set(rename) - set(whole.classes)) | (set(rename.values()) - set(classes))
        if wrong:
            raise ValueError(
                f"'{min(wrong)}' is to be renamed, but is no class of the data or none of the new ones"
            )
        names = [rename.get(c, c) for c in whole.classes]
        self._map = [self.classes.index(c) if c in self.classes else -1 for c in names]

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> LabeledObject:
        return replace(self.whole[index], category=self.label(index))

    def name(self, index: int) -> str:
        """Name object ``index``."""
        return self.whole.name(index)

    def label(self, index: int) -> int:
        """Return the class of object ``index`` among the new classes."""
        label = self.whole.label(index)
        return self._map[label] if label >= 0 else -1

    def instance(self, index: int) -> str:
        """Name the thing that object ``index`` is a view of."""
        return self.whole.instance(index)


def in_label_set(whole: ObjectDataset, label_set: LabelSet) -> ObjectSubset:
    """Keep the objects whose class is one of a label set's, by its name or one of ``labels.other_names``.

    Raises:
        ValueError: there is none.
    """
    other = {old: new for old, new in other_names(label_set).items() if old in whole.classes}
    renamed = Relabeled(whole, label_set.classes, other)
    kept = np.flatnonzero(labels_of(renamed) >= 0)
    if not len(kept):
        raise ValueError(
            f"no object is of a class of label set '{label_set.name}'; the data has {', '.join(whole.classes)}"
        )
    return ObjectSubset(renamed, kept)


def with_same_classes(parts: Sequence[ObjectDataset]) -> list[Relabeled]:
    """Return data sets whose classes are those of all of them; classes of the same name are one."""
    classes = dict.fromkeys(name for part in parts for name in part.classes)
    return [Relabeled(part, tuple(classes)) for part in parts]
