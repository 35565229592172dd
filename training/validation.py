# SPDX-License-Identifier: Apache-2.0
"""Model selection on a validation part: classify it now and then and keep what was best on it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import nn

from pc_perception.inference.classifier import Classifier
from training.data.objects import ObjectDataset
from training.evaluate.accuracy import measure_classifier
from training.hooks import Average


class Validation(Hook):
    """Classify the validation objects every so many steps, and at the end, with the averaged weights.

    The test is never looked at.

    Args:
        every: steps.
        average: holds the weights that become the model.
        deployable: the classifier of an averaged model.
        made_of: contract and label set of the classifier.
        data: the validation objects.
        write: called with model, step and accuracy where this is the best so far.
        best: accuracy that an interrupted run had reached.
    """

    priority = "LOW"

    def __init__(
        self,
        every: int,
        average: Average,
        deployable: Callable[[nn.Module], Any],
        made_of: tuple[Any, Any],
        data: ObjectDataset,
        write: Callable[[nn.Module, int, float], None],
        best: float = -math.inf,
    ) -> None:
        self.every, self.average, self.deployable, self.made_of = every, average, deployable, made_of
        self.data, self.write, self.best = data, write, best
        self.last_step = -1

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look where it is time."""
        if (batch_idx + 1) % self.every == 0:
            self.check(batch_idx + 1)

    def after_train(self, runner: Any) -> None:
        """Look at the end."""
        if self.last_step != runner.iter:
            self.check(runner.iter)

    def check(self, step: int) -> None:
        """Classify; of equals the first is kept."""
        self.last_step = step
        if not is_main_process():
            return
        found = self.accuracy()
        print_log(f"validation accuracy at step {step}: {found:.4f}", logger="current")
        if found > self.best:
            self.best = found
            self.write(self.average.model, step, found)

    def accuracy(self) -> float:
        """Return the share of the validation objects that the averaged weights name right."""
        network = copy.deepcopy(self.deployable(self.average.model))
        device = next(network.parameters()).device
        model = Classifier(network, *self.made_of, device)
        classes = self.made_of[1].classes
        found = measure_classifier(lambda clouds: [r.label for r in model(clouds)], classes, self.data)
        return found.accuracy
