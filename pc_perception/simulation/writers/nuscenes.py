# SPDX-License-Identifier: Apache-2.0
"""Simulated drives as a nuScenes-format data set that nuscenes-devkit loads: v1.0 tables and files.

v1.0-mini/*.json                       the 13 tables, lidarseg and panoptic
samples/<channel>/, sweeps/<channel>/  .pcd.bin (x y z intensity ring) and .jpg
lidarseg/<version>/, panoptic/<version>/
maps/                                  one blank map
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_perception.geometry import pose, rotation_to_quaternion, rotation_z
from pc_perception.simulation.drive import DriveFrame, ObjectBox
from pc_perception.simulation.writers.nuscenes_tables import (
    ANNOTATED,
    CATEGORIES,
    NUSCENES32,
    Row,
    attribute_of,
    fixed_tables,
    nuscenes32_table,
    token,
)

# nuScenes' LiDAR looks along y with x to the right; ours along x with y to the left.
_T_LIDAR_NUSCENES = pose(R=rotation_z(-np.pi / 2))
_TABLES = (
    "category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log",
    "scene", "sample", "sample_data", "sample_annotation", "map", "lidarseg", "panoptic",
)  # fmt: skip


def write_nuscenes(
    root: str | Path,
    drives: Iterable[Iterable[DriveFrame]],
    version: str = "v1.0-mini",
    keyframe_every: int = 5,
    scene_names: Sequence[str] = (),
) -> Path:
    """Write drives as scenes of a nuScenes-format data set.

    Args:
        root: folder of the data set, made if it is not there.
        drives: one iterable of frames for each scene.
        version: name of the tables' folder.
        keyframe_every: every how many-th sweep is a labelled sample; the others are sweeps.
        scene_names: names of the scenes, e.g. of an official split; the default is ``scene-0001`` ...

    Returns:
        ``root``.

    Raises:
        FileExistsError: the data set is there already.
        ValueError: there is no frame.
    """
    writer = NuscenesWriter(root, version, keyframe_every)
    for k, frames in enumerate(drives):
        writer.add_scene(frames, scene_names[k] if k < len(scene_names) else f"scene-{k + 1:04d}")
    writer.close()
    return Path(root)


class NuscenesWriter:
    """Write one data set scene by scene; ``close`` writes the tables. See ``write_nuscenes``."""

    def __init__(self, root: str | Path, version: str = "v1.0-mini", keyframe_every: int = 5) -> None:
        self.root, self.version, self.keyframe_every = Path(root), version, keyframe_every
        if (self.root / version / "sample.json").exists():
            raise FileExistsError(f"'{root}' already holds a data set {version}; name another folder")
        if keyframe_every < 1:
            raise ValueError(f"keyframe_every must be at least 1, got {keyframe_every}")
        self.tables: dict[str, list[Row]] = {name: [] for name in _TABLES} | fixed_tables()
        for folder in ("lidarseg", "panoptic"):
            (self.root / folder / version).mkdir(parents=True, exist_ok=True)

    def add_scene(self, frames: Iterable[DriveFrame], name: str) -> None:
        """Add one drive as a scene."""
        scene, log = token("scene", name), token("log", name)
        samples: list[Row] = []
        last: dict[str, Row] = {}  # newest sample_data of each channel
        tracks: dict[tuple[int, int], list[Row]] = {}
        for k, frame in enumerate(frames):
            stamp_us = frame.stamp_ns // 1000
            is_key = k % self.keyframe_every == 0
            if is_key:
                row: Row = {"token": token(name, "sample", k), "timestamp": stamp_us, "scene_token": scene}
                samples.append(row)
                self._annotate(frame, row["token"], name, tracks)
            self._add_lidar(frame, samples[-1]["token"], name, is_key, last)
            for channel in frame.images:
                self._add_image(frame, channel, samples[-1]["token"], name, is_key, last)
        if not samples:
            raise ValueError(f"scene '{name}' has no frames; give at least one")
        _chain(samples)
        for track in tracks.values():
            _chain(track)
        self.tables["sample"] += samples
        self._finish_scene(name, scene, log, samples, tracks)

    def _finish_scene(self, name: str, scene: str, log: str, samples: list[Row], tracks: dict) -> None:
        self.tables["scene"].append(
            {
                "token": scene,
                "log_token": log,
                "nbr_samples": len(samples),
                "first_sample_token": samples[0]["token"],
                "last_sample_token": samples[-1]["token"],
                "name": name,
                "description": "simulated by pc_perception",
            }
        )
        self.tables["log"].append(
            {
                "token": log,
                "logfile": name,
                "vehicle": "simulated",
                "date_captured": "2026-01-01",
                "location": "simulation",
            }
        )
        for track in tracks.values():
            self.tables["sample_annotation"] += track
            category = track[0].pop("_category")
            for row in track[1:]:
                row.pop("_category")
            self.tables["instance"].append(
                {
                    "token": track[0]["instance_token"],
                    "category_token": token("category", category),
                    "nbr_annotations": len(track),
                    "first_annotation_token": track[0]["token"],
                    "last_annotation_token": track[-1]["token"],
                }
            )

    def close(self) -> None:
        """Write the tables and the map."""
        from PIL import Image

        maps = self.root / "maps"
        maps.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 0).save(maps / "simulation.png")
        logs = [row["token"] for row in self.tables["log"]]
        self.tables["map"] = [
            {
                "token": token("map"),
                "log_tokens": logs,
                "category": "semantic_prior",
                "filename": "maps/simulation.png",
            }
        ]
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))

    def _add_lidar(
        self, frame: DriveFrame, sample: str, scene: str, is_key: bool, last: dict[str, Row]
    ) -> None:
        T_base_lidar = frame.T_base_lidar @ _T_LIDAR_NUSCENES
        row = self._add_data(frame, "LIDAR_TOP", T_base_lidar, None, sample, scene, is_key, last)
        cloud, fields = frame.cloud, frame.cloud.fields
        points = np.zeros((len(cloud), 5), dtype=np.float32)
        points[:, 0], points[:, 1], points[:, 2] = -cloud.xyz[:, 1], cloud.xyz[:, 0], cloud.xyz[:, 2]
        points[:, 3], points[:, 4] = fields["intensity"], fields["ring"]
        points.tofile(self.root / row["filename"])
        if not is_key:
            return
        labels = nuscenes32_table()[fields["label"]]
        for task, suffix in (("lidarseg", "bin"), ("panoptic", "npz")):
            filename = f"{task}/{self.version}/{row['token']}_{task}.{suffix}"
            self.tables[task].append(
                {"token": row["token"], "sample_data_token": row["token"], "filename": filename}
            )
        labels.tofile(self.root / self.tables["lidarseg"][-1]["filename"])
        things = np.isin(fields["label"], ANNOTATED)
        ids = np.where(things, (fields["instance"].astype(np.int64) - 1) % 999 + 1, 0)
        panoptic = (labels.astype(np.uint16) * 1000 + ids).astype(np.uint16)
        np.savez_compressed(self.root / self.tables["panoptic"][-1]["filename"], data=panoptic)

    def _add_image(
        self, frame: DriveFrame, channel: str, sample: str, scene: str, is_key: bool, last: dict[str, Row]
    ) -> None:
        from PIL import Image

        image = frame.images[channel]
        row = self._add_data(
            frame, channel, frame.T_base_cameras[channel], image, sample, scene, is_key, last
        )
        Image.fromarray(image.rgb).save(self.root / row["filename"], quality=90)

    def _add_data(
        self,
        frame: DriveFrame,
        channel: str,
        T_base_sensor: NDArray,
        image: Any,
        sample: str,
        scene: str,
        is_key: bool,
        last: dict[str, Row],
    ) -> Row:
        """Add the sample_data row of one sensor's reading, and its pose and calibration rows."""
        stamp_us = frame.stamp_ns // 1000
        calibrated = self._calibration(channel, T_base_sensor, None if image is None else image.K, scene)
        key = token(scene, channel, stamp_us)
        self.tables["ego_pose"].append(
            {"token": key, "timestamp": stamp_us, **_placement(frame.T_world_base)}
        )
        suffix = "pcd.bin" if image is None else "jpg"
        folder = f"{'samples' if is_key else 'sweeps'}/{channel}"
        row: Row = {
            "token": key,
            "sample_token": sample,
            "ego_pose_token": key,
            "calibrated_sensor_token": calibrated,
            "timestamp": stamp_us,
            "fileformat": "pcd" if image is None else "jpg",
            "is_key_frame": is_key,
            "height": 0 if image is None else image.rgb.shape[0],
            "width": 0 if image is None else image.rgb.shape[1],
            "filename": f"{folder}/{scene}__{channel}__{stamp_us}.{suffix}",
            "prev": "",
            "next": "",
        }
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        if channel in last:
            row["prev"], last[channel]["next"] = last[channel]["token"], key
        last[channel] = row
        self.tables["sample_data"].append(row)
        return row

    def _calibration(self, channel: str, T_base_sensor: NDArray, K: NDArray | None, scene: str) -> str:
        sensor, key = token("sensor", channel), token("calibrated", scene, channel)
        if all(row["token"] != sensor for row in self.tables["sensor"]):
            modality = "lidar" if K is None else "camera"
            self.tables["sensor"].append({"token": sensor, "channel": channel, "modality": modality})
        if all(row["token"] != key for row in self.tables["calibrated_sensor"]):
            intrinsic = [] if K is None else np.asarray(K).tolist()
            row = {
                "token": key,
                "sensor_token": sensor,
                **_placement(T_base_sensor),
                "camera_intrinsic": intrinsic,
            }
            self.tables["calibrated_sensor"].append(row)
        return key

    def _annotate(
        self, frame: DriveFrame, sample: str, scene: str, tracks: dict[tuple[int, int], list[Row]]
    ) -> None:
        """Add the boxes of one sample to their tracks."""
        n_points = np.bincount(frame.cloud.fields["instance"], minlength=65536)
        for box in frame.boxes:
            if box.raw_class not in ANNOTATED:
                continue
            track = (frame.stretch, box.instance)
            tracks.setdefault(track, []).append(
                _annotation(box, sample, token(scene, "instance", *track), int(n_points[box.instance]))
            )


def _annotation(box: ObjectBox, sample: str, instance: str, n_points: int) -> Row:
    attribute = attribute_of(box.raw_class, float(np.linalg.norm(box.velocity)))
    length, width, height = (float(v) for v in box.size)
    visibility = 1 + int(np.searchsorted((10, 50, 200), n_points, side="right"))
    return {
        "token": token(sample, instance),
        "sample_token": sample,
        "instance_token": instance,
        "visibility_token": str(visibility),
        "attribute_tokens": [token("attribute", attribute)] if attribute else [],
        **_placement(box.T_world_box),
        "size": [width, length, height],
        "prev": "",
        "next": "",
        "num_lidar_pts": n_points,
        "num_radar_pts": 0,
        "_category": CATEGORIES[NUSCENES32[box.raw_class]],
    }


def _placement(T: NDArray) -> Row:
    """Return translation and rotation (w, x, y, z) of a transform as nuScenes writes them."""
    x, y, z, w = rotation_to_quaternion(T[:3, :3]).tolist()
    return {"translation": np.asarray(T[:3, 3], dtype=float).tolist(), "rotation": [w, x, y, z]}


def _chain(rows: list[Row]) -> None:
    """Link rows in time by prev and next."""
    for k, row in enumerate(rows):
        row["prev"] = rows[k - 1]["token"] if k else ""
        row["next"] = rows[k + 1]["token"] if k + 1 < len(rows) else ""
