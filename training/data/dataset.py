# SPDX-License-Identifier: Apache-2.0
"""What training and evaluation ask of a data set, and the parts that all of them share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.labels import UNLABELED, LabelSet, label_map, load_label_set, whole_ids

Target = LabelSet | str | None
"""Which labels a data set gives: a set, the name or file of one, or None for none."""

_log = logging.getLogger(__name__)


class CloudDataset(Protocol):
    """Clouds by number.

    A cloud's field ``label``, where it has one, is uint16 and already mapped to the target label set:
    0 .. C-1, ``UNLABELED`` elsewhere. Without a target label set the field is left out.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> PointCloud:
        """Return cloud ``index``.

        Raises:
            ValueError, OSError: it cannot be read; the message names the file.
        """
        ...

    def name(self, index: int) -> str:
        """Say where cloud ``index`` comes from (a file, a seed)."""
        ...


def with_labels(
    cloud: PointCloud,
    raw: NDArray | None,
    table: NDArray[np.uint16] | None,
    known: NDArray[np.bool_] | None = None,
    name: str = "",
) -> PointCloud:
    """Return the cloud with its raw labels mapped to the target set.

    Args:
        raw: (N,) integer ids of the data set, or None where there are none.
        table: (65536,) uint16 of ``labels.label_map``, or None for a cloud without labels.
        known: (65536,) bool of ``labels.known_ids``: points with any other id are told of, once a cloud,
            and count as unlabelled. None tells of nothing.
        name: of the cloud, for messages.

    Raises:
        ValueError: the number of labels is not that of the points.
    """
    fields = {k: v for k, v in cloud.fields.items() if k != "label"}
    if raw is not None and table is not None:
        if len(raw) != len(cloud):
            raise ValueError(f"{name or 'a cloud'}: there are {len(raw)} labels for {len(cloud)} points")
        raw = whole_ids(raw)
        index = raw & 0xFFFF
        fields["label"] = table[index]
        if known is not None and not known[index].all():
            strange, counts = np.unique(raw[~known[index]], return_counts=True)
            ids = ", ".join(map(str, strange.tolist()[:20]))
            warn_once(f"{name}: unknown label ids {ids}; their {counts.sum()} points count as unlabelled")
    return PointCloud(cloud.xyz, fields, cloud.frame, cloud.stamp_ns, cloud.grid_shape)


@cache
def warn_once(text: str) -> None:
    """Log a warning the first time that this process has it."""
    _log.warning("%s", text)


def warn_of_few_labels(n_labelled: int, n_all: int, what: str) -> None:
    """Warn, once, where fewer than a tenth of ``what`` have a label: their ids are likely another set's."""
    if n_labelled < n_all / 10:
        warn_once(
            f"only {n_labelled:,} of {n_all:,} {what} have a label of the label set; check label_source"
        )


def as_label_set(target: LabelSet | str) -> LabelSet:
    """Return a label set that may be given by its name or file.

    Raises:
        ValueError: there is no such preset or file.
    """
    return target if isinstance(target, LabelSet) else load_label_set(target)


def label_table(source: str, target: Target) -> NDArray[np.uint16] | None:
    """Return the (65536,) table from raw ids of ``source`` to the label set ``target``.

    An empty ``source`` means that labels are already the target's; no ``target`` means no labels: None.

    Raises:
        ValueError: there is no such preset or map.
    """
    if target is None:
        return None
    if source:
        return label_map(source, target)
    table = np.full(65536, UNLABELED, dtype=np.uint16)
    n_classes = len(as_label_set(target))
    table[:n_classes] = np.arange(n_classes)
    return table


def refuse_missing(root: Path, missing: Sequence[Path | str]) -> None:
    """Say all that a data set's folder lacks at once, or nothing where it lacks nothing.

    Raises:
        FileNotFoundError: one line for each of ``missing``, relative to ``root``.
    """
    if missing:
        inside = (p.relative_to(root) if isinstance(p, Path) and root in p.parents else p for p in missing)
        lines = "\n  ".join(map(str, inside))
        raise FileNotFoundError(f"'{root}' lacks {len(missing)} file(s):\n  {lines}")


class Joined:
    """Several data sets behind each other, as one."""

    def __init__(self, parts: Sequence[CloudDataset]) -> None:
        if not parts:
            raise ValueError("no data set was given; name at least one, such as sim:street")
        self.parts = list(parts)
        self.starts = np.cumsum([0, *(len(p) for p in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def find(self, index: int) -> tuple[CloudDataset, int]:
        """Return the data set that cloud ``index`` is of, and its number there."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.parts[part], index - int(self.starts[part])

    def __getitem__(self, index: int) -> PointCloud:
        part, inner = self.find(index)
        return part[inner]

    def name(self, index: int) -> str:
        """Name cloud ``index``."""
        part, inner = self.find(index)
        return part.name(inner)


class Subset:
    """The clouds of another data set with the given numbers."""

    def __init__(self, whole: CloudDataset, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> PointCloud:
        return self.whole[self.indices[index]]

    def name(self, index: int) -> str:
        """Name cloud ``index``."""
        return self.whole.name(self.indices[index])


class Picker:
    """Which cloud is the k-th of an endless training stream: a pure function of seed and k.

    Without shares, every pass over the data set is a new permutation. With shares, the data set of a
    sample is drawn first, so that a small real set can weigh as much as a large simulated one.
    """

    def __init__(self, parts: Sequence[CloudDataset], shares: Sequence[float], seed: int) -> None:
        self.joined, self.seed = Joined(parts), seed
        if shares and (len(shares) != len(parts) or min(shares) < 0 or sum(shares) <= 0):
            raise ValueError(
                f"data_shares {tuple(shares)} must hold one number >= 0 for each of {len(parts)} data sets;"
                " data_shares= (nothing) draws every cloud equally often"
            )
        empty = [i for i, part in enumerate(parts) if len(part) == 0]
        if empty:
            raise ValueError(f"data set number {empty[0] + 1} of {len(parts)} holds no cloud")
        self.shares = np.asarray(shares, dtype=np.float64) / sum(shares) if shares else None
        self._pass: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    def pick(self, k: int) -> int:
        """Return the number, in the joined data set, of the stream's k-th cloud."""
        start, n = 0, len(self.joined)
        part = 0
        if self.shares is not None:
            part = int(np.random.default_rng([self.seed, 1, k]).choice(len(self.shares), p=self.shares))
            start, n = int(self.joined.starts[part]), len(self.joined.parts[part])
        key = (part, k // n)
        if self._pass is None or self._pass[0] != key:
            self._pass = (key, np.random.default_rng([self.seed, 2, *key]).permutation(n))
        return start + int(self._pass[1][k % n])
