# SPDX-License-Identifier: Apache-2.0
"""What the models say about real labelled clouds: ``python -m benchmarks.real_clouds > table.md``.

Looks in ``PC_PERCEPTION_DATA`` for PandaSet keyframes in nuScenes format, one SemanticKITTI scan, ScanNet
rooms and an S3DIS room. A data set that a model's provenance names as training data is left out: no
figure here is measured on what was trained on.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.model_file import read_model_file
from pc_perception.io.files import read_cloud
from pc_perception.labels import UNLABELED, label_map, load_label_set
from training.data.nuscenes import NuScenesClouds
from training.data.semantickitti import SemanticKittiClouds
from training.evaluate.report import report
from training.evaluate.segmentation import evaluate


class Clouds(list[PointCloud]):
    """Labelled clouds in memory, as a data set."""

    def name(self, index: int) -> str:
        """Name cloud ``index``."""
        return f"cloud {index}"


def street_sets(data: Path) -> Iterator[tuple[str, str, Clouds]]:
    """Yield (title, word that a provenance would name it by, clouds) of the outdoor sets that are there."""
    for tables in sorted(data.glob("nuscenes/*/v1.0-mini")):
        drive = NuScenesClouds(tables.parent, "street8")
        yield f"PandaSet drive 002, {len(drive)} keyframes, 64 beams", "pandaset", Clouds(drive)
    for scans in sorted(data.glob("semantickitti/*")):
        if scans.is_dir():
            yield (
                "SemanticKITTI, one scan of sequence 00, 64 beams",
                "kitti",
                Clouds(SemanticKittiClouds(scans, "street8")),
            )


def room_sets(data: Path) -> Iterator[tuple[str, str, Clouds]]:
    """Yield the indoor sets that are there, as ``street_sets``."""
    rooms = Clouds()
    for file in sorted(data.glob("scannet/*/*_vert_all.npy")):
        raw = np.load(file.with_name(file.name.replace("_vert_", "_sem_label_")))
        rooms.append(read_cloud(file).with_fields(label=label_map("nyu40", "room9")[raw.astype(np.int64)]))
    if rooms:
        yield f"ScanNet scene0000, {len(rooms)} scans of one room", "scannet", rooms
    halls = Clouds()
    for folder in sorted(data.glob("s3dis/*/*")):
        cloud = read_cloud(folder)
        halls.append(
            cloud.with_fields(label=label_map("s3dis13", "room9")[cloud.fields["label"].astype(np.int64)])
        )
    if halls:
        yield "S3DIS Area 3 hallway_3", "s3dis", halls
    views = Clouds(_table_top(read_cloud(file)) for file in sorted(data.glob("rgbd/mOSD*/*/*.pcd")))
    if views:
        yield f"mOSD, {len(views)} Kinect views of table tops", "mosd", views


def _table_top(view: PointCloud) -> PointCloud:
    """Give a view of mOSD our labels: its 1 is the table, what it numbers by tens are the things on it, 0 unknown."""
    table, clutter = (load_label_set("room9").classes.index(name) for name in ("table", "clutter"))
    number = view.fields["label"]
    label = np.where(number == 1, table, np.where(number >= 10, clutter, UNLABELED))
    return view.with_fields(label=label.astype(np.uint16))


def table(model: str, sets: Iterator[tuple[str, str, Clouds]]) -> Iterator[str]:
    """Yield the lines of one model's table."""
    segmenter = load_segmenter(model, "cpu")
    story = read_model_file(model)[0].provenance
    trained_on = json.dumps({key: story[key] for key in story if key != "metrics"}).lower()
    classes = segmenter.label_set.classes
    yield f"\n### Model `{Path(model).stem}`\n"
    yield "| data | points | mIoU | mIoU, classes >= 0.5 % | accuracy | " + " | ".join(classes) + " |"
    yield "|---" * (5 + len(classes)) + "|"
    for title, word, clouds in sets:
        if word in trained_on:
            yield f"| {title} | part of this model's training data: not measured |" + " |" * (
                3 + len(classes)
            )
            continue
        figures = report(evaluate(segmenter, clouds), classes)
        each = " | ".join("-" if v is None else f"{v:.2f}" for v in figures["iou"].values())
        yield (
            f"| {title} | {figures['points']:,} | **{figures['miou']:.3f}** | {figures['miou_common']:.3f} | "
            f"{figures['accuracy']:.3f} | {each} |"
        )


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--street", action="append", help="model file (default: the shipped one)")
    parser.add_argument("--room", action="append")
    arguments = parser.parse_args()
    data = os.environ.get("PC_PERCEPTION_DATA")
    if not data:
        raise SystemExit("real_clouds: PC_PERCEPTION_DATA names no folder of real clouds; set it first")
    print(f"Measured on {describe_machine()}.")
    for model in arguments.street or ["street"]:
        print("\n".join(table(model, street_sets(Path(data)))))
    for model in arguments.room or ["room"]:
        print("\n".join(table(model, room_sets(Path(data)))))


if __name__ == "__main__":
    main()
