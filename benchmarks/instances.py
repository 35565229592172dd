# SPDX-License-Identifier: Apache-2.0
"""Objects found, boxed, named and followed: ``python -m benchmarks.instances > docs/results/instances.md``.

On simulated drives, 32 beams, whose seeds no training has seen: mean ± sample standard deviation over the seeds. On
real keyframes in nuScenes format, where ``PC_PERCEPTION_DATA`` names a folder that holds such a drive: without a
model that was trained on it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.instances_measure import MOVABLE, Score, simulated_truth
from benchmarks.machine import describe_machine
from pc_perception.inference.classifier import Classifier
from pc_perception.inference.loading import load_classifier, load_segmenter
from pc_perception.inference.model_file import read_model_file
from pc_perception.inference.objects import ObjectOptions, SweepObjects
from pc_perception.inference.segmenter import Segmenter
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.lidar import SpinningLidar

GATES_M = (1.0, 2.0)
FIGURES = {
    "recall": "found",
    "mask_recall": "found, by points: IoU > 0.5",
    "precision": "right among those named a movable class",
    "class": "class right, of found ones that are named",
    "unknown": "unknown, of found ones",
    "center_m": "centre, m",
    "length_m": "length, m",
    "width_m": "width, m",
    "heading_deg": "heading, deg",
    "standing_m_s": "velocity of standing ones, m/s",
    "moving_m_s": "velocity of moving ones, m/s",
    "switches_100": "changes of id in 100 sightings",
}
"""What the rows of a table are called; errors are medians."""


def drive_scores(seed: int, n_sweeps: int, sweeps: SweepObjects) -> list[Score]:
    """Run one simulated drive; return a score for each gate."""
    scores = [Score(gate_m=gate) for gate in GATES_M]
    frames = simulate_drive(seed, n_sweeps, lidar=SpinningLidar(n_beams=32), speed=8.0)
    for frame in tqdm(frames, total=n_sweeps, desc=f"drive {seed}", unit="sweep", disable=None):
        result = sweeps(frame.cloud, frame.T_world_base @ frame.T_base_lidar)
        truths = simulated_truth(frame)
        for score in scores:
            score.add(result, truths)
    return scores


def table(columns: dict[str, Sequence[Score]]) -> Iterator[str]:
    """Yield a table of figures, one column for each set of drives: mean ± std over them."""
    yield f"| | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    figures = {title: [score.figures() for score in scores] for title, scores in columns.items()}
    asked = (f"{sum(f['asked'] for f in each):.0f}" for each in figures.values())
    yield f"| objects asked for | {' | '.join(asked)} |"
    for key, name in FIGURES.items():
        if any(key in f for each in figures.values() for f in each):
            cells = (_spread([f[key] for f in each if key in f]) for each in figures.values())
            yield f"| {name} | {' | '.join(cells)} |"


def by_class(columns: dict[str, Sequence[Score]]) -> Iterator[str]:
    """Yield a table of the share of each class that was found, all drives together."""
    yield f"| found, by true class | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for name in MOVABLE:
        asked, found = (
            [sum(getattr(s, kind)[name] for s in scores) for scores in columns.values()]
            for kind in ("asked", "found")
        )
        if any(asked):
            yield (
                f"| {name} | "
                + " | ".join(
                    f"{f / n:.2f} ({f} of {n})" if n else "none" for f, n in zip(found, asked, strict=True)
                )
                + " |"
            )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def simulated(
    classifier: Classifier, segmenter: Segmenter, seeds: Sequence[int], n_sweeps: int
) -> Iterator[str]:
    """Yield what the simulated drives give."""
    ways = {
        "things of the segmentation": SweepObjects(classifier, segmenter),
        "without growing boxes": SweepObjects(classifier, segmenter, ObjectOptions(complete=False)),
        "geometry alone": SweepObjects(classifier),
    }
    columns: dict[str, list[Score]] = {}
    for seed in seeds:
        for way, sweeps in ways.items():
            sweeps.forget()
            for gate, score in zip(GATES_M, drive_scores(seed, n_sweeps, sweeps), strict=True):
                columns.setdefault(f"{way}, gate {gate:.0f} m", []).append(score)
    yield from table(columns)
    yield ""
    yield from by_class(columns)


def real(classifier: Classifier, root: Path) -> Iterator[str]:
    """Yield what one real drive gives, by geometry alone."""
    from benchmarks.instances_real import keyframes

    frames = list(keyframes(root))
    columns: dict[str, list[Score]] = {}
    for way, options in (("", ObjectOptions()), ("without growing boxes, ", ObjectOptions(complete=False))):
        sweeps, scores = SweepObjects(classifier, options=options), [Score(gate_m=gate) for gate in GATES_M]
        for cloud, T_world_lidar, truths in tqdm(frames, desc=root.name, unit="keyframe", disable=None):
            result = sweeps(cloud, T_world_lidar)
            for score in scores:
                score.add(result, truths)
        for gate, score in zip(GATES_M, scores, strict=True):
            columns[f"{way}gate {gate:.0f} m"] = [score]
    yield from by_class(columns)
    yield ""
    yield from table(columns)


def trained_on(model: str, word: str) -> bool:
    """Say whether a model's provenance names ``word`` as training data."""
    story = read_model_file(model)[0].provenance
    return word in json.dumps({key: story[key] for key in story if key != "metrics"}).lower()


def page(a: argparse.Namespace) -> Iterable[str]:
    """Yield the lines of the page."""
    classifier, segmenter = load_classifier(a.model, "cpu"), load_segmenter(a.segmenter, "cpu")
    command = " ".join(["python -m benchmarks.instances", *sys.argv[1:]])
    yield f"# Objects of scenes\n\nCommand: `{command}`, on {describe_machine()}. Models:"
    yield f"`{Path(a.model).stem}` and `{Path(a.segmenter).stem}`."
    yield "\nAsked for: cars, trucks, pedestrians, two-wheelers and cones within 30 m with 10 returns or more. Found: a"
    yield "box whose centre is within the gate, over the ground. Centres of partly seen objects are the whole's."
    yield f"\n## Simulated drives\n\n{len(a.seeds)} drives of {a.sweeps} sweeps at 10 Hz and 8 m/s, 32 beams, seeds"
    yield f"{', '.join(map(str, a.seeds))}; mean ± sample standard deviation over the drives.\n"
    yield from simulated(classifier, segmenter, a.seeds, a.sweeps)
    data = os.environ.get("PC_PERCEPTION_DATA")
    for tables in sorted(Path(data).glob("nuscenes/*/v1.0-mini")) if data else ():
        root = tables.parent
        yield f"\n## Real drive {root.name}\n"
        if trained_on(a.model, root.name.partition("_")[0]):
            yield f"Part of the training data of `{Path(a.model).stem}`: not measured."
            continue
        yield "Twelve keyframes, 0.4 s apart, 64 beams; geometry alone, since `street` was trained on this drive.\n"
        yield from real(classifier, root)


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="objects")
    parser.add_argument("--segmenter", default="street")
    parser.add_argument("--seeds", type=int, nargs="+", default=[60_001, 60_002, 60_003])
    parser.add_argument("--sweeps", type=int, default=40)
    for line in page(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
