# SPDX-License-Identifier: Apache-2.0
"""One text says which data: ``sim:street``, ``bag:drive.mcap``, ``folder:DIR``, ``objects:DIR`` ..."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .dataset import CloudDataset, Target, as_label_set
from .plain_files import cache_root

KINDS = {
    "sim": "simulated clouds: sim:street, sim:drive or sim:room; single objects: sim:objects, with parts: sim:parts; "
    "of 300: sim:room:300",
    "bag": "point clouds of a recording: bag:drive.mcap",
    "folder": "cloud files, labelled or not: folder:DIR",
    "nuscenes": "a nuScenes-format data set with lidarseg: nuscenes:DIR",
    "semantickitti": "sequences with velodyne/ and labels/: semantickitti:DIR",
    "scannet": "ScanNet v2 as published, whole scenes: scannet:DIR",
    "s3dis": "S3DIS as published or as arrays, whole rooms: s3dis:DIR",
    "s3dis-blocks": "columns of S3DIS rooms, 2,048 points each: s3dis-blocks:DIR",
    "objects": "files of objects: objects:DIR",
    "instances": "objects cut out of labelled clouds: instances:drive.mcap, instances:DIR, instances:KIND:WHERE",
    "modelnet40": "ModelNet40 as text, cache or h5: modelnet40:DIR",
    "scanobjectnn": "ScanObjectNN: scanobjectnn:DIR variant=hardest",
    "shapenet55": "ShapeNet-55: shapenet55:DIR",
    "shapenetpart": "ShapeNetPart: shapenetpart:DIR",
    "fold": "a few-shot fold: fold:5x10x0:WHERE, 5 way, 10 shot, the first; of published ones or of KIND:WHERE",
    "shapes": "closed procedural shapes with their occupancy: shapes:all or shapes:chair+table",
    "analytic": "spheres, boxes and tori with their occupancy: analytic:all",
    "meshes": "closed meshes with their occupancy: meshes:DIR",
    "occupancy": "occupancy as 3DILG publishes it: occupancy:DIR",
}
FIELDS = ("shapes", "analytic", "meshes", "occupancy")
"""Kinds whose clouds are whole shapes and come with occupancy."""
OBJECTS = ("objects", "instances", "modelnet40", "scanobjectnn", "shapenet55", "shapenetpart", "fold")
"""Kinds whose clouds are single objects, as are those of ``SIM_OBJECTS``."""
SIM_OBJECTS = ("objects", "parts")


def kinds() -> str:
    """Return what ``--help`` says of the kinds of data, one a line."""
    return "data, as KIND:WHERE:\n  " + "\n  ".join(KINDS.values())


@dataclass(frozen=True)
class DataOptions:
    """What the kinds of data need beyond their text.

    Attributes:
        label_set: target set, name of a preset, .yaml file of one, or None for clouds without labels.
        root: the path, where the text names none (``data=nuscenes data_root=DIR``).
        version: nuScenes tables, ``v1.0-trainval``, ``v1.0-mini`` ...; empty takes the one that is there.
        label_source: id space of raw labels or .yaml file of a map (``labels.label_map``); empty takes the
            data set's own; for folders and bags it must be given unless their labels are already those of
            ``label_set``.
        label_field: of a folder's clouds, which field holds raw labels; empty: ``label``, or label files.
        sequences: SemanticKITTI sequences; empty takes those of ``split``, or all that have labels.
        areas: S3DIS areas, such as 1,2,3,4,6; empty takes all that are there.
        split: official split, ``train``, ``val`` ..., or path of a list of ScanNet scenes; empty takes all scenes
            and, of sets of objects, what one trains on. Objects without an official split (``objects``,
            ``instances``, ``sim:objects``) have ``train``, ``validation`` and ``test`` by instance.
        split_seed: of the split by instance.
        per_class: training instances of each class in such a split; 0 for all.
        every: only every how many-th scene of nuScenes, or scan of SemanticKITTI, has labels: 100 for "1 %".
        topic: of a bag; empty takes its only one.
        cameras: give pictures with the clouds, where the kind of data has them.
        instances: give the ids of objects, where nuScenes-format data has panoptic labels.
        boxes: give the boxes of nuScenes-format data instead of labels of points.
        n_scenes, per_scene, seed, cache_dir: see ``simulation.SimulatedClouds``; for ``sim:objects`` shapes and
            views of each; for ``sim:parts`` and ``shapes`` how many. ``sim:room:300`` has its own number of scenes.
        variant: of ScanObjectNN: ``bg``, ``only`` or ``hardest``.
        y_up: names of object files, or of folders of meshes or occupancy, in which y is up (``modelnet40_*`` works).
    """

    label_set: Target
    root: str = ""
    version: str = ""
    label_source: str = ""
    label_field: str = ""
    sequences: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()
    split: str = ""
    split_seed: int = 0
    per_class: int = 0
    every: int = 1
    topic: str = ""
    cameras: bool = False
    instances: bool = False
    boxes: bool = False
    n_scenes: int = 200
    per_scene: int = 4
    seed: int = 0
    cache_dir: str = ""
    variant: str = ""
    y_up: tuple[str, ...] = ()


def open_data(specs: str, options: DataOptions) -> list[CloudDataset]:
    """Open the data sets that a comma-separated text names; several of objects get the same classes.

    With a label set, these are its, and objects of no class of it are left out; of a set with labelled parts
    (``part_ids``), the label set is that of the parts.

    Raises:
        FileNotFoundError, ValueError: one of them is not there or cannot be used.
    """
    parts = [open_one(text.strip(), options) for text in specs.split(",") if text.strip()]
    if not parts:
        raise ValueError(f"no data was named; say data=KIND:WHERE with a kind of {', '.join(KINDS)}")
    if not all(hasattr(part, "instance") for part in parts):
        return parts
    from .object_sets import in_label_set, with_same_classes

    objects: list[Any] = list(parts)
    if options.label_set is None:
        return with_same_classes(objects) if len(parts) > 1 else parts  # type: ignore[return-value]
    wanted = as_label_set(options.label_set)
    named = [bool(part.classes) and not hasattr(part, "part_ids") for part in objects]
    return [in_label_set(p, wanted) if n else p for p, n in zip(objects, named, strict=True)]


def open_one(spec: str, options: DataOptions) -> CloudDataset:
    """Open one data set; see ``open_data``."""
    kind, _, where = spec.partition(":")
    where = where or options.root
    if kind not in KINDS:
        raise ValueError(f"'{spec}' names no data; use one of: " + "; ".join(KINDS.values()))
    if kind == "sim" and ":" in where:
        where, _, number = where.partition(":")
        if not number.isdecimal():
            raise ValueError(f"'{spec}': '{number}' is no number of scenes")
        options = replace(options, n_scenes=int(number))
    if not where:
        raise ValueError(f"'{spec}' does not say where the data is; write {kind}:WHERE or data_root=WHERE")
    if kind in FIELDS:
        from .fields import open_fields

        split = options.split or "train"
        return open_fields(
            f"{kind}:{where}",
            split,
            options.n_scenes,
            options.seed,
            cache_dir=options.cache_dir,
            progress=True,
            y_up=any(fnmatch(Path(where).name, name) for name in options.y_up),
        )
    if kind in OBJECTS or (kind == "sim" and where in SIM_OBJECTS):
        from .object_specs import open_objects

        return open_objects(kind, where, options)
    if kind == "sim":
        from .simulation import SimulatedClouds

        size = (options.n_scenes, options.per_scene)
        return SimulatedClouds(where, options.label_set, *size, options.seed, options.cache_dir or None)
    if not Path(where).exists():
        raise FileNotFoundError(f"'{spec}': there is no '{where}'")
    return _open_scenes(kind, where, options)


def _open_scenes(kind: str, where: str, options: DataOptions) -> CloudDataset:
    pictures = None
    if options.cameras:
        pictures = (Path(options.cache_dir) if options.cache_dir else cache_root()) / "pictures"
    if kind == "bag":
        from .bag import BagClouds

        source, topic = options.label_source, options.topic
        return BagClouds(where, options.label_set, source, topic, options.cache_dir, pictures)
    if kind == "folder":
        from .folder import FolderClouds

        return FolderClouds(where, options.label_set, options.label_source, options.label_field)
    if kind == "nuscenes":
        from .nuscenes import NuScenesClouds

        return NuScenesClouds(
            where,
            options.label_set,
            options.version,
            options.label_source,
            options.split,
            pictures,
            options.every,
            options.instances,
            options.boxes,
        )
    if kind == "scannet":
        from .scannet import ScanNetClouds

        return ScanNetClouds(where, options.label_set, options.split, options.label_source)
    if kind in ("s3dis", "s3dis-blocks"):
        from .s3dis import S3DISClouds
        from .s3dis_blocks import S3DISBlocks

        rooms = S3DISClouds(where, options.label_set, options.areas, options.cache_dir, options.label_source)
        return rooms if kind == "s3dis" else S3DISBlocks(rooms, options.label_set, seed=options.seed)
    from .semantickitti import SemanticKittiClouds

    split, every = options.split, options.every
    return SemanticKittiClouds(where, options.label_set, options.sequences, split, every, pictures)
