# SPDX-License-Identifier: Apache-2.0
"""What every perception node does around its work: newest-wins slot, rate limit, accounting, errors."""

from __future__ import annotations

import time
import traceback
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pc_perception.inference.stream import Worker

from .outputs import Outputs
from .perception_node import PerceptionNode
from .runtime import RateLimiter, Report, Stopwatch, Vitals

T = TypeVar("T")


class Arrival(NamedTuple, Generic[T]):
    """What came in and the ``perf_counter`` second at which its callback ran."""

    msg: T
    at: float


class NodeWorker(ABC, Generic[T]):
    """The work of a configured node; between ``start`` and ``stop`` its thread processes what is newest.

    A subclass implements ``process``, and ``load`` where it reads a file. Its module may import torch, which
    the node therefore imports when it is configured (``runtime.limit_threads`` comes first).

    Attributes:
        reads: what kind of file ``load`` reads.
        values: the node's parameters, the newest.
        words: what the node's inputs and its work are called in diagnostics.
    """

    reads: ClassVar[str] = "model"

    def __init__(self, node: PerceptionNode, outputs: Outputs) -> None:
        self.node, self.outputs = node, outputs
        self.values, self.words = node.values, node.words
        self.vitals, self._limiter = Vitals(self.words), RateLimiter()
        self._worker: Worker[Arrival[T]] | None = None
        self._free_at = self._last_sent = float("-inf")

    def load(self) -> None:
        """Read the node's file again; where that raises, everything stays as it was."""
        raise ValueError("this node reads none")

    def describe(self) -> str:
        """Return what the log says once the node is configured."""
        return "configured"

    def apply(self, values: dict[str, Any]) -> None:
        """Take over parameters that were changed."""
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
        """Destroy publishers and subscriptions."""
        self.outputs.close()

    def wanted(self) -> bool:
        """Say whether there is reason to work."""
        return self.outputs.wanted()

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

    def _run(self, arrival: Arrival[T]) -> None:
        self.process(arrival.msg, Stopwatch(arrival.at, self._free_at))
        self._free_at = time.perf_counter()

    def account(self, stamp_ns: int, invalid_share: float, stages: dict[str, float]) -> None:
        """Keep and publish how long one input took; ``stages`` as ``Stopwatch.stages`` gives them."""
        now = time.perf_counter()
        age_ms = (self.node.get_clock().now().nanoseconds - stamp_ns) / 1e6 if stamp_ns else None
        self.vitals.sent(age_ms, self.values["max_age_ms"], **stages)
        self.vitals.invalid_share = invalid_share
        if self.values["publish_debug"]:
            age = {} if age_ms is None else {"pipeline_latency": age_ms}
            self.outputs.send_debug(cyclic_time=1e3 * (now - self._last_sent), **age, **stages)
        self._last_sent = now

    def _on_error(self, error: Exception) -> None:
        self.vitals.failed(str(error))
        skipped = f"{self.words.item} skipped"
        if isinstance(error, ValueError):
            self.node.get_logger().warning(f"{skipped}: {error}", throttle_duration_sec=5.0)
        else:
            told = "".join(traceback.format_exception(error))
            self.node.get_logger().error(f"{skipped}: {told}", throttle_duration_sec=5.0)
