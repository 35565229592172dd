# SPDX-License-Identifier: Apache-2.0
"""Time an operation of ours against its peers in alternating rounds, and say how sure the ratio is.

A table is a list of ``Case``; ``main`` gives it a command line. Every round makes a fresh input, runs ours
and each installed peer in turn and checks ours. The ratio is median(best peer) / median(ours); a target is
met when the lower end of the ratio's 95 % bootstrap interval reaches it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from benchmarks.machine import describe_machine

WARM_UPS = 3
SAMPLE_S = 0.004
"""Calls shorter than this are repeated until a sample lasts as long."""


@dataclass
class Round:
    """What one round times: calls without arguments, on one fresh input.

    Attributes:
        ours: our call.
        peers: the peers' calls by name; those not installed are left out (see ``installed``).
        check: raises when the result of ``ours`` is wrong; run once a round, not timed.
    """

    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]] = field(default_factory=dict)
    check: Callable[[object], None] = lambda result: None


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        row: name in the benchmark plan, such as A6.
        input: the scene in words.
        prepare: makes a round from a random generator.
        target: ratio to reach; 0 where the row has none.
        floor_ms: what the bytes or the arithmetic take at the machine's peak.
    """

    row: str
    input: str
    prepare: Callable[[np.random.Generator], Round]
    target: float = 0.0
    floor_ms: float = 0.0


def installed(*modules: str) -> bool:
    """Return whether all of ``modules`` can be imported."""
    return all(find_spec(module) is not None for module in modules)


def timed_ms(call: Callable[[], object]) -> float:
    """Return the mean time of one call over a sample of ``SAMPLE_S``, milliseconds."""
    count, start = 0, perf_counter()
    while True:
        call()
        count += 1
        elapsed = perf_counter() - start
        if elapsed >= SAMPLE_S:
            return elapsed / count * 1e3


def ratio_with_interval(
    peer: np.ndarray, ours: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return median(peer) / median(ours) of paired rounds and its 95 % bootstrap interval."""
    picks = rng.integers(0, len(peer), (4000, len(peer)))
    ratios = np.median(peer[picks], axis=1) / np.median(ours[picks], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.median(peer) / np.median(ours)), float(low), float(high)


def measure(case: Case, rounds: int, rng: np.random.Generator) -> dict[str, object]:
    """Return the record of ``case``: medians in ms, the fastest peer and the ratio to it."""
    times: dict[str, list[float]] = {}
    for number in range(rounds + WARM_UPS):
        current = case.prepare(rng)
        for name, call in {"ours": current.ours, **current.peers}.items():
            sample = timed_ms(call)
            if number >= WARM_UPS:
                times.setdefault(name, []).append(sample)
        current.check(current.ours())
    series = {name: np.array(values) for name, values in times.items()}
    ours = series.pop("ours")
    record: dict[str, object] = {"row": case.row, "input": case.input, "ours_ms": float(np.median(ours))}
    record |= {"peer": None, "peer_ms": None, "ratio": None, "ratio_low": None, "ratio_high": None}
    if series:
        best = min(series, key=lambda name: float(np.median(series[name])))
        ratio, low, high = ratio_with_interval(series[best], ours, rng)
        record |= {"peer": best, "peer_ms": float(np.median(series[best]))}
        record |= {"ratio": ratio, "ratio_low": low, "ratio_high": high}
    return record | {"target": case.target, "floor_ms": case.floor_ms, "machine": describe_machine()}


def print_record(record: dict) -> None:
    """Print one line of the table."""
    line = f"{record['row']:4} {record['input']:34} {record['ours_ms']:9.3f} "
    if record["peer"] is None:
        print(line + "no peer installed", flush=True)
        return
    low, high = record["ratio_low"], record["ratio_high"]
    verdict = "met" if low >= record["target"] else "missed"
    line += f"{record['peer']:>14} {record['peer_ms']:9.3f} {record['ratio']:7.2f} ({low:.2f}..{high:.2f})"
    print(f"{line}  >= {record['target']:g} {verdict}, floor {record['floor_ms']:g} ms", flush=True)


def main(title: str | None, cases: Sequence[Case]) -> None:
    """Run a table from the command line: ``--rounds``, ``--rows A6 A7``, ``--threads``, ``--json FILE``."""
    parser = argparse.ArgumentParser(description=title, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", nargs="*", help="rows to run; all without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the records to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(arguments.seed)
    print(describe_machine())
    print(f"{'row':4} {'input':34} {'ours ms':>9} {'best peer':>14} {'its ms':>9} {'ratio':>7} (95 %)")
    records = []
    for case in cases:
        if arguments.rows and case.row not in arguments.rows:
            continue
        records.append(measure(case, arguments.rounds, rng))
        print_record(records[-1])
        if arguments.json:  # after every row: a run that is stopped keeps what it measured
            arguments.json.write_text(json.dumps(records, indent=1))
