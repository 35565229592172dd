# SPDX-License-Identifier: Apache-2.0
"""``pc-perception pick``: the few clouds of a recording to label by hand, written for labelling tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.scene_choice import SceneDescriber, choose
from pc_perception.inference.segmenter import Segmenter
from pc_perception.inference.upright import UPRIGHT_FRAME, upright
from pc_perception.io.arrays import Columns
from pc_perception.io.files import write_cloud
from pc_perception.io.whole_files import whole_file
from pc_perception.labels import UNLABELED, LabelSet
from pc_perception.refusals import sentence

from .sinks import refuse_input
from .sources import Source, SourceCloud, open_source, suitable_model


def run(
    path: Path,
    *,
    out: Path,
    n: int,
    model: str | None = None,
    form: str = "pcd",
    topic: str | None = None,
    columns: Columns = None,
    device: str = "auto",
) -> None:
    """Write ``n`` clouds of ``path`` that differ from each other, with the model's labels to begin from.

    Raises:
        FileNotFoundError, ValueError: with one sentence.
    """
    if n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    source = open_source(path, topic, columns, out)
    refuse_input(out, source, is_folder=True)
    model = model or _fitting(source)
    describe = SceneDescriber(model, device)
    chosen = _choose(source, describe, n)
    segmenter = load_segmenter(model, device) if read_model_file(model)[0].task == "segmentation" else None
    for item in _at(source, chosen):
        cloud = to_label(item.cloud, segmenter, describe.contract.level_camera)
        print(write_cloud(out / f"{Path(item.name).with_suffix('')}.{form}", cloud))
    if segmenter is not None:
        write_classes(out, segmenter.label_set)
    kind = "labels of the model to correct" if segmenter else f"no labels, which '{model}' does not give"
    print(f"{len(chosen)} clouds in {out}, with {kind}", file=sys.stderr)


def _fitting(source: Source) -> str:
    first = next(source.clouds(), None)
    if first is None:
        raise ValueError(f"'{source.path}' holds no cloud")
    return suitable_model(source, first.cloud)


def _choose(source: Source, describe: SceneDescriber, n: int) -> list[int]:
    total = None if source.is_bag else len(source.files)
    found = []
    try:
        for item in tqdm(source.clouds(), "looking", total, unit="cloud", disable=None):
            found.append(describe(item.cloud))
    except ValueError as error:  # damaged files, or a recording that breaks off: what was read is enough
        if len(found) < n:
            raise
        print(f"chosen of {len(found)} clouds: {sentence(error)}", file=sys.stderr)
    if n > len(found):
        raise ValueError(f"'{source.path}' holds {len(found)} clouds, -n asks for {n}")
    return choose(np.array(found), n)


def _at(source: Source, indices: list[int]) -> Iterator[SourceCloud]:
    wanted = set(indices)
    for i, item in enumerate(islice(source.clouds(), indices[-1] + 1)):
        if i in wanted:
            yield item


def to_label(cloud: PointCloud, segmenter: Segmenter | None, level: bool) -> PointCloud:
    """Return the finite points, which is what tools keep, with ``label`` and ``confidence`` of the model.

    Views of cameras stand upright where the model will see them so: files of points keep no frame.
    """
    if segmenter is not None:
        result = segmenter(cloud)
        cloud = cloud.with_fields(label=result.labels, confidence=result.confidence)
    if level:
        cloud = replace(cloud, xyz=upright(cloud), frame=UPRIGHT_FRAME)
    return cloud.select(np.flatnonzero(cloud.finite()))


def write_classes(folder: Path, labels: LabelSet) -> None:
    """Say what the ids mean: ``labels.yaml`` for ``label_set=``, ``class_mapping.json`` for tools (Supervisely)."""
    lines = [f"# Ids of the field `label`, from 0 in this order; {UNLABELED}: no class.", "classes:"]
    for i, (name, color) in enumerate(zip(labels.classes, labels.colors, strict=True)):
        lines.append(f"  - {{name: {name}, color: {list(color)}}}  # {i}")
    with whole_file(folder / "labels.yaml") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with whole_file(folder / "class_mapping.json") as partial:
        partial.write_text(json.dumps({str(i): c for i, c in enumerate(labels.classes)}, indent=1), "utf-8")
