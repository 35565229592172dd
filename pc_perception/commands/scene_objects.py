# SPDX-License-Identifier: Apache-2.0
"""``pc-perception classify --scene``: find and name the objects of whole scenes, and follow them through a bag."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pc_perception.cloud import PointCloud
from pc_perception.inference.instances import ROOM, InstanceOptions
from pc_perception.inference.loading import load_classifier, load_segmenter
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.model_choice import choose_model
from pc_perception.inference.object_results import ObjectsResult
from pc_perception.inference.objects import SCORE_THRESHOLD, ObjectOptions, SweepObjects
from pc_perception.io.arrays import Columns
from pc_perception.io.bags import BagReader
from pc_perception.io.tf_tree import TransformTree

from .object_sinks import open_object_sink
from .sources import Source, SourceCloud, Tally, open_source

BY_CHOICE, GEOMETRY = "auto", "none"


def run(
    path: Path,
    *,
    model: str,
    segmenter: str = BY_CHOICE,
    device: str = "auto",
    topic: str | None = None,
    columns: Columns = None,
    fixed_frame: str | None = None,
    out: Path | None = None,
    as_json: bool = False,
    among: Sequence[str] = (),
    score_threshold: float = SCORE_THRESHOLD,
) -> None:
    """Print the objects of every scene of ``path``; those of a bag are tracked in a frame that stands still.

    Args:
        segmenter: a model whose things are clustered, ``none`` for all above the ground, or ``auto``: the shipped
            model that suits the first scene.
        fixed_frame: of a bag; None takes the root of its transforms.
        out: .mcap for a bag, else a cloud file or a folder; the points get their object's ``instance`` and ``label``.

    Raises:
        FileNotFoundError, ValueError: with one sentence. What was found before is printed and on disk.
    """
    keep_freed_memory()
    source = open_source(path, topic, columns, out)
    sink: Any = open_object_sink(out, source) if out else nullcontext()
    classifier = load_classifier(model, device)
    classifier = classifier.among(among) if among else classifier
    poses = _Poses(source, fixed_frame)
    sweeps: SweepObjects | None = None
    tally = Tally()
    with sink as writer:
        for item in _with_bar(source, quiet=as_json):
            if sweeps is None:
                suits = choose_model(source.telling(item.cloud))[0]
                name = suits if segmenter == BY_CHOICE else segmenter
                things = None if name == GEOMETRY else load_segmenter(name, device)
                instances = ROOM if suits == "room" else InstanceOptions()
                sweeps = SweepObjects(classifier, things, ObjectOptions(instances, score_threshold))
            if not source.is_bag:
                sweeps.forget()  # files are scenes of their own
            result = sweeps(item.cloud, poses.at(item.cloud))
            if writer is not None:
                writer.write(item.name, item.cloud, result)
            tqdm.write(json.dumps(_plain(item, result)) if as_json else _lines(item, result))
            tally.count(item.cloud)
    tally.refuse_nothing(path)
    print(f"{tally.clouds} scene(s); {poses.told}" + (f"; written to {out}" if out else ""), file=sys.stderr)


class _Poses:
    """Where the sensor of a bag stood, as far as its transforms say."""

    def __init__(self, source: Source, fixed_frame: str | None) -> None:
        self._fixed, self._tree = fixed_frame, TransformTree()
        self.told = "every scene by itself"
        if fixed_frame is not None and not source.is_bag:
            raise ValueError(f"--fixed-frame needs the transforms of a bag, and '{source.path}' is none")
        if source.is_bag:
            with BagReader(source.path) as reader:
                self._tree = reader.transforms()
            if fixed_frame is not None and fixed_frame.lstrip("/") not in self._tree.frames:
                there = ", ".join(sorted(self._tree.frames)) or "none"
                raise ValueError(
                    f"--fixed-frame '{fixed_frame}' is not among the frames of the bag's transforms: {there}"
                )
            self.told = "tracked in the sensor's own frame: the bag has no transforms that say where it was"

    def at(self, cloud: PointCloud) -> NDArray[np.float64] | None:
        """Return T_fixed_cloud at the cloud's stamp; None where it is not known."""
        fixed = self._fixed or self._tree.root(cloud.frame)
        if fixed == cloud.frame:
            return None
        try:
            T = self._tree.lookup(fixed, cloud.frame, cloud.stamp_ns)
        except ValueError as error:
            self.told = f"some sweeps tracked in the sensor's own frame: {error}"
            return None
        self.told = f"tracked in '{fixed}'"
        return T


def _with_bar(source: Source, quiet: bool) -> Iterator[SourceCloud]:
    total = None if source.is_bag else len(source.files)
    yield from tqdm(source.clouds(), total=total, unit="scene", disable=True if quiet or total == 1 else None)


def _lines(item: SourceCloud, result: ObjectsResult) -> str:
    lines = [f"{item.name}: {len(result)} objects in {len(item.cloud):,} points, {result.total_ms:.0f} ms"]
    for one in _objects(result):
        speed = "" if one["speed"] is None else f", {one['speed']:.1f} m/s"
        x, y, z = one["center"]
        lines.append(
            f"  {one['id']:>4} {one['label']:<12} {one['score']:.2f} at ({x:.1f}, {y:.1f}, {z:.1f}) m, "
            f"{' x '.join(f'{s:.1f}' for s in one['size'])} m, {one['points']} points{speed}"
        )
    return "\n".join(lines)


def _plain(item: SourceCloud, result: ObjectsResult) -> dict[str, Any]:
    stamp, frame = item.cloud.stamp_ns, item.cloud.frame
    return {"scene": item.name, "stamp_ns": stamp, "frame": frame, "objects": list(_objects(result))}


def _objects(result: ObjectsResult) -> Iterator[dict[str, Any]]:
    """Yield plain values of each object, in the cloud's frame: metres, radians, m/s; None where unknown."""
    counts = np.bincount(result.index[result.index >= 0], minlength=len(result))
    for row in range(len(result)):
        T, velocity = result.T_cloud_box[row], result.velocities[row]
        known = bool(np.isfinite(velocity).all())
        yield {
            "id": int(result.track_ids[row]),
            "label": result.name(row),
            "score": round(float(result.scores[row].max()), 4),
            "confirmed": bool(result.confirmed[row]),
            "center": np.round(T[:3, 3], 3).tolist(),
            "size": np.round(result.sizes[row], 3).tolist(),
            "heading": round(float(np.arctan2(T[1, 0], T[0, 0])), 4),
            "velocity": np.round(velocity, 3).tolist() if known else None,
            "speed": round(float(np.linalg.norm(velocity)), 3) if known else None,
            "points": int(counts[row]),
        }
