# SPDX-License-Identifier: Apache-2.0
"""How far a run is, and the learning rate that follows from it."""

from __future__ import annotations

import math
import time


class Progress:
    """Steps and minutes of a run against their limits; survives a resume."""

    def __init__(self, max_steps: int, max_minutes: float, elapsed_s: float = 0.0) -> None:
        self.max_steps, self.max_minutes = max_steps, max_minutes
        self._before_s, self._start = elapsed_s, time.monotonic()

    def start(self) -> None:
        """Let the clock begin now."""
        self._start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, earlier sessions included."""
        return self._before_s + time.monotonic() - self._start

    def fraction(self, step: int) -> float:
        """Return how much of the run is done, 0 .. 1, by whichever limit is nearer."""
        by_step = step / self.max_steps if self.max_steps else 0.0
        by_time = self.elapsed_s / (60 * self.max_minutes) if self.max_minutes else 0.0
        return min(max(by_step, by_time), 1.0)


def rate(fraction: float, warm_up: float, final: float = 0.005) -> float:
    """Return the factor of the learning rate: a line up to 1, then a cosine down to ``final``."""
    if fraction < warm_up:
        return max(fraction / warm_up, 1e-3)
    phase = (fraction - warm_up) / (1 - warm_up)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * phase))
