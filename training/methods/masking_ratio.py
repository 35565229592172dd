# SPDX-License-Identifier: Apache-2.0
"""How many tokens are hidden in the course of a run: Point-MGE's sliding ratio and what it is compared with.

The paper says that the ratio slides from one for representations to one for generation; the rules are
[PROPOSED], or the public reproduction's. Over three seeds without labels both sliding rules make better shapes than
constant ratios; ``sliding``, which ends at 1, costs features, ``beta-power``, which ends at 0.75, none beyond
the spread of seeds (docs/results/point_mge.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

KINDS = ("sliding", "beta-power", "constant")


@dataclass(frozen=True)
class MaskingRatio:
    """A rule for the share of tokens that is hidden.

    Attributes:
        kind: ``sliding``: truncated normal distribution whose mean goes from ``start`` to ``end`` (MAGE's at first);
            ``beta-power``: max(beta, 1 - beta^(power t)); ``constant``: ``start``.
        start, end: ratios at the beginning and the end of the run.
        deviation, least: of the truncated normal distribution on least .. 1.
        beta, power: of ``beta-power``.
    """

    kind: str = "sliding"
    start: float = 0.55
    end: float = 1.0
    deviation: float = 0.25
    least: float = 0.5
    beta: float = 0.5
    power: float = 2.0

    def validate(self) -> None:
        """Raise ValueError where a value makes no sense."""
        if self.kind not in KINDS:
            raise ValueError(f"a masking ratio is one of {', '.join(KINDS)}; got '{self.kind}'")
        shares = (self.start, self.end, self.least, self.beta)
        if (
            not all(0 < s <= 1 for s in shares)
            or not self.least < 1
            or self.deviation <= 0
            or self.power <= 0
        ):
            raise ValueError(f"ratios must lie in 0 .. 1, deviation and power be positive; got {self}")

    def center(self, fraction: float) -> float:
        """Return the distribution's mean before truncation, or the ratio itself, when ``fraction`` is done."""
        if self.kind == "sliding":
            return self.start + (self.end - self.start) * fraction
        if self.kind == "constant":
            return self.start
        return max(self.beta, 1 - self.beta ** (self.power * fraction))

    def at(self, fraction: float, u: float | NDArray) -> NDArray:
        """Return the ratio for ``u`` from 0 .. 1, evenly drawn, when ``fraction`` of the run is done."""
        center = self.center(fraction)
        if self.kind != "sliding":
            return np.full(np.shape(u), center)
        low, high = ndtr((np.array([self.least, 1.0]) - center) / self.deviation)
        return np.clip(center + self.deviation * ndtri(low + np.asarray(u) * (high - low)), self.least, 1.0)


def n_hidden(ratio: float, n: int) -> int:
    """Return ceil(ratio n): how many of ``n`` tokens a ratio hides."""
    return min(math.ceil(ratio * n - 1e-9), n)
