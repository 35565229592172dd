# SPDX-License-Identifier: Apache-2.0
"""Run the rows of a table, print them, and keep them as JSON and as Markdown.

The files are written anew after every row: a run that is stopped keeps what it measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.machine import busy_core, describe_machine

PACKAGES = (
    "numpy",
    "numba",
    "torch",
    "triton",
    "scipy",
    "open3d",
    "fpsample",
    "pykdtree",
    "small_gicp",
    "spconv",
)
HEAD = (
    "row",
    "input",
    "ours ms",
    "peer",
    "peer ms",
    "ratio (95 %)",
    "target",
    "floor ms",
    "share of the floor",
)


class Row(Protocol):
    """What a table holds: a name, an input, and a way to get its record."""

    @property
    def row(self) -> str: ...

    @property
    def input(self) -> str: ...

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Return the row's record; at least ``ours_ms``, which is None where it was not measured."""
        ...


def versions() -> str:
    """Name the packages that a row may depend on, with their versions."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def run(
    rows: Sequence[Row],
    rounds: int,
    seed: int = 0,
    busy: bool = False,
    json_file: Path | None = None,
    markdown_file: Path | None = None,
) -> list[dict]:
    """Measure ``rows``, each a second time beside a busy core if ``busy``; print, write and return the records."""
    records: list[dict] = []
    heading = f"{describe_machine()}; {versions()}"
    print(f"{heading}\n\n" + "\n".join(_head()), flush=True)
    for row in rows:
        for occupied in (False, True)[: 1 + busy]:
            rng = np.random.default_rng(seed)
            with busy_core(occupied):
                measured = row.measure(rounds, rng)
            name = row.input + (", core busy" if occupied else "")
            record = {"row": row.row, "input": name, "busy": occupied, **measured}
            records.append(record | {"machine": describe_machine(), "versions": versions()})
            print(line(records[-1]), flush=True)
            if json_file:
                json_file.write_text(json.dumps(records, indent=1) + "\n")
            if markdown_file:
                markdown_file.write_text("\n".join(markdown(records, heading)) + "\n")
    return records


def markdown(records: Sequence[dict], heading: str) -> Iterator[str]:
    """Yield the lines of the table under ``heading``, as they are printed."""
    yield heading
    yield ""
    yield from _head()
    yield from map(line, records)


def _head() -> tuple[str, str]:
    return "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)


def line(record: dict) -> str:
    """Return one record as a line of the table."""
    ours, floor, ratio = record["ours_ms"], record.get("floor_ms"), record.get("ratio")
    cells = [record["row"], record["input"], "not measured" if ours is None else f"{ours:.3g}"]
    cells += [record.get("peer") or "none", _number(record.get("peer_ms"))]
    cells.append(
        "-" if ratio is None else f"{ratio:.2f} ({record['ratio_low']:.2f} .. {record['ratio_high']:.2f})"
    )
    cells += [_verdict(record), _number(floor), f"{100 * floor / ours:.0f} %" if floor and ours else "-"]
    if record.get("note"):
        cells[1] += f"; {record['note']}"
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return f"{value:.3g}" if value else "-"


def _verdict(record: dict) -> str:
    if "verdict" in record:
        return str(record["verdict"])
    target, low = record.get("target"), record.get("ratio_low")
    if not target:
        return "-"
    return f">= {target:g} " + ("open" if low is None else "met" if low >= target else "missed")
