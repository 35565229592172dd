# SPDX-License-Identifier: Apache-2.0
"""What training and evaluation ask of a data set of objects, and the parts that all of them share.

Every object stands with z up, as ``PointCloud`` has it. Published sets that have y up are turned on reading
(``z_up``); weights that were trained on their own axes want ``y_up`` before them. Fields (``normal``, ``rgb``,
``intensity``) are there where the data has them and are never made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud

HASHED = 64
"""Objects, spread evenly, whose points go into ``data_hash``."""
Z_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
"""Turns coordinates with y up to z up."""


@dataclass(frozen=True)
class LabeledObject(PointCloud):
    """The points of one object.

    Attributes:
        category: its class, an index into the data set's ``classes``; -1 where it has none. The field
            ``label``, where there is one, holds parts: uint16, one a point.
    """

    category: int = -1


class ObjectDataset(Protocol):
    """Objects by number; also a ``CloudDataset``."""

    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LabeledObject:
        """Return object ``index``.

        Raises:
            ValueError, OSError: it cannot be read; the message names the file.
        """
        ...

    def name(self, index: int) -> str:
        """Say where object ``index`` comes from."""
        ...

    def label(self, index: int) -> int:
        """Return the class of object ``index`` without reading its points."""
        ...

    def instance(self, index: int) -> str:
        """Name the physical thing: views of one thing share it and must not be split."""
        ...


def z_up(cloud: PointCloud) -> PointCloud:
    """Turn a cloud with y up to z up: (x, y, z) becomes (x, -z, y), normals too."""
    return _turned(cloud, Z_UP)


def y_up(cloud: PointCloud) -> PointCloud:
    """Undo ``z_up``: the axes of ShapeNet, ModelNet and ScanObjectNN as published."""
    return _turned(cloud, Z_UP.T)


def _turned(cloud: PointCloud, R: NDArray[np.float32]) -> PointCloud:
    fields = {k: v @ R.T if k == "normal" else v for k, v in cloud.fields.items()}
    return replace(cloud, xyz=cloud.xyz @ R.T, fields=fields)


class StoredObjects:
    """Objects in memory, behind each other in one cloud.

    Args:
        cloud: the points of all objects.
        offsets: (M + 1,) where each object starts and ends.
        labels: (M,) classes, 0 .. C-1, or -1 for none.
        classes: C names.
        names: of the M objects.
        instances: of the M objects; the names where None.
        source: of the whole, for messages.

    Raises:
        ValueError: the numbers do not fit each other, or a label is no class.
    """

    def __init__(
        self,
        cloud: PointCloud,
        offsets: NDArray,
        labels: NDArray,
        classes: Sequence[str],
        names: Sequence[str],
        instances: Sequence[str] | None = None,
        source: str = "the data",
    ) -> None:
        self.cloud, self.offsets = cloud, np.asarray(offsets, np.int64)
        self.labels, self.classes = np.asarray(labels, np.int64), tuple(classes)
        self.names = list(names)
        self.instances = self.names if instances is None else list(instances)
        cut = len(self.offsets) and self.offsets[0] == 0 and self.offsets[-1] == len(cloud)
        if not cut or (np.diff(self.offsets) < 0).any():
            raise ValueError(f"{source}: the offsets do not cut its {len(cloud)} points into objects")
        n = len(self.offsets) - 1
        if not n == len(self.labels) == len(self.names) == len(self.instances):
            raise ValueError(
                f"{source} has {n} objects, {len(self.labels)} labels, {len(self.names)} names and "
                f"{len(self.instances)} instances; it needs one of each for every object"
            )
        check_labels(self.labels, self.classes, source)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> LabeledObject:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        fields = {name: values[rows] for name, values in self.cloud.fields.items()}
        return LabeledObject(self.cloud.xyz[rows], fields, self.cloud.frame, category=int(self.labels[index]))

    def name(self, index: int) -> str:
        """Name object ``index``."""
        return self.names[index]

    def label(self, index: int) -> int:
        """Return the class of object ``index``."""
        return int(self.labels[index])

    def instance(self, index: int) -> str:
        """Name the thing that object ``index`` is a view of."""
        return self.instances[index]


def check_labels(labels: NDArray, classes: Sequence[str], source: str) -> None:
    """Refuse labels that are no index into ``classes`` (-1, for none, is allowed).

    Raises:
        ValueError: one is not.
    """
    outside = np.flatnonzero((labels < -1) | (labels >= len(classes)))
    if len(outside):
        raise ValueError(
            f"{source}: object {outside[0]} has label {labels[outside[0]]}, but there are {len(classes)} "
            "classes; check that labels and class names belong to the same version of the data"
        )


def labels_of(data: ObjectDataset) -> NDArray[np.int64]:
    """(M,) classes of all objects."""
    return np.array([data.label(i) for i in range(len(data))], np.int64)


def class_counts(data: ObjectDataset) -> dict[str, int]:
    """Return how many objects each class has, in the order of the classes."""
    labels = labels_of(data)
    return {name: int((labels == k).sum()) for k, name in enumerate(data.classes)}


def data_hash(data: ObjectDataset) -> str:
    """Return 16 hex digits that change with the classes, names, labels and the points of some objects."""
    digest = hashlib.sha256("\n".join(data.classes).encode())
    for i in range(len(data)):
        digest.update(f"{data.name(i)}\0{data.label(i)}\0{data.instance(i)}\n".encode())
    for i in sorted({k * len(data) // HASHED for k in range(HASHED)} if len(data) else ()):
        digest.update(np.ascontiguousarray(data[i].xyz).tobytes())
    return digest.hexdigest()[:16]


def check_share(bad: Sequence[str], n: int, share: float = 0.01) -> None:
    """Raise ValueError where more than 1 % of ``n`` samples were bad (two may be, however few there are)."""
    if len(bad) > max(2, share * n) or (bad and len(bad) == n):
        raise ValueError(
            f"{len(bad)} of {n} samples cannot be used, more than {share:.0%}; the last: {bad[-1]}"
        )
