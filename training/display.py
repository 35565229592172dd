# SPDX-License-Identifier: Apache-2.0
"""What a run shows while it goes: a bar in the terminal, and in TensorBoard what the model sees."""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook, IterTimerHook

from .distributed import bare
from .progress import Progress


class Panels(Hook):
    """Show in TensorBoard what the model sees of a batch, where its method offers a ``panel``."""

    priority = "LOW"

    def __init__(self, every: int) -> None:
        self.every = every

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw it where it is time."""
        model = bare(runner.model)
        if (
            not self.every
            or (batch_idx + 1) % self.every
            or not is_main_process()
            or not hasattr(model, "panel")
        ):
            return
        model.eval()  # the running statistics are not moved by a look
        batch = data_batch.to(next(model.parameters()).device)
        runner.visualizer.add_image("panel", model.panel(batch), batch_idx + 1)
        model.train()


class Timer(IterTimerHook):
    """Log the time that is left by whichever limit is nearer; mmengine's own counts steps alone."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Measure the step, then tell what is left."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if done := self.progress.fraction(batch_idx + 1):
            runner.message_hub.update_info("eta", self.progress.elapsed_s * (1 - done) / done)


class Bar(Hook):
    """A progress bar in the terminal, in per cent of the run's limit."""

    priority = "VERY_LOW"

    def __init__(self, progress: Progress) -> None:
        self.progress, self.loss = progress, ""

    def before_train(self, runner: Any) -> None:
        """Open the bar."""
        from tqdm import tqdm

        done = 100 * self.progress.fraction(runner.iter)
        shape = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
        self.bar = tqdm(total=100, initial=round(done, 2), bar_format=shape, desc="training", mininterval=1.0)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Move it."""
        self.bar.update(100 * self.progress.fraction(batch_idx + 1) - self.bar.n)
        if outputs is not None and batch_idx % 10 == 0:  # to read it waits for the device
            self.loss = f"{float(outputs['loss'].detach()):.3f}"
        self.bar.set_postfix(step=batch_idx + 1, loss=self.loss, refresh=False)

    def after_train(self, runner: Any) -> None:
        """Close it."""
        self.bar.close()
