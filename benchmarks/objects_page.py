# SPDX-License-Identifier: Apache-2.0
"""The page of ``benchmarks.objects``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import jobs
from benchmarks.machine import describe_machine
from training.data.object_splits import bootstrap

Results = Sequence[dict[str, Any]]
WAYS = {
    "svm": "Linear SVM on frozen features, its strength chosen on validation",
    "linear": "Linear head on the frozen encoder",
    "mlp3": "Three-layer head on the frozen encoder",
    "full": "Full fine-tuning",
}
LAST, BEST = "last epoch", "best epoch on validation"


def write_objects_page(page: Path, results: Results, planned: Sequence[Any], scale: float) -> None:
    """Write the page from what was measured; what was planned and not run is told."""
    from benchmarks.objects import (
        CONTROLS,
        FEW_SHAPES,
        LABELS,
        MAIN,
        PART_POINTS,
        PART_SHAPES,
        PART_STEPS,
        PART_TESTS,
        RANDOM,
        TUNE_BATCH,
    )

    arms = [RANDOM, *[a for a in MAIN if a != RANDOM]]
    blocks = [_head(scale, [r["figures"]["seconds"] / 60 for r in results])]
    for way, title in WAYS.items():
        blocks += [
            f"\n## {title}\n",
            "Accuracy on the test parts, mean of the three sets; columns: labelled instances of each class.\n",
            jobs.table(
                ["start", *(str(n or "all") for n in LABELS)],
                [[arm, *(jobs.spread(_over_sets(results, way, arm, n)) for n in LABELS)] for arm in arms],
            ),
        ]
    blocks += ["\n## Each set, all labels\n", _each_set(results, arms)]
    blocks += [
        "\n## Differences to random weights\n",
        "Full fine-tuning, last weights, all seeds and sets together, in points of accuracy; 95 % interval "
        "bootstrapped by instance.\n",
        jobs.table(
            ["start", "5 labels", "all labels"],
            [[arm, *(_difference(results, arm, RANDOM, n) for n in (5, 0))] for arm in arms[1:]],
        ),
        "\n## Few shots\n",
        f"Linear SVM (C = 0.075) on frozen features of {FEW_SHAPES} simulated shapes that no training saw: mean "
        "of ten folds, drawn anew for each seed.\n",
        _by_column([r for r in results if r["kind"] == "few"], arms, _each_seed),
        "\n## Parts\n",
        f"Part segmentation of simulated shapes, {PART_POINTS} points each, all weights: {PART_STEPS} steps of "
        f"{TUNE_BATCH // 2} from {PART_SHAPES} labelled ones, five of each class and others for each seed; mIoU over "
        f"{PART_TESTS} unseen shapes, ten of each class.\n",
        _by_column([r for r in results if r["kind"] == "parts"], arms, _each_seed),
        "\n## Objects made worse\n",
        "Accuracy of full fine-tuning with all labels, mean of the three sets, on test objects with noise, turned "
        "about any axis, stretched, thinned, and thinned on one side (`training/evaluate/robustness.py`, the third of "
        "five levels).\n",
        _by_column([r for r in results if r["kind"] == "worse"], arms, _mean_of_sets),
        "\n## Controls\n",
        "SVM and full fine-tuning with 5 labels of each class, mean of the three sets.\n",
        jobs.table(
            ["pre-training", "SVM, 5", "SVM, all", "full, 5"],
            [
                [arm, *(jobs.spread(_over_sets(results, *what)) for what in _control_columns(arm))]
                for arm in (*arms[1:], *CONTROLS)
            ],
        ),
        "\n## Not run\n",
        _missing(results, planned),
    ]
    jobs.write_page(page, blocks)


def _head(scale: float, minutes: Sequence[float]) -> str:
    from benchmarks.objects import (
        FIELDS,
        PRETRAIN_BATCH,
        PRETRAIN_STEPS,
        SEEDS,
        SHAPES,
        TUNE_BATCH,
        TUNE_STEPS,
    )

    steps = [max(round(cycles * PRETRAIN_STEPS * scale), 2) for cycles in (1, 2)]
    tunings = ", ".join(f"{n} with {labels or 'all'}" for labels, n in TUNE_STEPS.items())
    command = "python -m benchmarks.objects" + ("" if scale == 1 else f" --scale {scale:g}")
    return (
        "# Pre-training on real objects\n\n"
        f"Command: `{command}`, on {describe_machine()}; {len(minutes)} runs of {sum(minutes):.0f} minutes together, "
        f"two side by side. {len(SEEDS)} seeds, mean ± sample standard deviation. Every seed draws its own split by "
        "instance (65 / 15 / 20 %), weights and order.\n\n"
        f"Encoder: size `tiny`. Pre-training on the training parts of all three sets without labels and {SHAPES}: "
        f"{steps[0]} steps of {PRETRAIN_BATCH} objects, PointACL's two phases and its control {steps[1]}. Point-MGE "
        f"learns from {FIELDS} alone, with the shipped tokenizer, no classes and 64 patches of 32 points instead of 48 "
        f"of 16. Fine-tuning: steps of {TUNE_BATCH} objects, {tunings} labels, half as many for heads alone. Unless "
        "said otherwise, the last weights; those best on validation stand apart. Steps are few: the tables compare "
        "arms, they do not show the "
        "best that those reach."
    )


def _found(results: Results, way: str, arm: str, labels: int) -> list[dict[str, Any]]:
    """Return the runs of an arm; a probe's hold all numbers of labels."""
    return [
        r for r in results if (r["kind"], r["arm"]) == (way, arm) and (way == "svm" or r["labels"] == labels)
    ]


def _score(result: dict[str, Any], labels: int, which: str = LAST) -> float:
    figures = result["figures"]
    return figures["accuracy"][str(labels)] if result["kind"] == "svm" else figures[which]["accuracy"]


def _over_sets(results: Results, way: str, arm: str, labels: int, which: str = LAST) -> list[float]:
    """Return the mean over sets of each seed that was measured on all of them."""
    found = _found(results, way, arm, labels)
    return _mean_of_sets([(r["seed"], _score(r, labels, which)) for r in found])


def _each_seed(scores: Sequence[tuple[int, float]]) -> list[float]:
    return [score for _, score in scores]


def _mean_of_sets(scores: Sequence[tuple[int, float]]) -> list[float]:
    from benchmarks.objects import SETS

    by_seed: dict[int, list[float]] = {}
    for seed, score in scores:
        by_seed.setdefault(seed, []).append(score)
    return [float(np.mean(v)) for v in by_seed.values() if len(v) == len(SETS)]


def _each_set(results: Results, arms: Iterable[str]) -> str:
    from benchmarks.objects import SETS

    rows = []
    for arm in arms:
        for which in (LAST, BEST):
            cells = [
                jobs.spread(
                    [_score(r, 0, which) for r in _found(results, "full", arm, 0) if r["data"] == data]
                )
                for data in SETS
            ]
            rows.append([f"full, {arm}: {which}", *cells])
        svm = [
            jobs.spread([_score(r, 0) for r in _found(results, "svm", arm, 0) if r["data"] == data])
            for data in SETS
        ]
        rows.append([f"SVM, {arm}", *svm])
    return jobs.table(["way and start", *SETS], rows)


def _difference(results: Results, arm: str, other: str, labels: int) -> str:
    """Return the gain of one arm over another on the same test objects, with its interval."""
    pairs = {(r["seed"], r["data"]): r["figures"] for r in _found(results, "full", other, labels)}
    gains, things = [], []
    for r in _found(results, "full", arm, labels):
        if (base := pairs.get((r["seed"], r["data"]))) is not None:
            ours, theirs = (np.array(f[LAST]["correct"], float) for f in (r["figures"], base))
            gains += (ours - theirs).tolist()
            things += r["figures"]["instances"]
    if not gains:
        return jobs.MISSING
    low, high = bootstrap(np.array(gains), things)
    return f"{100 * np.mean(gains):+.1f} ({100 * low:+.1f} .. {100 * high:+.1f})"


def _by_column(
    results: Results, arms: Sequence[str], gather: Callable[[list[tuple[int, float]]], list[float]]
) -> str:
    """Return a table of what each arm reached under each name of ``accuracy``; ``gather`` takes (seed, value) pairs."""
    columns = list(results[0]["figures"]["accuracy"]) if results else []

    def cell(arm: str, column: str) -> str:
        pairs = [(r["seed"], r["figures"]["accuracy"][column]) for r in results if r["arm"] == arm]
        return jobs.spread(gather(pairs))

    return jobs.table(["start", *columns], [[arm, *(cell(arm, c) for c in columns)] for arm in arms])


def _control_columns(arm: str) -> list[tuple[str, str, int]]:
    return [("svm", arm, 5), ("svm", arm, 0), ("full", arm, 5)]


def _missing(results: Results, planned: Sequence[Any]) -> str:
    """Count what was planned and has no result, by kind and number of labels."""
    done = {(r["kind"], r["arm"], r["seed"], r["data"], r["labels"]) for r in results}
    left: dict[str, list[int]] = {}
    for job in planned:
        labels = "" if job.kind not in WAYS or job.kind == "svm" else f", {job.labels or 'all'} labels"
        counts = left.setdefault(job.kind + labels, [0, 0])
        counts[0] += (job.kind, job.arm, job.seed, job.data, job.labels) not in done
        counts[1] += 1
    each = [f"{key}: {n} of {total}" for key, (n, total) in left.items() if n]
    if not each:
        return "Everything was run."
    missing = sum(n for n, _ in left.values())
    return f"{missing} of {len(planned)} runs, over all arms, seeds and sets: " + "; ".join(each) + "."
