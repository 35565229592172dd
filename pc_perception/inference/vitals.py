# SPDX-License-Identifier: Apache-2.0
"""What a live stream keeps about itself: counters, rates, times of stages, the state it reports.

Needs neither torch nor ROS, so that a node can load it before it sets the number of threads.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

OK, WARN, ERROR = 0, 1, 2
SUSTAINED_PERIODS = 5
SILENCE_S = 3.0
FUTURE_MS = 100.0
PAST_MS = 3_600_000.0
"""What is older than this is not late: another clock stamped it."""


@dataclass
class Timing:
    """The last ``window`` durations of each named stage, in milliseconds."""

    window: int = 1000
    _stages: dict[str, deque[float]] = field(default_factory=dict)

    def add(self, **milliseconds: float) -> None:
        """Record one duration per stage."""
        for name, value in milliseconds.items():
            self._stages.setdefault(name, deque(maxlen=self.window)).append(value)

    def percentile(self, stage: str, q: float) -> float:
        """Return the q-th percentile (0..100) of a stage in ms; NaN when nothing was recorded."""
        values = self._stages.get(stage)
        return float(np.percentile(list(values), q)) if values else float("nan")

    def last(self, stage: str) -> float:
        """Return the newest duration of a stage in ms; NaN when nothing was recorded."""
        values = self._stages.get(stage)
        return values[-1] if values else float("nan")

    @property
    def stages(self) -> tuple[str, ...]:
        """Names recorded so far, in order of first appearance."""
        return tuple(self._stages)


class RateMeter:
    """Events per second over the last few seconds of a monotonic clock."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s, self._times = window_s, deque[float]()

    def tick(self) -> None:
        """Note one event now."""
        self._times.append(time.monotonic())

    @property
    def hz(self) -> float:
        """Rate over the window, 0 when fewer than two events lie in it."""
        now = time.monotonic()
        while self._times and now - self._times[0] > self._window_s:
            self._times.popleft()
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9)


class RateLimiter:
    """Let through at most so many events per second."""

    def __init__(self) -> None:
        self._due = float("-inf")

    def admit(self, max_rate_hz: float, now: float) -> bool:
        """Say whether an event at ``now`` (monotonic seconds) may pass; a rate of 0 lets all pass."""
        if max_rate_hz <= 0:
            return True
        period = 1.0 / max_rate_hz
        # A tenth of slack: a sensor at exactly the limit jitters around it, and none should be lost.
        if now < self._due - 0.1 * period:
            return False
        on_beat = now - self._due < period
        self._due = (self._due if on_beat else now) + period
        return True


class Stopwatch:
    """Milliseconds of one input's stages; ``busy_until`` is when the one before it was done."""

    def __init__(self, arrived: float, busy_until: float) -> None:
        self._arrived, self._begun = arrived, time.perf_counter()
        self._busy_ms = max(busy_until - arrived, 0.0) * 1e3
        self._marks = [self._begun]

    def mark(self) -> None:
        """Note the end of a stage: decoded, then computed, then sent."""
        self._marks.append(time.perf_counter())

    def stages(self, model_ms: dict[str, float] | None = None) -> dict[str, float]:
        """Return the stages in ms, after three marks; ``model_ms`` are a model's own, None where there is none.

        ``total`` counts from the callback to the message sent; ``overhead`` is ``total`` without the
        model and without waiting for the one before.
        """
        begun, decoded, computed, sent = self._marks
        decoding, sending = 1e3 * (decoded - begun), 1e3 * (sent - computed)
        total = 1e3 * (sent - self._arrived)
        model_ms = {"network": 1e3 * (computed - decoded)} if model_ms is None else model_ms
        return {
            "preprocess": decoding + model_ms.get("prepare", 0.0),
            "inference": model_ms.get("network", 0.0),
            "postprocess": sending + model_ms.get("finish", 0.0),
            "total": total,
            "overhead": total - sum(model_ms.values()) - self._busy_ms,
        }


class Report(NamedTuple):
    """One diagnostic: 0 ok, 1 warning, 2 error; a sentence; values by name."""

    level: int
    text: str
    values: dict[str, object]


class Words(NamedTuple):
    """How a node's diagnostics call what comes in and what is done with it."""

    item: str = "sweep"
    source: str = "cloud"
    doing: str = "labelling"
    done: str = "labelled"


class Vitals:
    """Counts what happens to inputs and sums it up once per period."""

    def __init__(self, words: Words | None = None) -> None:
        self._words = words or Words()
        self.counts: Counter[str] = Counter()
        self.input, self.output, self.timing = RateMeter(), RateMeter(), Timing()
        self.last_error = ""
        self.invalid_share = 0.0
        self.sensor: dict[str, str] = {}
        self._before: Counter[str] = Counter()
        self._overrun_periods = 0
        self._last_input = time.monotonic()

    def arrived(self) -> None:
        """Note a message from the sensor."""
        self.input.tick()
        self.counts["received"] += 1
        self._last_input = time.monotonic()

    def failed(self, reason: str) -> None:
        """Note an input that could not be processed."""
        self.counts["failed"] += 1
        self.last_error = reason

    def sent(self, age_ms: float | None, max_age_ms: float, **stages_ms: float) -> None:
        """Note an output, ``age_ms`` after its stamp; None where the stamp was zero."""
        self.output.tick()
        self.counts[self._words.done] += 1
        self.timing.add(**stages_ms)
        if age_ms is None:
            self.counts["unstamped"] += 1
            return
        self.timing.add(age=age_ms)
        self.counts["late"] += max_age_ms < age_ms <= PAST_MS
        self.counts["past"] += age_ms > PAST_MS
        self.counts["future"] += age_ms < -FUTURE_MS

    def report(self, dropped: int) -> Report:
        """Sum up since the last call; ``dropped`` is the total that newer inputs replaced."""
        self.counts["dropped"] = dropped
        new = {name: n - self._before[name] for name, n in self.counts.items()}
        self._before = Counter(self.counts)
        self._overrun_periods = self._overrun_periods + 1 if new.get("late") else 0
        level, text = self._judge(new)
        return Report(level, text, self._values())

    def _judge(self, new: dict[str, int]) -> tuple[int, str]:
        item, source, doing, done = self._words
        silence = time.monotonic() - self._last_input
        if self._overrun_periods >= SUSTAINED_PERIODS:
            return ERROR, f"output is too old, for {self._overrun_periods} reports in a row"
        if new.get("failed"):
            return WARN, f"{new['failed']} {item}(s) not {done}: {self.last_error}"
        if silence > SILENCE_S:
            return WARN, f"no {source} for {silence:.0f} s"
        if new.get("unstamped"):
            return WARN, f"{new['unstamped']} {item}(s) have a stamp of zero: the driver must set it"
        if new.get("future"):
            ahead_s = -self.timing.last("age") / 1e3
            return WARN, f"stamps lie {ahead_s:.1f} s in the future: compare the clocks, and use_sim_time"
        if new.get("past"):
            behind_s = self.timing.last("age") / 1e3
            return WARN, (
                f"stamps lie {behind_s:.0f} s in the past: set the sensor's clock (PTP), let its driver stamp with "
                "this machine's, or set use_sim_time for a bag"
            )
        if new.get("late"):
            return WARN, f"{new['late']} output(s) too old"
        if new.get("dropped"):
            return WARN, f"{new['dropped']} {item}(s) dropped for newer ones"
        if new.get("unheard") and not new.get(done):
            return OK, "idle: nobody listens to the output"
        return OK, doing if new.get(done) else "waiting"

    def _values(self) -> dict[str, object]:
        values: dict[str, object] = {
            "input_hz": f"{self.input.hz:.2f}",
            "output_hz": f"{self.output.hz:.2f}",
            "invalid_points_share": f"{self.invalid_share:.4f}",
            "last_error": self.last_error,
        }
        counted = ("received", self._words.done, "dropped", "unheard", "limited", "failed")
        for name in (*counted, "late", "past", "future", "unstamped"):
            values[name] = self.counts[name]
        for stage in tuple(self.timing.stages):
            values |= _summary(self.timing, stage)
        return values


def _summary(timing: Timing, stage: str) -> dict[str, object]:
    return {
        f"{stage}_ms": f"{timing.last(stage):.2f}",
        f"{stage}_ms_p50": f"{timing.percentile(stage, 50):.2f}",
        f"{stage}_ms_p95": f"{timing.percentile(stage, 95):.2f}",
        f"{stage}_ms_p99": f"{timing.percentile(stage, 99):.2f}",
    }
