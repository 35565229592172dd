# SPDX-License-Identifier: Apache-2.0
"""Time an operation of ours against its peers in alternating rounds, and say how sure the ratio is.

A table is a list of ``Case``; ``report`` runs and prints it. Every round makes a fresh input, runs ours
and each installed peer in turn and checks ours. The ratio is median(best peer) / median(ours); a target is
met when the lower end of the ratio's 95 % bootstrap interval reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from time import perf_counter

import numpy as np

WARM_UPS = 3
FLOOR = "floor"
SAMPLE_S = 0.004
"""Calls shorter than this are repeated until a sample lasts as long."""


@dataclass
class Round:
    """What one round times: calls without arguments, on one fresh input.

    Attributes:
        ours: our call.
        peers: the peers' calls by name; those not installed are left out (see ``installed``).
        check: raises when the result of ``ours`` is wrong; run once a round, not timed.
        floor: what no implementation can do without, such as a copy of the bytes; timed where there is one.
    """

    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]] = field(default_factory=dict)
    check: Callable[[object], None] = lambda result: None
    floor: Callable[[], object] | None = None


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

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Return the record of the row: medians in ms, the fastest peer and the ratio to it."""
        times: dict[str, list[float]] = {}
        for number in range(rounds + WARM_UPS):
            current = self.prepare(rng)
            calls = {"ours": current.ours, **current.peers}
            if current.floor:
                calls[FLOOR] = current.floor
            for name, call in calls.items():
                sample = timed_ms(call)
                if number >= WARM_UPS:
                    times.setdefault(name, []).append(sample)
            current.check(current.ours())
        floor_ms = float(np.median(times.pop(FLOOR))) if FLOOR in times else self.floor_ms
        record = compare({name: np.array(values) for name, values in times.items()}, rng)
        return record | {"target": self.target, "floor_ms": floor_ms}


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


def compare(series: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, object]:
    """Return medians, best peer and ratio of the times by name; those of "ours" against all others."""
    peers = {name: times for name, times in series.items() if name != "ours"}
    record: dict[str, object] = {"ours_ms": float(np.median(series["ours"]))}
    record |= {"peer": None, "peer_ms": None, "ratio": None, "ratio_low": None, "ratio_high": None}
    if not peers:
        return record
    best = min(peers, key=lambda name: float(np.median(peers[name])))
    ratio, low, high = ratio_with_interval(peers[best], series["ours"], rng)
    record |= {"peer": best, "peer_ms": float(np.median(peers[best]))}
    return record | {"ratio": ratio, "ratio_low": low, "ratio_high": high}
