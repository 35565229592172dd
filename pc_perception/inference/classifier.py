# SPDX-License-Identifier: Apache-2.0
"""Run a classification model on objects of any size."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from pc_perception.cloud import PointCloud
from pc_perception.labels import UNLABELED, LabelSet
from pc_perception.models.object_encoder import ObjectClassifier
from pc_perception.ops.parallel import run_blocks, team

from .deployed import Deployed, clouds_of
from .object_contract import ObjectContract

AT_ONCE = 64
"""Objects that are prepared together."""
TOGETHER = 8
"""Objects in one pass of the network on a CPU, on each thread."""


@dataclass(frozen=True)
class ClassificationResult:
    """The class of one object.

    Attributes:
        label: id 0 .. C-1 of ``label_set``; ``UNLABELED`` for an object of fewer than five finite points or
            without extent.
        scores: (C,) float32, softmax over the classes; all 0 where unlabeled.
        label_set: names and colours.
        milliseconds: wall time per object of the call that it was in.
    """

    label: int
    scores: NDArray[np.float32]
    label_set: LabelSet
    milliseconds: float

    @property
    def name(self) -> str:
        """Name of the class, ``unlabeled`` where there is none."""
        return "unlabeled" if self.label == UNLABELED else self.label_set.classes[self.label]

    @property
    def confidence(self) -> float:
        """Score of the label, 0 where unlabeled."""
        return float(self.scores.max())


class Classifier(Deployed[ObjectClassifier, ObjectContract]):
    """A network with its contract and labels, on one device.

    ``model(cloud)`` gives a ``ClassificationResult`` for a cloud that is one object, ``model([a, b])`` a list. The
    answer for an object does not depend on what else is in the list. Objects with fewer points than a patch
    has or than there are patches are classified by what they have, points repeated; one of fewer than five
    finite points or without extent (all points equal) comes back ``UNLABELED``.
    """

    def __init__(
        self,
        network: ObjectClassifier,
        contract: ObjectContract,
        label_set: LabelSet,
        device: torch.device,
        precision: str = "auto",
    ) -> None:
        super().__init__(network, contract, label_set, device, precision)
        self.possible = torch.ones(len(label_set), dtype=torch.bool)

    def among(self, classes: Sequence[str]) -> Classifier:
        """Return a classifier of the same weights that gives only some of the classes, the others score 0.

        Objects have no size to the network: where one knows that no sofa can stand, a car is none.

        Raises:
            ValueError: one is no class of the label set, or none is given.
        """
        known = self.label_set.classes
        unknown = [name for name in classes if name not in known] or ([] if classes else [""])
        if unknown:
            raise ValueError(f"'{unknown[0]}' is no class of this model; it has {', '.join(known)}")
        limited = copy.copy(self)
        limited.possible = torch.tensor([name in classes for name in self.label_set.classes])
        return limited

    @overload
    def __call__(self, cloud: PointCloud) -> ClassificationResult: ...
    @overload
    def __call__(self, cloud: Sequence[PointCloud]) -> list[ClassificationResult]: ...
    def __call__(
        self, cloud: PointCloud | Sequence[PointCloud]
    ) -> ClassificationResult | list[ClassificationResult]:
        """Classify one object, or each of a sequence.

        Raises:
            TypeError: it is neither.
        """
        clouds = list(clouds_of(cloud))
        found = [r for i in range(0, len(clouds), AT_ONCE) for r in self._classify(clouds[i : i + AT_ONCE])]
        return found[0] if isinstance(cloud, PointCloud) else found

    def _classify(self, clouds: Sequence[PointCloud]) -> list[ClassificationResult]:
        start = time.perf_counter()
        with torch.inference_mode(), team():
            prepared = [self.contract.prepare(cloud) for cloud in clouds]
            found = [points for points in prepared if points is not None]
            scores = self._scores(found)
        each_ms = 1e3 * (time.perf_counter() - start) / len(clouds)
        rows = iter(scores)
        nothing = np.zeros(len(self.label_set), np.float32)
        results = []
        for points in prepared:
            row = nothing if points is None else next(rows)
            label = UNLABELED if points is None else int(row.argmax())
            results.append(ClassificationResult(label, row, self.label_set, each_ms))
        return results

    def _scores(self, objects: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Return (B, C) float32 for B prepared objects."""
        if not objects:
            return np.zeros((0, len(self.label_set)), np.float32)
        scores = np.empty((len(objects), len(self.label_set)), np.float32)
        step = TOGETHER if self.device.type == "cpu" else AT_ONCE

        def work(start: int, stop: int) -> None:
            for first in range(start, stop, step):
                few = objects[first : min(first + step, stop)]
                offsets = [0, *accumulate(len(points) for points in few)]
                logits = self.network(torch.cat(list(few)).to(self.device), offsets).float().cpu()
                logits = logits.masked_fill(~self.possible, -torch.inf)
                scores[first : first + len(few)] = logits.softmax(1).numpy()

        run_blocks(work, len(objects), least_rows=1 if self.device.type == "cpu" else AT_ONCE)
        return scores
