# SPDX-License-Identifier: Apache-2.0
"""Many short runs side by side, and a page of what they gave: shared by the scripts that compare methods.

A job is a dataclass whose ``name`` is that of its folder or file below ``--work-dir``. What was found of it is kept
there, so that an interrupted script goes on where it was, and ``--minutes 0`` writes the page again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.metrics import mean_std

if TYPE_CHECKING:
    from training.settings import RunSettings

MISSING = "not measured"
NOTES = "<!-- what we make of it; written by hand, kept when the tables are made anew -->"


@dataclass(frozen=True)
class Call:
    """One call of a script.

    Attributes:
        work_dir: where runs and figures are kept.
        scale: factor of all numbers of steps.
        begin: when it began, seconds.
        minutes: after so many no job begins.
    """

    work_dir: Path
    scale: float
    begin: float
    minutes: float

    @classmethod
    def of(cls, args: argparse.Namespace) -> Call:
        """Return the call that begins now, by the arguments of ``parser``.

        Raises:
            SystemExit: ``--work-dir`` holds runs of another ``--scale``: one page would show both as the same.
        """
        kept = args.work_dir / "scale.json"
        if kept.exists() and json.loads(kept.read_text()) != args.scale:
            held = f"'{args.work_dir}' holds runs at --scale {kept.read_text()}"
            raise SystemExit(f"{held}, not {args.scale:g}: give another --work-dir")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(args.scale))
        return cls(args.work_dir, args.scale, time.time(), args.minutes)

    @property
    def minutes_used(self) -> float:
        """Minutes since it began."""
        return (time.time() - self.begin) / 60


def parser(
    about: str | None,
    work_dir: str,
    page: str,
    scale: str = "factor of all numbers of steps",
    workers: int = 2,
) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all scripts have; ``scale`` says what that argument does."""
    out = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--work-dir", type=Path, default=Path(work_dir))
    out.add_argument("--page", type=Path, default=Path(page))
    out.add_argument("--scale", type=float, default=1.0, help=scale)
    out.add_argument("--workers", type=int, default=workers)
    out.add_argument(
        "--minutes", type=float, default=90, help="begin no job later; the page says what is missing"
    )
    return out


def command(name: str, argv: Sequence[str] | None) -> str:
    """Return what was typed to run the script ``name``, for its page."""
    return " ".join([f"python -m benchmarks.{name}", *(argv or sys.argv[1:])])


def do(
    job: Any, kept: Path, call: Call, find: Callable[[], dict[str, Any]], current: bool = True
) -> dict[str, Any] | None:
    """Return a job with its figures, which are found, with one thread, where ``kept`` does not hold them yet.

    None where that would begin too late. ``current=False``: what is kept is out of date.
    """
    if kept.exists() and current:
        return asdict(job) | {"figures": json.loads(kept.read_text())}
    if call.minutes_used > call.minutes:
        return None
    import torch

    torch.set_num_threads(1)
    begin, found = time.time(), find()
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    print(f"{job.name}: {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    return asdict(job) | {"figures": found}


def is_trained(run: RunSettings) -> bool:
    """Say whether the model of a run is there with all its steps."""
    from pc_perception.inference.model_file import read_model_file
    from training.export import NAME

    model = Path(run.work_dir) / NAME
    return model.exists() and read_model_file(model)[0].provenance.get("steps") == run.max_steps


def train_to_end(run: RunSettings) -> Path:
    """Train a run unless its model is there with all its steps; return the model file.

    Raises:
        InterruptedError: it was told to stop before; what it has learned so far is no result.
    """
    from training.export import NAME
    from training.run import train

    if not is_trained(run):
        train(run)
        if not is_trained(run):
            raise InterruptedError(f"'{run.work_dir}' was stopped before step {run.max_steps}")
    return Path(run.work_dir) / NAME


def is_current(kept: Path, run: RunSettings) -> bool:
    """Say whether the figures in ``kept`` are of the model of a run with all its steps."""
    from training.export import NAME

    model = Path(run.work_dir) / NAME
    return is_trained(run) and kept.exists() and kept.stat().st_mtime > model.stat().st_mtime


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
