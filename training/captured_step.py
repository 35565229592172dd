# SPDX-License-Identifier: Apache-2.0
"""A training step on single objects as one CUDA graph, for data that lies on the GPU.

A step of a small transformer starts some two thousand kernels of a few microseconds each: started from Python, the
GPU waits for most of them. Captured once and replayed, the host starts all of them in one call and never waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import clip_grad_norm_

from pc_perception.inference.object_contract import ObjectContract

from .assembly import groups
from .methods.model import TrainingModel
from .objects import ObjectAugmentation, ObjectBatch
from .settings import RunSettings

WARM_UP = 3
"""Steps before the capture: kernels are compiled and chosen, the optimiser gets its state. They train as well."""


class CapturedStep:
    """One step on ``run.batch_size`` clouds of ``run.contract.n_points``: forward, backward, clipping, AdamW.

    On a CUDA device it is captured after ``WARM_UP`` calls and replayed from then on. Augmentation and masks are
    drawn anew in each step, from torch's default generator of the device: a replay draws what the step would draw
    from Python. Captured as they are and not to be changed later: the model's mode, momentum of norms, settings
    but the learning rate, whatever else the losses take from the host. Clouds are checked up to the capture only.
    On a CPU, and with ``captured`` false, every call runs the step from Python.

    Args:
        model: in training mode on its device; its ``losses`` must not wait for the device (Point-MAE's do not).
        run: takes batch_size, contract, augmentation, lr, betas, weight_decay, clip and amp (bfloat16 autocast).

    Attributes:
        lr: () float32 on the device, the learning rate; fill it between calls for a schedule.

    Raises:
        ValueError: the settings are not of objects, or the augmentation does more than scale, shift and jitter.
        RuntimeError (by a call): the losses wait for the device.
    """

    def __init__(self, model: TrainingModel, run: RunSettings, captured: bool = True) -> None:
        how, contract = run.augmentation, run.contract
        if not isinstance(how, ObjectAugmentation) or not isinstance(contract, ObjectContract):
            raise ValueError(
                "this step trains on single objects; scenes have other contracts and augmentations"
            )
        if how.turn or how.pool or min(how.keep, how.part) < 1:
            raise ValueError(f"on the device objects are scaled, shifted and jittered, no more; got {how}")
        device = next(model.parameters()).device
        self.model, self.run, self.how = model, run, how
        self.lr = torch.tensor(run.lr, device=device)
        self.optimizer = torch.optim.AdamW(
            groups(model, run.weight_decay),  # type: ignore[arg-type]
            self.lr,
            run.betas,  # type: ignore[arg-type]
            fused=True,
            capturable=device.type == "cuda",
        )
        self._wide = dict(_rounded_by_autocast(model)) if run.amp else {}
        self._narrow = {
            name: p.detach().to(torch.bfloat16).requires_grad_() for name, p in self._wide.items()
        }
        n = contract.n_points
        self._clouds = torch.empty(run.batch_size, n, 3, device=device)
        self._batch = ObjectBatch(
            self._clouds.flatten(0, 1),
            tuple(range(0, (run.batch_size + 1) * n, n)),
            torch.full((run.batch_size,), -1, device=device),
        )
        self._loss = torch.zeros((), device=device)
        self._captured = captured and device.type == "cuda"
        if self._captured:
            self._aside = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._n_before = 0

    def __call__(self, clouds: Tensor) -> Tensor:
        """Train on ``clouds``, (B, N, 3) float32 on the unit sphere, on any device.

        Returns:
            () float32, the loss before the step, on the device; the next call overwrites it.
        """
        self._clouds.copy_(clouds)
        if not self._captured:
            self._step()
        elif self._graph is not None:
            self._graph.replay()
        elif self._n_before < WARM_UP:
            self._warm_up()
        else:
            self._capture().replay()
        return self._loss

    def _step(self) -> None:
        points = change(self._clouds, self.how).flatten(0, 1)
        self.optimizer.zero_grad()
        self._round()
        with torch.autocast(points.device.type, torch.bfloat16, enabled=self.run.amp):
            losses = functional_call(self.model, self._narrow, (replace(self._batch, points=points),))
        loss = torch.stack([v for k, v in losses.items() if k.startswith("loss")]).sum()
        loss.backward()
        self._hand_over()
        if self.run.clip:
            clip_grad_norm_(self.model.parameters(), self.run.clip)
        self.optimizer.step()
        self._loss.copy_(loss.detach())

    def _round(self) -> None:
        """Round the weights of layers as autocast would, all in one kernel instead of one each."""
        if self._narrow:
            with torch.no_grad():
                torch._foreach_copy_(list(self._narrow.values()), list(self._wide.values()))

    def _hand_over(self) -> None:
        """Give the gradients of rounded weights to the weights, in float32."""
        narrow, wide = [], []
        for name, p in self._narrow.items():
            if p.grad is not None:
                narrow.append(p.grad)
                wide.append(torch.empty_like(self._wide[name]))
                p.grad, self._wide[name].grad = None, wide[-1]
        if wide:
            torch._foreach_copy_(wide, narrow)

    def _warm_up(self) -> None:
        here = torch.cuda.current_stream(self._clouds.device)
        self._aside.wait_stream(here)
        with torch.cuda.stream(self._aside):  # as torch asks for before a capture
            self._step()
        here.wait_stream(self._aside)
        self._n_before += 1

    def _capture(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._aside):
            self._step()
        self._graph = graph
        return graph


def _rounded_by_autocast(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the trained weights and biases of linear layers, by name."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            for own, p in layer.named_parameters(recurse=False):
                if p.requires_grad:
                    yield f"{name}.{own}", p


def change(clouds: Tensor, how: ObjectAugmentation) -> Tensor:
    """Scale, shift and jitter (B, N, 3) clouds as ``how`` does one object, by the device's default generator."""
    size = (len(clouds), 1, 3)
    changed = clouds * clouds.new_empty(size).uniform_(*how.scale)
    changed = changed + clouds.new_empty(size).uniform_(-how.shift, how.shift)
    return changed + how.jitter * torch.randn_like(clouds) if how.jitter else changed
