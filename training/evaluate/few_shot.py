# SPDX-License-Identifier: Apache-2.0
"""Few-shot accuracy: mean and standard deviation over folds (protocols, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.data.few_shot_folds import Fold
from training.metrics import mean_std
from training.object_views import MODELNET40

from .features import Describe, View, describe_all
from .probes import Probe, run_probe


@dataclass(frozen=True)
class FewShotResult:
    """Accuracy on each fold; the published tables say mean ± std over ten.

    Attributes:
        way, shot: classes, and objects of each to learn from.
        accuracy: one of each fold, of the last state of what was fitted, never of the best on the test.
    """

    way: int
    shot: int
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over folds."""
        return mean_std(self.accuracy)[0]

    @property
    def std(self) -> float:
        """Sample standard deviation over folds."""
        return mean_std(self.accuracy)[1]

    def __str__(self) -> str:
        return (
            f"{self.way} way {self.shot} shot: {100 * self.mean:.1f} ± {100 * self.std:.1f} % "
            f"({len(self.accuracy)} folds)"
        )


def run_folds(folds: Sequence[Fold], learn: Callable[[Fold, int], float]) -> FewShotResult:
    """Run ``learn(fold, number)`` on every fold; it returns the accuracy on the fold's test objects.

    Published numbers take the best epoch on the test objects; a number for comparison should not.

    Raises:
        ValueError: there are no folds, or they differ in way or shot.
    """
    sizes = {(len(f.train.classes), len(f.train) // len(f.train.classes)) for f in folds}
    if len(sizes) != 1:
        raise ValueError(f"folds must be of one way and shot, there are {sorted(sizes) or 'none'}")
    way, shot = sizes.pop()
    return FewShotResult(way, shot, tuple(learn(fold, k) for k, fold in enumerate(folds)))


def probe_folds(
    describe: Describe, folds: Sequence[Fold], probe: Probe | None = None, view: View = MODELNET40
) -> FewShotResult:
    """Few-shot accuracy of a probe on frozen features."""
    chosen = probe or Probe()

    def learn(fold: Fold, number: int) -> float:
        train, test = (describe_all(describe, side, view) for side in (fold.train, fold.test))
        return run_probe(chosen, train, test).accuracy

    return run_folds(folds, learn)
