# SPDX-License-Identifier: Apache-2.0
"""The kinds of data in ``specs`` whose clouds are single objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .cut_objects import Cutting, cut_to_file, key_of
from .dataset import as_label_set
from .few_shot_folds import Fold, draw_folds, read_fold
from .object_sets import JoinedObjects
from .object_splits import part_of
from .objects import ObjectDataset
from .specs import KINDS, OBJECTS, DataOptions, open_one

BAG_GROUP = 50
"""Consecutive clouds of a recording whose objects are taken for views of the same things."""
WITH_SPLIT = ("nuscenes", "scannet")
"""Kinds of labelled clouds with official splits, which the objects cut out of them keep."""
SIM_MOST = 5
"""Objects of a class that are cut out of one simulated cloud: streets hold hundreds of plants and cars."""


def open_objects(kind: str, where: str, options: DataOptions) -> ObjectDataset:
    """Open one data set of objects; see ``specs.open_one``.

    Raises:
        FileNotFoundError, ValueError: it is not there or cannot be used.
    """
    if kind == "fold":
        fold = open_fold(where, options)
        return fold.test if options.split == "test" else fold.train
    if (kind, where) == ("sim", "parts"):
        from .simulated_parts import open_simulated_parts

        if options.split:
            raise ValueError(
                f"sim:parts has no split '{options.split}'; unseen shapes have another data_seed"
            )
        return open_simulated_parts(options.n_scenes, options.seed, options.cache_dir)
    if kind in ("sim", "instances", "objects"):
        if not options.split or where.partition(":")[0] in WITH_SPLIT:
            return _open_without_split(kind, where, options)
        whole = _open_without_split(kind, where, replace(options, split=""))
        return part_of(whole, options.split, options.split_seed, options.per_class)
    if not Path(where).exists():
        raise FileNotFoundError(f"'{kind}:{where}': there is no '{where}'")
    if kind == "modelnet40":
        from .modelnet40 import open_modelnet40

        return open_modelnet40(where, options.split)
    if kind == "scanobjectnn":
        from .scanobjectnn import open_scanobjectnn

        return open_scanobjectnn(where, options.variant, options.split)
    if kind == "shapenet55":
        from .shapenet55 import ShapeNet55

        return ShapeNet55(where, options.split)
    from .shapenet_part import ShapeNetPart

    return ShapeNetPart(where, options.split)


def open_fold(where: str, options: DataOptions) -> Fold:
    """Open ``WAYxSHOTxNUMBER:WHERE``: a published fold in the folder WHERE, or one drawn from ``KIND:WHERE``.

    Raises:
        FileNotFoundError, ValueError: it is not there or cannot be drawn.
    """
    sizes, _, inner = where.partition(":")
    try:
        way, shot, number = (int(n) for n in sizes.split("x"))
    except ValueError:
        raise ValueError(
            f"'fold:{where}' names no fold; write fold:WAYxSHOTxNUMBER:WHERE, as in fold:5x10x0:modelnet40:DIR"
        ) from None
    if inner.partition(":")[0] not in KINDS:
        return read_fold(inner, way, shot, number)
    train, test = (open_all_objects(inner, replace(options, split=s, per_class=0)) for s in ("train", "test"))
    return draw_folds(train, test, way, shot, number + 1, options.split_seed)[number]


def _open_without_split(kind: str, where: str, options: DataOptions) -> ObjectDataset:
    if kind == "sim":
        from .simulated_objects import open_simulated_objects

        return open_simulated_objects(
            options.n_scenes, options.per_scene, options.seed, options.cache_dir, progress=True
        )
    if kind == "instances":
        return open_instances(where, options)
    if not Path(where).exists():
        raise FileNotFoundError(f"'{kind}:{where}': there is no '{where}'")
    from .object_files import open_object_files

    return open_object_files(where, options.y_up)


def open_instances(where: str, options: DataOptions, cutting: Cutting | None = None) -> ObjectDataset:
    """Cut objects out of a recording, a folder of clouds, or ``KIND:WHERE`` of any other labelled data.

    Args:
        cutting: how; where None, the defaults, with ``BAG_GROUP`` for recordings and drives.

    Raises:
        FileNotFoundError, ValueError: the clouds cannot be used, or hold no object.
    """
    from .object_files import read_objects
    from .plain_files import cache_root

    if options.label_set is None:
        raise ValueError(
            f"'instances:{where}' needs the classes of the points: label_set=street8, for example"
        )
    kind, _, inner = where.partition(":")
    if kind not in KINDS or not inner:
        is_bag = Path(where).suffix in (".mcap", ".db3", ".bag") or (Path(where) / "metadata.yaml").is_file()
        kind, inner = ("bag" if is_bag else "folder"), where
    if kind in (*OBJECTS, "s3dis-blocks") or inner.partition(":")[0] == "objects":
        raise ValueError(f"'instances:{where}': {kind} holds objects or blocks; name it without 'instances:'")
    data = open_one(f"{kind}:{inner}", options)
    label_set = as_label_set(options.label_set)
    cutting = cutting or _cutting(kind, options)
    root = Path(options.cache_dir) if options.cache_dir else cache_root()
    key = key_of(inner, data, label_set, cutting, own=kind in ("bag", "folder"))
    file = root / "objects" / f"{Path(inner).stem.replace(':', '-')}-{key}.npz"
    if not file.is_file():
        cut_to_file(file, data, label_set, cutting)
    return read_objects(file)


def _cutting(kind: str, options: DataOptions) -> Cutting:
    if kind == "sim":
        return Cutting(group=options.per_scene, tracks=False, most=SIM_MOST)
    return Cutting(group=1 if kind == "folder" else BAG_GROUP)


def open_all_objects(specs: str, options: DataOptions) -> JoinedObjects:
    """Open the data sets of objects that a comma-separated text names, as one; equal class names are one class.

    Raises:
        FileNotFoundError, ValueError: one cannot be used, or holds scenes.
    """
    parts: list[Any] = []
    for text in (t.strip() for t in specs.split(",") if t.strip()):
        parts.append(open_one(text, options))
        if not hasattr(parts[-1], "instance"):
            raise ValueError(f"'{text}' holds scenes, not single objects; try instances:{text}")
    return JoinedObjects(parts)
