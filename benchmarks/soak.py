# SPDX-License-Identifier: Apache-2.0
"""Days of running in minutes: ``python -m benchmarks soak [--targets serve segment_node ...]``.

A target runs in a process of its own and is fed over DDS on loopback with what a sensor of 10 Hz sends, on
simulated time: the next input follows as soon as the last one is answered, so that every one is worked on. Every
hundredth is malformed. In every cycle the sensor is unplugged and plugged in again, the clock jumps an hour back and
forth, TF is missing for a while, and the file that the target reads is replaced, by a good one or by rubbish, and
read again. In the end comes SIGTERM. Memory, file handles and threads are watched from outside. ROS 2 nodes need a
sourced ROS 2.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.feeds import Feed, make_feed
from benchmarks.machine import describe_machine
from benchmarks.node import LOOPBACK
from benchmarks.soak_peers import DdsPeer, Peer, RosPeer, spin_until

TARGETS = ("segment_node", "classify_node", "rgbd_node", "fuse_node", "calibrate_node", "serve")
MALFORMED_EVERY = 100
WARM_UP = 100
PERIOD_NS = 10**8
START_NS = 10_000 * 10**9
HOUR_NS = 3_600 * 10**9
JUMP_SWEEPS, BLIND_SWEEPS = 50, 20
UNPLUGGED_S = 3.5
"""Longer than what a node takes for silence."""
START_S, ANSWER_S = 300.0, 5.0
MATCH_S = 0.5
"""So much later than a publisher its subscriber may know of the match."""
N_SAMPLES = 500
MAX_GROWTH_MB = 4.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--sweeps", type=int, default=1500, help="two hours at 10 Hz are 72,000")
    parser.add_argument("--points", type=int, default=1500, help="per sweep: few make many sweeps")
    parser.add_argument("--cycles", type=int, default=4, help="how often everything goes wrong")
    parser.add_argument("--log", type=Path, help="folder for each target's samples, as JSON")


@dataclass
class Watch:
    """A process as seen from outside."""

    pid: int
    rss_mb: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def sample(self) -> None:
        """Note memory, file handles and threads."""
        import psutil

        process = psutil.Process(self.pid)
        self.rss_mb.append(process.memory_info().rss / 2**20)
        self.handles.append(process.num_fds())
        self.threads.append(process.num_threads())

    def grown(self) -> bool:
        """Say whether the last fifth lies above the middle one; the first one still fills its buffers."""
        memory, handles, threads = (_fifths(v) for v in (self.rss_mb, self.handles, self.threads))
        return memory[2] - memory[1] > MAX_GROWTH_MB or handles[2] > handles[1] or threads[2] > threads[1]


def _fifths(values: list[Any]) -> list[float]:
    """Return the medians of the first, the middle and the last fifth."""
    return [float(np.median(part)) for part in (np.array_split(values, 5)[k] for k in (0, 2, 4))]


def command(target: str, feed: Feed, domain: int) -> list[str]:
    """Return how a target is started."""
    if target == "serve":
        return [sys.executable, "-m", "pc_perception.cli", target, "--domain", str(domain), *feed.arguments]
    start = [sys.executable, "-m", f"ros2_nodes.{target}", "--ros-args", "--log-level", "fatal"]
    return [*start, "-p", "use_sim_time:=true", "-p", "tf_timeout_s:=0.02", *feed.arguments]


class Soak:
    """One target under everything that goes wrong.

    Attributes:
        counts: sent, malformed, and how many of the good inputs were due an answer and got it.
        faults: what was done to it, how often.
    """

    def __init__(self, peer: Peer, feed: Feed, watch: Watch, arguments: argparse.Namespace) -> None:
        self._peer, self._feed, self._watch, self._arguments = peer, feed, watch, arguments
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._now_ns, self._behind_ns = START_NS, 0
        self._good = feed.file.read_bytes() if feed.file else b""

    def run(self) -> None:
        """Send all sweeps, with every fault in every cycle."""
        n = self._arguments.sweeps
        cycle = max(n // self._arguments.cycles, 5 * JUMP_SWEEPS)
        faults = {
            cycle // 5: self._unplug,
            2 * cycle // 5: self._jump,
            2 * cycle // 5 + JUMP_SWEEPS: self._jump,
            3 * cycle // 5: self._replace,
        }
        blind = range(4 * cycle // 5, 4 * cycle // 5 + BLIND_SWEEPS)
        every = max(n // N_SAMPLES, 1)
        for i in range(-WARM_UP, n):
            at = i % cycle
            if i >= 0 and at in faults:
                faults[at]()
            self.faults["TF missing"] += i >= 0 and at == blind.start
            self._sweep(i, placed=i < 0 or at not in blind)
            if i >= 0 and i % every == 0:
                self._watch.sample()

    def _sweep(self, i: int, placed: bool) -> None:
        self._now_ns += PERIOD_NS
        stamp_ns = self._now_ns - self._behind_ns
        self._peer.tick(stamp_ns)
        if placed:
            self._peer.place(stamp_ns)
        malformed = i % MALFORMED_EVERY == MALFORMED_EVERY - 1
        for topic, msg in self._feed.messages(i, stamp_ns, malformed).items():
            self._peer.send(topic, msg)
        self.counts["sent"] += 1
        self.counts["malformed"] += malformed
        if malformed or not placed:
            self._peer.spin(0.05)
            return
        self.counts["due"] += 1
        self.counts["answered"] += spin_until(
            self._peer, lambda: self._peer.answered_ns == stamp_ns, ANSWER_S
        )

    def _unplug(self) -> None:
        self.faults["unplugged"] += 1
        self._peer.unplug()
        spin_until(self._peer, lambda: False, UNPLUGGED_S)
        self._peer.plug()
        if not spin_until(self._peer, self._peer.heard, 60.0):
            raise RuntimeError("the target does not listen to the sensor that was plugged in again")
        spin_until(self._peer, lambda: False, MATCH_S)

    def _jump(self) -> None:
        self.faults["clock jumps"] += 1
        self._behind_ns = HOUR_NS - self._behind_ns
        self._peer.tick(self._now_ns - self._behind_ns)
        spin_until(self._peer, lambda: False, 0.3)

    def _replace(self) -> None:
        """Put another file in the place of the one that was read; of rubbish nothing may be taken over."""
        rubbish = self.faults["file replaced"] % 2 == 1
        self.faults["file replaced"] += 1
        file = self._feed.file
        assert file is not None
        for content in (b"rubbish", self._good) if rubbish else (self._good,):
            new = file.with_suffix(".new")
            new.write_bytes(content)
            new.replace(file)
            told = self._peer.reload()
            if told is not None and told != (content == self._good):
                raise RuntimeError(f"a reload of {content[:7]!r} said {told}")


def soak(target: str, arguments: argparse.Namespace, domain: int, folder: Path) -> tuple[bool, str]:
    """Feed one target; return whether all is well, and its line of the table.

    Raises:
        RuntimeError: it does not listen, or takes over a spoilt file.
    """
    feed = make_feed(target, arguments.points, folder)
    log = folder / f"{target}.txt"
    with log.open("w") as errors:
        process = subprocess.Popen(command(target, feed, domain), stdout=subprocess.DEVNULL, stderr=errors)
    watch = Watch(process.pid)
    peer: Peer = (DdsPeer if target == "serve" else RosPeer)(feed, domain, target)
    run = Soak(peer, feed, watch, arguments)
    started, code = time.monotonic(), None
    try:
        peer.plug()
        if (
            not spin_until(peer, lambda: peer.heard() or process.poll() is not None, START_S)
            or process.poll()
        ):
            raise RuntimeError(
                f"{target} does not listen (exit code {process.poll()}): {log.read_text()[-500:]}"
            )
        peer.place(START_NS)  # the first message of a reliable topic waits until both sides have shaken hands
        spin_until(peer, lambda: False, MATCH_S)
        started = time.monotonic()
        run.run()
        spin_until(peer, lambda: False, 1.5)  # the last diagnostics
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        peer.close()
    seconds = time.monotonic() - started
    if arguments.log is not None:
        _write_log(arguments.log / f"{target}.json", target, run, watch, peer, code, seconds)
    columns = [
        " -> ".join(f"{v:.0f}" for v in _fifths(values))
        for values in (watch.rss_mb, watch.handles, watch.threads)
    ]
    c = run.counts
    share = f"{c['answered']:,} of {c['due']:,}"
    verdict = "grows" if watch.grown() else "flat"
    return verdict == "flat" and code == 0, (
        f"{target:<15}{c['sent']:>8,}{c['malformed']:>10}{share:>19}{columns[0]:>20}{columns[1]:>16}"
        f"{columns[2]:>16}{verdict:>7}{code:>6}{seconds / 60:>6.1f}"
    )


def _write_log(
    path: Path, target: str, run: Soak, watch: Watch, peer: Peer, code: int, seconds: float
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {
        "target": target, "counts": run.counts, "faults": run.faults, "told": peer.told, "exit": code,
        "seconds": seconds, "rss_mb": watch.rss_mb, "handles": watch.handles, "threads": watch.threads,
    }  # fmt: skip
    path.write_text(json.dumps(known))


def run(arguments: argparse.Namespace) -> None:
    """Print the table; exit 1 where a target grows, or does not end as it should."""
    os.environ["CYCLONEDDS_URI"] = LOOPBACK
    domain = 100 + os.getpid() % 100
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    print(
        f"{describe_machine()}; {arguments.points:,} points a sweep, everything wrong {arguments.cycles} times"
    )
    print(
        f"{'':<15}{'sent':>8}{'malformed':>10}{'answered':>19}{'RSS, MB':>20}{'handles':>16}{'threads':>16}"
        f"{'':>7}{'exit':>6}{'min':>6}"
    )
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        for target in arguments.targets:
            try:
                well, line = soak(target, arguments, domain, Path(folder))
            except RuntimeError as error:
                well, line = False, f"{target:<15}{error}"
            print(line, flush=True)
            bad += [] if well else [target]
    if bad:
        raise SystemExit(f"not as they should be: {', '.join(bad)}")
