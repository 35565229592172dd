# SPDX-License-Identifier: Apache-2.0
"""mmengine's Runner for the settings of a run: data, model, optimiser, hooks, and where a checkpoint left off."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.visualization import TensorboardVisBackend, Visualizer

from pc_perception.inference.contract import InputContract
from pc_perception.inference.model_file import read_model_file
from pc_perception.labels import load_label_set
from pc_perception.models.segmenters import SEGMENTERS

from . import display, ending, hooks
from .checkpoint import EARLIER, load_state, set_aside
from .checkpoint import NAME as CHECKPOINT
from .data.dataset import Picker, Subset
from .data.object_sets import JoinedObjects
from .data.specs import open_data
from .distributed import launcher, place, wrap
from .export import BEST, NAME, load_encoder, provenance, write_model
from .foreign_weights import load_foreign_encoder
from .methods.method import Task
from .objects import labels_of_data
from .progress import Progress
from .settings import RunSettings
from .stream import Numbers, SampleStream, make_loader
from .survey import survey
from .validation import Validation


def assemble(run: RunSettings, parts: Sequence[Any]) -> Any:
    """Return mmengine's Runner for the settings, ready to train; a resumed one stands where it was."""
    rank, world = place()
    labels = _labels(run, parts)
    n_classes = len(labels) if labels else 0
    network = SEGMENTERS[run.network.__name__]
    task = Task(run.contract, n_classes, _n_levels(run, network), run.encoder, run.augmentation, network)
    picker = Picker(limited(parts, run.data_limit), run.data_shares, run.seed)
    found = survey(picker, task, 0 if run.method.task == "parts" else run.survey)
    Path(run.work_dir).mkdir(parents=True, exist_ok=True)
    state = load_state(run.work_dir) if run.resume else None
    torch.manual_seed(run.seed)
    model = run.method.build(task, found.class_counts)
    left = _initialise(run, model, state)
    model.to(get_device())  # before the optimiser and the average, which follow it
    first = 0 if state is None else int(state["step"])
    stream = SampleStream(picker, run.method, task, run.seed)
    loader = make_loader(stream, Numbers(run.batch_size, first, rank, world), run.workers)
    names = [picker.joined.name(i) for i in (0, len(picker.joined) - 1)]
    return _runner(run, model, loader, state, (found.contract, labels, names, len(picker.joined)), left)


def _labels(run: RunSettings, parts: Sequence[Any]) -> Any:
    """Return the target ``LabelSet``, None for a method without labels."""
    if run.method.task in ("classification", "shapes"):
        return labels_of_data(parts, run.label_set)
    return load_label_set(run.label_set) if run.label_set else None


def _n_levels(run: RunSettings, network: Any) -> int:
    """Return the depth of a scene encoder's pyramid, 0 for objects."""
    if not isinstance(run.contract, InputContract):
        return 0
    try:
        return network.build_encoder(run.contract.n_features, run.encoder).n_levels
    except TypeError as error:
        raise ValueError(f"the encoder's arguments do not fit it: {error}") from error


def limited(parts: Sequence[Any], limit: int) -> list[Any]:
    """Return the data sets with about ``limit`` clouds in total, spread evenly; all of them for 0."""
    total = sum(len(p) for p in parts)
    if not limit or total <= limit:
        return list(parts)
    chosen = {round(i * total / limit) for i in range(limit)}
    out, start = [], 0
    for part in parts:
        out.append(Subset(part, [i - start for i in sorted(chosen) if start <= i < start + len(part)]))
        start += len(part)
    return [part for part in out if len(part)]


def _initialise(run: RunSettings, model: Any, state: dict[str, Any] | None) -> list[str]:
    """Load weights of ``init`` or of a checkpoint; return what ``init`` left as it was."""
    left: list[str] = []
    if state is not None:
        model.load_state_dict(state["model"])
        return left
    if run.init.endswith(".pth"):
        left = load_foreign_encoder(run.method.deployable(model), run.init)
    elif run.init:
        left = load_encoder(run.method.deployable(model), run.init, run.contract)
    model.after_init()
    return left


def _runner(
    run: RunSettings, model: Any, loader: Any, state: dict[str, Any] | None, data: tuple, left: list[str]
) -> Any:
    progress = Progress(run.max_steps, run.max_minutes, state["elapsed_s"] if state else 0.0)
    optim = _optimizer(run, model)
    average = hooks.Average(model, run.ema, run.accumulate)
    checks = hooks.SampleCheck(run.work_dir)
    ours = [hooks.SettleNorms(model), *_hooks(run, data, progress, average, checks)]
    if run.validate_steps:
        ours.append(_validation(run, data, average))
    first = 0 if state is None else _restore(state, optim, average, checks)
    name = f"{Path(run.work_dir).resolve().name}-{os.getpid()}-{id(model)}"
    runner = Runner(
        model=wrap(model),
        work_dir=run.work_dir,
        train_dataloader=loader,
        train_cfg={"type": ending.LimitedLoop, "progress": progress, "first": first},
        optim_wrapper=optim,
        default_hooks={
            "runtime_info": RuntimeInfoHook(),
            "timer": display.Timer(progress),
            "sampler_seed": None,
            "logger": LoggerHook(interval=run.log_steps),
            "param_scheduler": None,
            "checkpoint": None,
        },
        custom_hooks=[*ours, display.Bar(progress)] if run.progress and launcher() == "none" else ours,
        launcher=launcher(),
        log_processor={"by_epoch": False, "window_size": 20},
        log_level="WARNING" if run.progress else "INFO",
        visualizer=Visualizer(name=name, vis_backends=[TensorboardVisBackend(save_dir=run.work_dir)]),
        randomness={"seed": run.seed},
        experiment_name=name,
        # Dumped into work_dir, nothing else; yapf, which takes a tenth of a second, changes hardly a line of it.
        cfg=Config({"run": provenance(run, data[2])["config"]}, format_python_code=False),
    )
    if run.init and state is None:
        runner.logger.warning(
            f"init={run.init}: not loaded: {'; '.join(left)}" if left else f"init={run.init}: all loaded"
        )
    if state is not None:
        torch.set_rng_state(state["rng"])
    elif place()[0] == 0:
        for file in set_aside(run.work_dir, (NAME, BEST, CHECKPOINT)):
            runner.logger.warning(f"'{file}' of an earlier run in {run.work_dir} is now '{EARLIER}{file}'")
        if run.resume:
            runner.logger.warning(f"resume=true, but {run.work_dir} holds no checkpoint: beginning anew")
    return runner


def _write(run: RunSettings, data: tuple, averaged: Any, name: str, more: dict[str, Any]) -> None:
    """Write a model file of the averaged weights into the run's folder."""
    contract, labels, names, n_clouds = data
    story = provenance(run, names) | {"clouds": n_clouds} | more
    write_model(Path(run.work_dir) / name, run, contract, labels, run.method.deployable(averaged), story)


def _validation(run: RunSettings, data: tuple, average: Any) -> Any:
    """Return the hook that keeps the weights that were best on the validation part."""
    held_out: Any = open_data(run.data, replace(run.data_options(), split="validation", per_class=0))
    contract, labels = data[:2]
    kept, best = Path(run.work_dir) / BEST, float("-inf")
    if run.resume and kept.exists():
        best = read_model_file(kept)[0].provenance["validation_accuracy"]

    def write(averaged: Any, step: int, accuracy: float) -> None:
        _write(run, data, averaged, BEST, {"steps": step, "validation_accuracy": round(accuracy, 4)})

    return Validation(
        run.validate_steps,
        average,
        run.method.deployable,
        (contract, labels),
        JoinedObjects(held_out),
        write,
        best,
    )


def _hooks(run: RunSettings, data: tuple, progress: Any, average: Any, checks: Any) -> list[Any]:
    """Return what happens around each step; the saver writes the model file too."""

    def write(averaged: Any, step: int) -> None:
        _write(run, data, averaged, NAME, {"steps": step, "minutes": round(progress.elapsed_s / 60, 1)})

    often = (60 * run.checkpoint_minutes, run.checkpoint_steps, run.accumulate)
    return [
        hooks.Schedule(progress, run.lr, run.warm_up, run.cycles),
        average,
        checks,
        hooks.Saver(run.work_dir, *often, progress, average, write, checks),
        ending.StopOnSignal(),
        display.Panels(run.panel_steps),
    ]


def _restore(state: dict[str, Any], optim: Any, average: Any, checks: Any) -> int:
    """Set optimiser, average and counts as a checkpoint has them; return its step."""
    optim.optimizer.load_state_dict(state["optimizer"])
    average.model.load_state_dict(state["average"])
    average.n, checks.seen, checks.bad = int(state["averaged"]), int(state["seen"]), int(state["bad"])
    return int(state["step"])


def _optimizer(run: RunSettings, model: Any) -> Any:
    # Fused: one pass over the weights in place of ten, 3 ms instead of 10 for `room` on one core.
    optimizer = torch.optim.AdamW(groups(model, run.weight_decay), lr=run.lr, betas=run.betas, fused=True)  # type: ignore[arg-type]
    wrapper = BFloat16Optimization if run.amp else OptimWrapper
    clip = {"max_norm": run.clip} if run.clip else None
    return wrapper(optimizer, accumulative_counts=run.accumulate, clip_grad=clip)


class BFloat16Optimization(OptimWrapper):  # type: ignore[misc]
    """Steps whose forward pass is under bfloat16 autocast. mmengine's own would scale losses, which float16 needs."""

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Surround the forward pass of ``model``."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


def groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's groups: matrices decay, vectors (biases, norms) and tokens do not."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    still = {name for name, p in trained if p.ndim <= 1 or name.endswith("token")}
    return [
        {"params": [p for name, p in trained if name not in still], "weight_decay": weight_decay},
        {"params": [p for name, p in trained if name in still], "weight_decay": 0.0},
    ]
