# SPDX-License-Identifier: Apache-2.0
"""Many short runs side by side, and a page of what they gave: shared by the scripts that compare methods."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from training.metrics import mean_std

MISSING = "not measured"
NOTES = "<!-- what we make of it; written by hand, kept when the tables are made anew -->"


def run_stages(
    stages: Sequence[Sequence[Any]], work: Callable[[Any], dict[str, Any] | None], workers: int
) -> Iterator[dict[str, Any]]:
    """Do jobs in ``workers`` processes, a stage after the one before it; yield what ``work`` found of each."""
    # Without max_tasks_per_child, which hangs on Python 3.11 when a process has done its tasks.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for stage in stages:
            yield from (found for found in pool.map(work, stage) if found)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, or a line where nothing in it was measured."""
    rows = list(rows)
    if all(cell == MISSING for row in rows for cell in row[1:]):
        return "Not measured yet."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float]) -> str:
    """Return mean and sample standard deviation over seeds, of three or more unless it says how many."""
    if not values:
        return MISSING
    mean, std = mean_std(values)
    if len(values) == 1:
        return f"{mean:.3f} (1 seed)"
    return f"{mean:.3f} ± {std:.3f}" + ("" if len(values) > 2 else f" ({len(values)} seeds)")


def write_page(page: Path, blocks: Sequence[str]) -> None:
    """Write a page; what was written by hand at its end stays."""
    page.parent.mkdir(parents=True, exist_ok=True)
    notes = page.read_text().split(NOTES)[1] if page.exists() and NOTES in page.read_text() else "\n"
    page.write_text("\n".join(blocks) + "\n" + NOTES + notes)
