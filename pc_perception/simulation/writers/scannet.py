# SPDX-License-Identifier: Apache-2.0
"""Rooms in ScanNet's layout: coloured and labelled PLY files, segments, aggregation, lists.

    scans/scene0000_00/scene0000_00_vh_clean_2.ply           x y z red green blue alpha
    scans/scene0000_00/scene0000_00_vh_clean_2.labels.ply    + label, NYU40 ids
    scans/scene0000_00/scene0000_00_vh_clean_2.0.010000.segs.json
    scans/scene0000_00/scene0000_00.aggregation.json
    scans/scene0000_00/scene0000_00.txt                      axis alignment, scene type
    scannetv2_train.txt  scannetv2_val.txt  scannetv2-labels.combined.tsv

The meshes have vertices only, no faces: a simulated scan is a cloud.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.labels import load_label_set
from pc_perception.simulation.room import RoomScene, make_room
from pc_perception.simulation.scan import scan_room

# Raw simulation_room id -> (NYU40 id, NYU40 name, ScanNet's name of the thing).
NYU40 = {
    1: (2, "floor", "floor"),
    2: (1, "wall", "wall"),
    3: (22, "ceiling", "ceiling"),
    4: (8, "door", "door"),
    5: (9, "window", "window"),
    6: (7, "table", "table"),
    7: (14, "desk", "desk"),
    8: (5, "chair", "chair"),
    9: (6, "sofa", "couch"),
    10: (4, "bed", "bed"),
    11: (10, "bookshelf", "bookshelf"),
    12: (3, "cabinet", "cabinet"),
    13: (40, "otherprop", "object"),
    14: (40, "otherprop", "plant"),
    15: (35, "lamp", "lamp"),
}


def nyu40_table() -> NDArray[np.uint16]:
    """(65536,) uint16 table from raw simulation_room ids to NYU40 ids, 0 for everything else."""
    table = np.zeros(65536, dtype=np.uint16)
    for raw, (nyu, _, _) in NYU40.items():
        table[raw] = nyu
    return table


def write_scannet(root: str | Path, seeds: Iterable[int], val_share: float = 0.2) -> list[str]:
    """Scan the rooms of ``seeds`` and write them; every fifth or so goes to the validation list.

    Args:
        root: folder of the data set, made if it is not there.
        seeds: of rooms and scans.
        val_share: share of scenes in ``scannetv2_val.txt``.

    Returns:
        The scenes' names.
    """
    root = Path(root)
    names = []
    for k, seed in enumerate(seeds):
        room = make_room(seed)
        name = f"scene{k:04d}_00"
        write_scannet_scene(root / "scans", name, scan_room(room, seed=seed), room)
        names.append(name)
    n_val = round(val_share * len(names))
    root.mkdir(parents=True, exist_ok=True)
    (root / "scannetv2_train.txt").write_text("".join(f"{n}\n" for n in names[: len(names) - n_val]))
    (root / "scannetv2_val.txt").write_text("".join(f"{n}\n" for n in names[len(names) - n_val :]))
    (root / "scannetv2-labels.combined.tsv").write_text(_label_table())
    return names


def write_scannet_scene(
    scans: str | Path, name: str, cloud: PointCloud, room: RoomScene | None = None
) -> Path:
    """Write one scanned room and return its folder.

    Args:
        scans: folder of all scenes.
        name: e.g. ``scene0000_00``.
        cloud: with ``rgb``, ``label`` (raw simulation_room ids) and ``instance``.
        room: for the scene type in the meta file.

    Raises:
        ValueError: the cloud lacks a field.
    """
    missing = sorted({"rgb", "label", "instance"} - set(cloud.fields))
    if missing:
        raise ValueError(f"a ScanNet scene needs the fields rgb, label and instance; missing: {missing}")
    folder = Path(scans) / name
    folder.mkdir(parents=True, exist_ok=True)
    raw, instance = cloud.fields["label"], cloud.fields["instance"]
    label = nyu40_table()[raw]
    _write_ply(folder / f"{name}_vh_clean_2.ply", cloud.xyz, cloud.fields["rgb"])
    colors = load_label_set("simulation_room").colorize(np.where(raw > 0, raw - 1, 65535))
    _write_ply(folder / f"{name}_vh_clean_2.labels.ply", cloud.xyz, colors, label)
    segments = {
        "params": {},
        "sceneId": name,
        "segIndices": instance.astype(int).tolist(),  # one segment for each instance
    }
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
    (folder / f"{name}.aggregation.json").write_text(json.dumps(_aggregation(name, raw, instance)))
    meta = "axisAlignment = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n"
    meta += f"sceneType = {room.kind if room else 'room'}\n"
    (folder / f"{name}.txt").write_text(meta)
    return folder


def _write_ply(path: Path, xyz: NDArray, rgb: NDArray, label: NDArray | None = None) -> None:
    """Write vertices in ScanNet's order and types, and an empty list of faces."""
    kinds = [(n, "<f4", "float") for n in ("x", "y", "z")]
    kinds += [(n, "u1", "uchar") for n in ("red", "green", "blue", "alpha")]
    if label is not None:
        kinds.append(("label", "<u2", "ushort"))
    records = np.zeros(len(xyz), dtype=[(n, t) for n, t, _ in kinds])
    for k, axis in enumerate("xyz"):
        records[axis] = xyz[:, k]
    for k, color in enumerate(("red", "green", "blue")):
        records[color] = rgb[:, k]
    records["alpha"] = 255
    if label is not None:
        records["label"] = label
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(xyz)}"]
    header += [f"property {kind} {name}" for name, _, kind in kinds]
    header += ["element face 0", "property list uchar int vertex_indices", "end_header\n"]
    path.write_bytes("\n".join(header).encode("ascii") + records.tobytes())


def _aggregation(name: str, raw: NDArray, instance: NDArray) -> dict:
    groups: list[dict] = []
    ids, first = np.unique(instance, return_index=True)
    for number, at in zip(ids.tolist(), first.tolist(), strict=True):
        if int(raw[at]) in NYU40:
            label = NYU40[int(raw[at])][2]
            k = len(groups)
            groups.append({"id": k, "objectId": k, "segments": [number], "label": label})
    return {
        "sceneId": f"scannet.{name}",
        "appId": "pc_perception.simulation",
        "segGroups": groups,
        "segmentsFile": f"scannet.{name}_vh_clean_2.0.010000.segs.json",
    }


def _label_table() -> str:
    rows = ["id\traw_category\tcategory\tnyu40id\tnyu40class"]
    rows += [f"{raw}\t{thing}\t{thing}\t{nyu}\t{name}" for raw, (nyu, name, thing) in NYU40.items()]
    return "\n".join(rows) + "\n"
