# SPDX-License-Identifier: Apache-2.0
"""Objects cut out of labelled clouds: ``instances:drive.mcap`` turns one's own recordings into a data set.

Points of one class that chains of short steps connect (``ops.clusters``) are an object; where clouds have a
field ``instance`` whose ids are not 0, each id is one. They are written once as a file of objects
(``object_files``).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.inference.object_contract import object_points
from pc_perception.labels import GROUNDS, MASSES, LabelSet
from pc_perception.ops.clusters import euclidean_clusters

from .dataset import CloudDataset
from .object_files import write_objects
from .objects import check_share

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cutting:
    """How objects are told apart.

    Attributes:
        classes: to cut out; empty for all of the label set but ``GROUNDS`` and, without instance ids, ``MASSES``.
        distance_m: longest step inside one object.
        min_points: smaller ones are left out.
        max_extent_m: and so are larger ones: two parked rows that touch are no object.
        group: 1 where every cloud shows another place. For recordings, which show the same things again and
            again, consecutive clouds whose objects of one class count as one instance (where clouds have
            instance ids, these do): a split that parted them would test on what was learned.
        tracks: instance ids hold from the first cloud to the last; else within a group.
        most: objects of one class that are kept of one cloud, spread over those that were found; 0 keeps all.
    """

    classes: tuple[str, ...] = ()
    distance_m: float = 0.5
    min_points: int = 40
    max_extent_m: float = 25.0
    group: int = 1
    tracks: bool = True
    most: int = 0

    def validate(self, label_set: LabelSet) -> None:
        """Raise ValueError where a value makes no sense."""
        if (
            not self.distance_m > 0
            or self.min_points < 1
            or not self.max_extent_m > 0
            or self.group < 1
            or self.most < 0
        ):
            raise ValueError(
                f"distance_m {self.distance_m} and max_extent_m {self.max_extent_m} must be positive, "
                f"min_points {self.min_points} and group {self.group} at least 1, most {self.most} at least 0"
            )
        unknown = [c for c in self.classes if c not in label_set.classes]
        if unknown:
            raise ValueError(
                f"label set '{label_set.name}' has no class '{unknown[0]}'; it has {', '.join(label_set.classes)}"
            )


def cut(
    cloud: PointCloud, label_set: LabelSet, cutting: Cutting
) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Yield class, instance id (0 where there is none) and point numbers of each object of a labelled cloud.

    NaN and Inf belong to no object.

    Raises:
        ValueError: the cloud has no labels.
    """
    if "label" not in cloud.fields:
        raise ValueError("there is no field 'label' to cut objects by; give label_source or another folder")
    finite, label = cloud.finite(), np.asarray(cloud.fields["label"])
    ids = np.asarray(cloud.fields.get("instance", np.zeros(len(cloud), np.int64)))
    for number, name in enumerate(label_set.classes):
        if name not in cutting.classes if cutting.classes else name in GROUNDS:
            continue
        own = np.flatnonzero(finite & (label == number))
        if not cutting.classes and name in MASSES:
            own = own[ids[own] > 0]
        found = list(_things(cloud.xyz, own, ids[own], cutting))
        n = min(cutting.most or len(found), len(found))
        for k in range(n):
            yield number, *found[k * len(found) // n]


def _things(
    xyz: NDArray, own: NDArray[np.int64], ids: NDArray, cutting: Cutting
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield instance id and point numbers of the objects of one class that are of a size to be used."""
    for thing in np.unique(ids):
        rows = own[ids == thing]
        for found in [rows] if thing > 0 else _parts(xyz, rows, cutting):
            extent = np.ptp(xyz[found], axis=0).max(initial=0)
            if len(found) >= cutting.min_points and extent <= cutting.max_extent_m:
                yield int(thing), found


def _parts(xyz: NDArray, rows: NDArray, cutting: Cutting) -> list[NDArray[np.int64]]:
    """Split points into connected parts of at least ``min_points``."""
    cluster = euclidean_clusters(torch.from_numpy(xyz[rows]), cutting.distance_m, cutting.min_points).numpy()
    return [rows[cluster == k] for k in range(int(cluster.max(initial=-1)) + 1)]


def cut_to_file(file: Path, data: CloudDataset, label_set: LabelSet, cutting: Cutting) -> None:
    """Cut the objects of all clouds, move each to its own middle, z up, and write them.

    Clouds that cannot be read are named in a warning and skipped.

    Raises:
        ValueError: more than 1 % of the clouds cannot be used, or no object was found.
    """
    cutting.validate(label_set)
    found: list[tuple[PointCloud, int, str, str]] = []
    bad: list[str] = []
    for i in range(len(data)):
        try:
            found += _objects_of(data, i, label_set, cutting)
        except (ValueError, OSError) as error:
            bad.append(f"{data.name(i)}: {error}")
            _log.warning("skipped %s", bad[-1])
    check_share(bad, len(data))
    if not found:
        raise ValueError(
            f"none of the {len(data)} clouds has an object of at least {cutting.min_points} points; check "
            "label_source, or name classes"
        )
    clouds, labels, ids, things = (list(column) for column in zip(*found, strict=True))
    write_objects(file, clouds, labels, label_set.classes, ids, things)


def _objects_of(
    data: CloudDataset, i: int, label_set: LabelSet, cutting: Cutting
) -> list[tuple[PointCloud, int, str, str]]:
    """Return points, class, name and instance of each object of cloud ``i``."""
    cloud, found = data[i], []
    for k, (number, thing, rows) in enumerate(cut(cloud, label_set, cutting)):
        part = cloud.select(rows)
        xyz = object_points(part)
        xyz = xyz - (xyz.min(0) + xyz.max(0)) / 2
        instance = _instance(label_set.classes[number], thing, i, k, cutting)
        found.append((PointCloud(xyz, part.fields), number, f"{data.name(i)} object {k}", instance))
    return found


def _instance(name: str, thing: int, cloud: int, k: int, cutting: Cutting) -> str:
    """Name the instance: ids within a recording are taken for tracks, those of single clouds for their own."""
    if cutting.group == 1:
        return f"cloud {cloud} {name} {thing or f'part {k}'}"
    if thing and cutting.tracks:
        return f"{name} {thing}"
    return f"clouds {cloud // cutting.group * cutting.group} {name}" + (f" {thing}" if thing else "")


def key_of(where: str, data: CloudDataset, label_set: LabelSet, cutting: Cutting, own: bool) -> str:
    """Return a name for what is cut: it changes with the clouds' names, the classes and the cutting.

    Args:
        own: a recording or folder of the user's: the stamps of its files count too, since labels may change.
    """
    place = Path(where)
    files = (sorted(place.rglob("*")) if place.is_dir() else [place]) if own else []
    stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    names = [data.name(i) for i in range(len(data))]
    parts = [where, stats, names, label_set.to_json(), asdict(cutting)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
