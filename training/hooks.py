# SPDX-License-Identifier: Apache-2.0
"""What happens around each step of mmengine's loop: schedule, norms, averaging, saving, bad samples."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import nn

from .checkpoint import save_state
from .distributed import bare
from .progress import Progress, rate


class Schedule(Hook):
    """Set the learning rate from the fraction of the run that is done."""

    priority = "HIGHEST"

    def __init__(self, progress: Progress, lr: float, warm_up: float, cycles: int = 1) -> None:
        self.progress, self.lr, self.warm_up, self.cycles = progress, lr, warm_up, cycles

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set it for the coming step."""
        factor = rate(self.progress.fraction(batch_idx) * self.cycles % 1, self.warm_up)
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] = self.lr * factor

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Let the method follow, and refuse to go on with a loss that is not a number."""
        loss = float(outputs["loss"].detach()) if outputs else 0.0
        if not math.isfinite(loss):
            terms = {k: float(v.detach()) for k, v in outputs.items() if k.startswith("loss_")}  # type: ignore[union-attr]
            bad = ", ".join(f"{k} = {v}" for k, v in terms.items() if not math.isfinite(v))
            raise ValueError(
                f"the loss is not finite at step {batch_idx} ({bad or loss}); the last checkpoint is kept; lower lr "
                "or raise warm_up"
            )
        bare(runner.model).after_step(self.progress.fraction(batch_idx + 1))


class SettleNorms(Hook):
    """Let what batch norms keep for inference begin as the plain mean over the first batches.

    torch begins at mean 0 and variance 1 and forgets a tenth in every step: a layer whose inputs vary by 1e-4, as
    places within a patch do, still divides by several times too much after a hundred steps, and a short run from
    random weights would be measured at that, not at what it learned. For the same reason a run that begins from a
    file takes the statistics of its own data at once.
    """

    priority = "HIGH"

    def __init__(self, model: nn.Module) -> None:
        norms = (m for m in model.modules() if hasattr(m, "running_var"))
        self.norms: list[tuple[Any, float]] = [(m, m.momentum) for m in norms if m.running_var is not None]  # type: ignore[misc]

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Weigh the coming batch as much as each before it, and at least as a norm wants it."""
        for norm, momentum in self.norms:
            norm.momentum = max(momentum, 1 / (batch_idx + 1))


class Average(Hook):
    """Keep an exponential moving average of the weights."""

    priority = "ABOVE_NORMAL"

    def __init__(self, model: nn.Module, decay: float, accumulate: int) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.accumulate, self.n = decay, accumulate, 0

    @torch.no_grad()
    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move the average towards the new weights; young averages move faster."""
        if (batch_idx + 1) % self.accumulate:
            return
        self.n += 1
        keep = min(self.decay, self.n / (self.n + 9)) if self.decay else 0.0
        own, live = self.model.state_dict(), bare(runner.model).state_dict()
        for name, value in own.items():
            if value.is_floating_point():
                value.lerp_(live[name].to(value), 1 - keep)
            else:
                value.copy_(live[name])


class Saver(Hook):
    """Write the state of the run and the model file, often enough that an interruption loses little."""

    priority = "LOW"

    def __init__(
        self, work_dir: str, every_s: float, every_steps: int, accumulate: int, progress: Progress,
        average: Average, write: Callable[[nn.Module, int], None], checks: SampleCheck,
    ) -> None:  # fmt: skip
        self.work_dir, self.accumulate = work_dir, accumulate
        self.every_s, self.every_steps = every_s, every_steps
        self.progress, self.average, self.write, self.checks = progress, average, write, checks
        self.last = time.monotonic()
        self.saved_step = -1

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save where it is time."""
        step = batch_idx + 1
        by_time = self.every_s and time.monotonic() - self.last > self.every_s
        if (by_time or (self.every_steps and step % self.every_steps == 0)) and step % self.accumulate == 0:
            self.save(runner, step)

    def after_train(self, runner: Any) -> None:
        """Save the end."""
        if self.saved_step != runner.iter:
            self.save(runner, runner.iter)

    def save(self, runner: Any, step: int) -> None:
        """Write both files."""
        self.last, self.saved_step = time.monotonic(), step
        if not is_main_process():
            return
        state = {
            "step": step,
            "elapsed_s": self.progress.elapsed_s,
            "model": bare(runner.model).state_dict(),
            "average": self.average.model.state_dict(),
            "averaged": self.average.n,
            "optimizer": runner.optim_wrapper.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "seen": self.checks.seen,
            "bad": self.checks.bad,
        }
        save_state(self.work_dir, state)
        self.write(self.average.model, step)


class SampleCheck(Hook):
    """Name and count samples that could not be used; stop when they are more than 1 %."""

    priority = "NORMAL"

    def __init__(self, work_dir: str, share: float = 0.01) -> None:
        self.file, self.share, self.seen, self.bad = Path(work_dir) / "bad_samples.txt", share, 0, 0

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count the batch.

        Raises:
            ValueError: too many are bad.
        """
        self.seen += data_batch.n_scenes + len(data_batch.bad)
        if not data_batch.bad:
            return
        self.bad += len(data_batch.bad)
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in data_batch.bad)
        for line in data_batch.bad:
            print_log(f"bad sample skipped: {line}", logger="current", level=logging.WARNING)
        # A few bad ones among the first few hundred say nothing yet.
        if self.bad > max(5, self.share * self.seen):
            raise ValueError(
                f"{self.bad} of {self.seen} samples could not be used (listed in '{self.file}'), more than "
                f"{self.share:.0%}; the last: {data_batch.bad[-1]}"
            )
