# SPDX-License-Identifier: Apache-2.0
"""One text says which data: ``sim:street``, ``bag:drive.mcap``, ``folder:DIR``, ``nuscenes:DIR`` ..."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .dataset import CloudDataset
from .plain_files import cache_root

KINDS = {
    "sim": "simulated clouds: sim:street, sim:drive or sim:room",
    "bag": "point clouds of a recording: bag:drive.mcap",
    "folder": "cloud files, labelled or not: folder:DIR",
    "nuscenes": "a nuScenes-format data set with lidarseg: nuscenes:DIR",
    "semantickitti": "sequences with velodyne/ and labels/: semantickitti:DIR",
}


@dataclass(frozen=True)
class DataOptions:
    """What the kinds of data need beyond their text.

    Attributes:
        label_set: target preset, or None for clouds without labels.
        root: the path, where the text names none (``data=nuscenes data_root=DIR``).
        version: nuScenes tables, ``v1.0-trainval``, ``v1.0-mini`` ...; empty takes the one that is there.
        label_source: id space of raw labels (``labels.label_map``); empty takes the data set's own; for
            folders and bags it must be given unless their labels are already those of ``label_set``.
        sequences: SemanticKITTI sequences; empty takes all that have labels.
        split: official nuScenes split, ``train``, ``val`` ...; empty takes all scenes.
        topic: of a bag; empty takes its only one.
        cameras: give pictures with the clouds, where the kind of data has them.
        n_scenes, per_scene, seed, cache_dir: see ``simulation.SimulatedClouds``.
    """

    label_set: str | None
    root: str = ""
    version: str = ""
    label_source: str = ""
    sequences: tuple[str, ...] = ()
    split: str = ""
    topic: str = ""
    cameras: bool = False
    n_scenes: int = 200
    per_scene: int = 4
    seed: int = 0
    cache_dir: str = ""


def open_data(specs: str, options: DataOptions) -> list[CloudDataset]:
    """Open the data sets that a comma-separated text names.

    Raises:
        FileNotFoundError, ValueError: one of them is not there or cannot be used.
    """
    parts = [open_one(text.strip(), options) for text in specs.split(",") if text.strip()]
    if not parts:
        raise ValueError(f"no data was named; say data=KIND:WHERE with a kind of {', '.join(KINDS)}")
    return parts


def open_one(spec: str, options: DataOptions) -> CloudDataset:
    """Open one data set; see ``open_data``."""
    kind, _, where = spec.partition(":")
    where = where or options.root
    if kind not in KINDS:
        raise ValueError(f"'{spec}' names no data; use one of: " + "; ".join(KINDS.values()))
    if not where:
        raise ValueError(f"'{spec}' does not say where the data is; write {kind}:WHERE or data_root=WHERE")
    if kind == "sim":
        from .simulation import SimulatedClouds

        return SimulatedClouds(
            where,
            options.label_set,
            options.n_scenes,
            options.per_scene,
            options.seed,
            options.cache_dir or None,
        )
    if not Path(where).exists():
        raise FileNotFoundError(f"'{spec}': there is no '{where}'")
    if kind == "bag":
        from .bag import BagClouds

        return BagClouds(where, options.label_set, options.label_source, options.topic, options.cache_dir)
    if kind == "folder":
        from .folder import FolderClouds

        return FolderClouds(where, options.label_set, options.label_source)
    if kind == "nuscenes":
        from .nuscenes import NuScenesClouds

        cache = Path(options.cache_dir) if options.cache_dir else cache_root()
        return NuScenesClouds(
            where,
            options.label_set,
            options.version,
            options.label_source,
            options.split,
            cache / "pictures" if options.cameras else None,
        )
    from .semantickitti import SemanticKittiClouds

    return SemanticKittiClouds(where, options.label_set, options.sequences)
