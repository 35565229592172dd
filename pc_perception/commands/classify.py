# SPDX-License-Identifier: Apache-2.0
"""``pc-perception classify``: name the class of every object in a file or folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pc_perception.inference.classifier import AT_ONCE, ClassificationResult
from pc_perception.inference.loading import load_classifier
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.object_contract import MIN_POINTS
from pc_perception.io.arrays import Columns
from pc_perception.labels import UNLABELED

from .sources import SourceCloud, Tally, open_source


def run(
    path: Path,
    *,
    model: str,
    device: str = "auto",
    topic: str | None = None,
    columns: Columns = None,
    as_json: bool = False,
    among: Sequence[str] = (),
) -> None:
    """Print one line for each object of ``path``; every cloud is taken for one object.

    Raises:
        FileNotFoundError, ValueError: with one sentence. What was classified before is printed.
    """
    keep_freed_memory()
    source = open_source(path, topic, columns)
    classifier = load_classifier(model, device)
    classifier = classifier.among(among) if among else classifier
    tally = Tally()
    for group in _groups(source.clouds()):
        for item, found in zip(group, classifier([one.cloud for one in group]), strict=True):
            print(json.dumps(_plain(item, found)) if as_json else _line(item, found), flush=as_json)
            tally.count(item.cloud)
    tally.refuse_nothing(path)


def _groups(items: Iterator[SourceCloud]) -> Iterator[Sequence[SourceCloud]]:
    """Yield as many as the classifier takes at once; what came before a damaged file is not lost."""
    group: list[SourceCloud] = []
    try:
        for item in items:
            group.append(item)
            if len(group) == AT_ONCE:
                yield group
                group = []
    except ValueError:
        if group:
            yield group
        raise
    if group:
        yield group


def _line(item: SourceCloud, found: ClassificationResult) -> str:
    if found.label == UNLABELED:
        n = int(item.cloud.finite().sum())
        return f"{item.name}: {found.name} ({n:,} finite points; an object needs {MIN_POINTS}, not all in one place)"
    return f"{item.name}: {found.name} {found.confidence:.2f} ({len(item.cloud):,} points)"


def _plain(item: SourceCloud, found: ClassificationResult) -> dict[str, Any]:
    scores = {n: round(float(s), 4) for n, s in zip(found.label_set.classes, found.scores, strict=True)}
    return {"object": item.name, "label": found.name, "confidence": found.confidence, "scores": scores}
