# SPDX-License-Identifier: Apache-2.0
"""ScanNet v2 as it is published: the vertices of ``scans/ID/ID_vh_clean_2.ply``, labelled with NYU40 ids."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.io.files import read_cloud
from pc_perception.labels import known_ids

from .dataset import Target, label_table, refuse_missing, warn_once, with_labels

CATEGORIES = "scannetv2-labels.combined.tsv"


class ScanNetClouds:
    """Whole scenes: every vertex of a mesh is a point, with ``rgb`` (and ``normal`` where the file has it).

    Labels are those of ``ID_vh_clean_2.labels.ply``, else they are put together from
    ``ID_vh_clean_2.0.010000.segs.json``, ``ID.aggregation.json`` and the table of categories. Coordinates are
    the meshes' own: z up, not turned by the axis alignment of ``ID.txt``.

    Args:
        root: holds ``scans/`` (and ``scans_test/``), or is such a folder itself.
        label_set: target set, or None.
        split: ``train``, ``val``, ``test``: the official list ``scannetv2_SPLIT.txt`` in or beside the root
            (also in ``Tasks/Benchmark`` or any other folder in it); or a list's path; empty for all of ``scans``.
        label_source: a map from NYU40 ids of one's own; empty takes that of ``label_set``.

    Raises:
        FileNotFoundError: there is no list, or files of scenes are missing (the message names all of them).
        ValueError: there is no scene.
    """

    def __init__(self, root: str | Path, label_set: Target, split: str = "", label_source: str = "") -> None:
        self.root = Path(root)
        self.table, self.known = label_table(label_source or "nyu40", label_set), known_ids("nyu40")
        self.scenes = self._listed(split) if split else self._all()
        if not self.scenes:
            raise ValueError(f"'{root}' has no scenes; it needs scans/ID/ID_vh_clean_2.ply")
        labelled = self.table is not None
        aggregated = labelled and any(
            _aggregation(s).is_file() and not _labels(s).is_file() for s in self.scenes
        )
        table = self._find(CATEGORIES) if aggregated else None
        missing = [file for scene in self.scenes for file in _missing(scene, labelled)]
        refuse_missing(self.root, missing + ([self.root / CATEGORIES] if aggregated and not table else []))
        self.categories = read_categories(table) if table else {}

    def _all(self) -> list[Path]:
        scans = self.root / "scans"
        return sorted(p for p in (scans if scans.is_dir() else self.root).glob("scene*") if p.is_dir())

    def _listed(self, split: str) -> list[Path]:
        file = Path(split) if Path(split).is_file() else self._find(f"scannetv2_{split}.txt")
        if file is None:
            raise FileNotFoundError(
                f"split '{split}': there is no 'scannetv2_{split}.txt' in or beside '{self.root}', nor a file '{split}'"
            )
        folders = [self.root / "scans", self.root / "scans_test", self.root]
        names = file.read_text(encoding="utf-8").split()
        return [next((f / n for f in folders if (f / n).is_dir()), folders[0] / n) for n in names]

    def _find(self, name: str) -> Path | None:
        near = [self.root / name, self.root.parent / name, self.root / "Tasks" / "Benchmark" / name]
        near += sorted(self.root.glob(f"*/{name}"))
        return next((file for file in near if file.is_file()), None)

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        """Name scene ``index``."""
        return self.scenes[index].name

    def __getitem__(self, index: int) -> PointCloud:
        scene = self.scenes[index]
        mesh = read_cloud(_mesh(scene))
        kept = {name: mesh.fields[name] for name in ("rgb", "normal") if name in mesh.fields}
        raw = None if self.table is None else self._raw_labels(scene)
        return with_labels(PointCloud(mesh.xyz, kept), raw, self.table, self.known, scene.name)

    def _raw_labels(self, scene: Path) -> NDArray:
        if _labels(scene).is_file():
            fields = read_cloud(_labels(scene)).fields
            if "label" not in fields:
                raise ValueError(
                    f"'{_labels(scene)}' has no property 'label'; its fields are {sorted(fields)}"
                )
            return fields["label"]
        return labels_of_segments(_segments(scene), _aggregation(scene), self.categories)


def _mesh(scene: Path) -> Path:
    return scene / f"{scene.name}_vh_clean_2.ply"


def _labels(scene: Path) -> Path:
    return scene / f"{scene.name}_vh_clean_2.labels.ply"


def _segments(scene: Path) -> Path:
    return scene / f"{scene.name}_vh_clean_2.0.010000.segs.json"


def _aggregation(scene: Path) -> Path:
    return scene / f"{scene.name}.aggregation.json"


def _missing(scene: Path, labelled: bool) -> list[Path]:
    missing = [] if _mesh(scene).is_file() else [_mesh(scene)]
    if not labelled or _labels(scene).is_file():
        return missing
    absent = [p for p in (_segments(scene), _aggregation(scene)) if not p.is_file()]
    # Of a scene with neither of the two, what is missing is the one file that would do.
    return missing + (absent if len(absent) < 2 else [_labels(scene)])


def read_categories(table: Path) -> dict[str, int]:
    """Return the NYU40 id of every raw category of ``scannetv2-labels.combined.tsv``.

    Raises:
        ValueError: the table lacks the columns raw_category and nyu40id.
    """
    with table.open(encoding="utf-8", newline="") as stream:
        try:
            return {
                row["raw_category"]: int(row["nyu40id"]) for row in csv.DictReader(stream, delimiter="\t")
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{table}' needs the columns raw_category and nyu40id: {error!r}") from error


def labels_of_segments(segments: Path, aggregation: Path, nyu40: Mapping[str, int]) -> NDArray[np.int32]:
    """Return the (N,) NYU40 id of every vertex, 0 where no object owns its segment.

    Where two objects own a segment, the later one of the file wins. Categories that are not in the table
    are told of, and their vertices get 0.

    Args:
        segments: ``segIndices``, one segment number a vertex.
        aggregation: ``segGroups``, objects with the ``segments`` that they own and a raw category, ``label``.
        nyu40: id by raw category.

    Raises:
        ValueError: a file is damaged.
    """
    try:
        numbers = json.loads(segments.read_text(encoding="utf-8"))["segIndices"]
        groups = json.loads(aggregation.read_text(encoding="utf-8"))["segGroups"]
        objects = [(str(g["label"]), np.asarray(g["segments"], np.int64)) for g in groups]
        own, vertex = np.unique(np.asarray(numbers, np.int64), return_inverse=True)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{segments.name}' or '{aggregation.name}' cannot be read: {error!r}") from error
    label = np.zeros(len(own), np.int32)
    for category, owned in objects:
        label[np.isin(own, owned)] = nyu40.get(category, 0)
    if unknown := sorted({category for category, _ in objects} - set(nyu40)):
        warn_once(
            f"{segments.parent.name}: unknown categories {', '.join(unknown)}; they count as unlabelled"
        )
    return label[vertex]
