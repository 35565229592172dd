# SPDX-License-Identifier: Apache-2.0
"""Result files: every number with its seed, commit, settings and data.

The score of the last epoch and that of the epoch that was best on validation are two numbers, printed one below
the other; the best epoch on the test is not a number we keep.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.data.objects import ObjectDataset, class_counts, data_hash
from training.export import commit
from training.metrics import mean_std

LAST = "last epoch"
BEST = "best epoch on validation"


@dataclass(frozen=True)
class SeedRun:
    """What one seed reached on the test.

    Attributes:
        seed: of weights, split and order.
        scores: numbers 0 .. 1 by what they are, such as ``LAST`` and ``BEST``.
        details: whatever else belongs in the file.
    """

    seed: int
    scores: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)


def summarise(runs: Sequence[SeedRun]) -> dict[str, tuple[float, float]]:
    """Return mean and sample standard deviation over seeds of every score.

    Raises:
        ValueError: there is no run, or runs have other scores.
    """
    if not runs or any(set(run.scores) != set(runs[0].scores) for run in runs):
        raise ValueError(f"the {len(runs)} runs must be at least one, all with the same scores")
    return {name: mean_std([run.scores[name] for run in runs]) for name in runs[0].scores}


def table(runs: Sequence[SeedRun]) -> str:
    """Return a line for each score: mean ± std over seeds, then every seed's own."""
    lines = []
    for name, (mean, std) in summarise(runs).items():
        each = " ".join(f"{100 * run.scores[name]:.1f}" for run in runs)
        spread = f" ± {100 * std:.1f} %   ({len(runs)} seeds: {each})" if len(runs) > 1 else " %"
        lines.append(f"{name:<40} {100 * mean:5.1f}{spread}")
    return "\n".join(lines)


def about(data: ObjectDataset) -> dict[str, Any]:
    """Return what a result file says about data: hash, size, instances, classes."""
    things = {data.instance(i) for i in range(len(data))}
    return {
        "hash": data_hash(data),
        "objects": len(data),
        "instances": len(things),
        "classes": class_counts(data),
    }


def write_result(
    path: str | Path, task: str, config: Any, data: Mapping[str, Any], runs: Sequence[SeedRun]
) -> None:
    """Write one result as JSON; the file appears only complete.

    Args:
        task: what was measured, such as ``probe`` or ``few-shot 5 way 10 shot``.
        config: a dataclass or a mapping of everything that was set.
        data: by role (``train``, ``test``), as ``about`` says it.
    """
    story = {
        "task": task,
        "commit": commit(),
        "config": asdict(config) if is_dataclass(config) and not isinstance(config, type) else dict(config),
        "data": dict(data),
        "seeds": [run.seed for run in runs],
        "mean_std": {name: list(pair) for name, pair in summarise(runs).items()},
        "runs": [asdict(run) for run in runs],
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    unfinished.write_text(json.dumps(_plain(story), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _plain(value: Any) -> Any:
    """JSON knows neither NaN nor numpy."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
