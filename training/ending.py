# SPDX-License-Identifier: Apache-2.0
"""When a run ends: at its limit of steps or minutes, or when it is told to."""

from __future__ import annotations

import signal
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from .distributed import agree
from .progress import Progress


class LimitedLoop(IterBasedTrainLoop):
    """mmengine's loop by steps that can begin anywhere, and ends by steps, by time or when told."""

    def __init__(self, runner: Any, dataloader: Any, progress: Progress, first: int) -> None:
        super().__init__(runner, dataloader, progress.max_steps or 10**9)
        self.progress, self._iter = progress, first

    def run(self) -> nn.Module:
        """Train until a limit is reached or ``stop_training`` is set."""
        self.progress.start()
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        while not agree(self.progress.fraction(self._iter) >= 1 or self.stop_training):
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model


class StopOnSignal(Hook):
    """End after the running step at Ctrl-C or SIGTERM; a second Ctrl-C ends at once."""

    priority = "VERY_LOW"

    def before_train(self, runner: Any) -> None:
        """Listen for signals."""
        self.stopped = False
        try:
            self._old = [(s, signal.signal(s, self._note)) for s in (signal.SIGINT, signal.SIGTERM)]
        except ValueError:  # not in the main thread
            self._old = []

    def _note(self, number: int, frame: Any) -> None:
        self.stopped = True
        signal.signal(number, signal.default_int_handler)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Tell the loop."""
        if self.stopped:
            print_log("told to stop: saving and ending here; resume=true goes on", logger="current")
            runner.train_loop.stop_training = True

    def after_train(self, runner: Any) -> None:
        """Restore what listened before."""
        for number, old in self._old:
            signal.signal(number, old)
