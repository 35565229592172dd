# SPDX-License-Identifier: Apache-2.0
"""What a live process does around its work, whatever carries its messages: a ROS 2 node, a DDS server, a test.

What differs between carriers is a ``Transport``.
"""

from __future__ import annotations

import time
import traceback
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from pc_perception.cloud import PointCloud

from .vitals import RateLimiter, Report, Stopwatch, Vitals, Words
from .worker import Worker

T = TypeVar("T")


class Transport(Protocol):
    """What carries messages to and from a worker. All but ``wanted`` is called on the worker's thread too."""

    def wanted(self) -> bool:
        """Say whether somebody listens to the output."""

    def now_ns(self) -> int:
        """Return the time that stamps are compared with, nanoseconds."""

    def complain(self, text: str, unexpected: bool) -> None:
        """Log why an input was skipped, at most every few seconds; ``unexpected`` errors are ours."""

    def warn(self, text: str) -> None:
        """Log a warning."""

    def send_debug(self, **milliseconds: float) -> None:
        """Publish latencies."""

    def close(self) -> None:
        """End publishers and subscriptions."""


class Arrival(NamedTuple, Generic[T]):
    """What came in and the ``perf_counter`` second at which its callback ran."""

    msg: T
    at: float


class LiveWorker(ABC, Generic[T]):
    """Newest wins, rate limit, accounting and errors around ``process``.

    Between ``start`` and ``stop`` a thread processes what is newest. A subclass implements ``process``, and
    ``load`` where it reads a file.

    Attributes:
        reads: what kind of file ``load`` reads.
        values: the options by name, the newest; ``max_rate_hz``, ``max_age_ms`` and ``publish_debug`` are
            used here.
        words: what inputs and the work are called in diagnostics.
    """

    reads: ClassVar[str] = "model"

    def __init__(self, transport: Transport, values: dict[str, Any], words: Words | None = None) -> None:
        self.transport, self.values, self.words = transport, values, words or Words()
        self.vitals, self._limiter = Vitals(self.words), RateLimiter()
        self._worker: Worker[Arrival[T]] | None = None
        self._free_at = self._last_sent = float("-inf")

    def load(self) -> None:
        """Read the file again; where that raises, everything stays as it was."""
        raise ValueError("there is none to read")

    def describe(self) -> str:
        """Return what the log says once everything is loaded."""
        return "configured"

    def apply(self, values: dict[str, Any]) -> None:
        """Take over options that were changed."""
        self.values = values

    def start(self) -> None:
        """Start the thread."""
        self._worker = Worker(self._run, self._on_error)

    def stop(self) -> None:
        """Finish what is at hand and end the thread."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def close(self) -> None:
        """End publishers and subscriptions."""
        self.transport.close()

    def wanted(self) -> bool:
        """Say whether there is reason to work."""
        return self.transport.wanted()

    def take(self, msg: T) -> None:
        """Hand an input to the thread; a subscription's callback."""
        now = time.perf_counter()
        self.vitals.arrived()
        if not self.wanted():
            self.vitals.counts["unheard"] += 1
        elif not self._limiter.admit(self.values["max_rate_hz"], now):
            self.vitals.counts["limited"] += 1
        elif self._worker is not None:
            self._worker.slot.put(Arrival(msg, now))

    def reports(self) -> dict[str, Report]:
        """Return the diagnostics since the last call, by name."""
        return {self.words.doing: self.vitals.report(self._worker.slot.dropped if self._worker else 0)}

    # What follows runs on the worker's thread.

    @abstractmethod
    def process(self, msg: T, watch: Stopwatch) -> None:
        """Work on one input: decode, mark, compute, mark, send, mark, ``account``.

        Raises:
            ValueError: with what is wrong about the input, which is then skipped.
        """

    def account(self, stamp_ns: int, invalid_share: float, stages: dict[str, float]) -> None:
        """Keep and publish how long one input took; ``stages`` as ``Stopwatch.stages`` gives them."""
        now = time.perf_counter()
        age_ms = (self.transport.now_ns() - stamp_ns) / 1e6 if stamp_ns else None
        self.vitals.sent(age_ms, self.values["max_age_ms"], **stages)
        self.vitals.invalid_share = invalid_share
        if self.values["publish_debug"]:
            age = {} if age_ms is None else {"pipeline_latency": age_ms}
            self.transport.send_debug(cyclic_time=1e3 * (now - self._last_sent), **age, **stages)
        self._last_sent = now

    def _run(self, arrival: Arrival[T]) -> None:
        self.process(arrival.msg, Stopwatch(arrival.at, self._free_at))
        self._free_at = time.perf_counter()

    def _on_error(self, error: Exception) -> None:
        self.vitals.failed(str(error))
        expected = isinstance(error, ValueError)
        told = str(error) if expected else "".join(traceback.format_exception(error))
        self.transport.complain(f"{self.words.item} skipped: {told}", unexpected=not expected)


def invalid_share(cloud: PointCloud) -> float:
    """Return the share of points that are not finite; 0 for no points."""
    return 1.0 - float(cloud.finite().mean()) if len(cloud) else 0.0
