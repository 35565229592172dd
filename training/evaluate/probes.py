# SPDX-License-Identifier: Apache-2.0
"""Probes: how well simple classifiers do on the features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .accuracy import Accuracy, measure
from .features import Described

SVM_C = 0.075
"""Of the linear SVM on ModelNet40 in ReCon and Point-PQAE."""
CHOICES: dict[str, tuple[float, ...]] = {
    "svm": (0.001, 0.01, 0.075, 0.5, 2.0),
    "linear": (0.01, 0.1, 1.0, 10.0, 100.0),
    "knn": (1, 3, 5, 10, 20),
}
"""What is tried on the validation objects: C of the SVM and of logistic regression, neighbours."""


@dataclass(frozen=True)
class Probe:
    """A simple classifier.

    Attributes:
        kind: ``svm`` (linear, one against the rest), ``linear`` (logistic regression) or ``knn`` (cosine).
        strength: C, or the number of neighbours; 0 chooses it on validation objects.
        standardise: bring features to mean 0 and variance 1 over the training objects; published SVMs do not.
        seed: of the SVM's solver.
    """

    kind: str = "svm"
    strength: float = SVM_C
    standardise: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in CHOICES or self.strength < 0:
            raise ValueError(
                f"there is no probe '{self.kind}' {self.strength}; kinds are {', '.join(CHOICES)}"
            )

    def fit(self, train: Described, strength: float) -> Any:
        """Return scikit-learn's estimator, fitted.

        Raises:
            ValueError: the training objects are of a single class.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        if len(np.unique(train.labels)) < 2:
            raise ValueError("a probe needs training objects of at least two classes")
        if self.kind == "svm":
            # The same optimum, from the side with fewer unknowns: several times faster.
            dual = len(train.features) < train.features.shape[1]
            last: Any = LinearSVC(C=strength, random_state=self.seed, max_iter=5000, dual=dual)
        elif self.kind == "linear":
            last = LogisticRegression(C=strength, max_iter=2000)
        else:
            last = KNeighborsClassifier(min(int(strength), len(train.labels)), metric="cosine")
        model = make_pipeline(StandardScaler(), last) if self.standardise else last
        return _fit_quietly(model, train)


def _fit_quietly(model: Any, train: Described) -> Any:
    """Fit without two warnings: a solver at its limit of steps is good enough for a probe, and few are many here."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        return model.fit(train.features, train.labels)


@dataclass(frozen=True)
class ProbeResult:
    """What a probe reached.

    Attributes:
        test: on the test objects.
        strength: C or neighbours that were used; chosen: True where a validation split chose it.
        validation: accuracy there; NaN where none was used.
        n_train: objects it was fitted on.
    """

    test: Accuracy
    strength: float
    chosen: bool
    validation: float
    n_train: int

    @property
    def accuracy(self) -> float:
        """Share of the test objects that was right."""
        return self.test.accuracy


def run_probe(
    probe: Probe, train: Described, test: Described, validation: Described | None = None
) -> ProbeResult:
    """Fit on ``train``, choose on ``validation`` where the probe leaves it open, and score once on ``test``.

    Raises:
        ValueError: classes differ, an instance is in two of the parts, or a choice is wanted without validation.
    """
    parts = {"training": train, "test": test} | ({"validation": validation} if validation else {})
    empty = [name for name, part in parts.items() if not len(part.labels)]
    if empty:
        raise ValueError(f"the {empty[0]} part has no object; there are too few instances to split")
    _apart(list(parts.values()))
    if not probe.strength and validation is None:
        raise ValueError(
            "the probe's strength is to be chosen; give a validation split carved from the training one"
        )
    model, strength, best = _choose(probe, train, validation)
    found = measure(test.labels, model.predict(test.features), test.instances, test.classes, probe.seed)
    return ProbeResult(found, float(strength), not probe.strength, best, len(train.labels))


def _apart(parts: Sequence[Described]) -> None:
    if any(part.classes != parts[0].classes for part in parts):
        raise ValueError("training and test objects have other classes; use Relabeled to bring them together")
    for i, part in enumerate(parts):
        for other in parts[:i]:
            shared = set(part.instances) & set(other.instances)
            if shared:
                raise ValueError(
                    f"'{min(shared)}' and {len(shared) - 1} more are in two parts; split by instance"
                )


def _choose(probe: Probe, train: Described, validation: Described | None) -> tuple[Any, float, float]:
    """Return the fitted model with the best validation accuracy, its strength, and that accuracy.

    The weakest of equals; the only one where the strength is given.
    """
    best: tuple[Any, float, float] = (None, 0.0, float("-inf"))
    for strength in (probe.strength,) if probe.strength else CHOICES[probe.kind]:
        model = probe.fit(train, strength)
        score = _accuracy(model, validation) if validation is not None else float("nan")
        if best[0] is None or score > best[2]:
            best = (model, strength, score)
    return best


def _accuracy(model: Any, part: Described) -> float:
    return float((model.predict(part.features) == part.labels).mean())
