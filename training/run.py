# SPDX-License-Identifier: Apache-2.0
"""``pc-train CONFIG [key=value ...]``: assemble mmengine's Runner and let it train."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .settings import RunSettings, read_config


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pc-train``; problems are told in one line."""
    parser = argparse.ArgumentParser(
        prog="pc-train", description="Train a model; everything is saved in work_dir."
    )
    parser.add_argument(
        "config", help="a Python file that assigns `run`, or the name of one of training/configs"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings, e.g. max_minutes=30 lr=1e-3"
    )
    args = parser.parse_args(argv)
    try:
        run = read_config(args.config, args.overrides)
        model = train(run)
    except (ValueError, OSError, ImportError) as error:
        print(f"pc-train: {error}", file=sys.stderr)
        return 1
    print("data is ready" if run.prepare_only else f"model: {model}")
    return 0


def train(run: RunSettings) -> Path:
    """Train as the settings say.

    Returns:
        Path of the model file (with ``prepare_only``, where it would be).

    Raises:
        ValueError, OSError: settings, data or checkpoint cannot be used.
    """
    import torch

    from .data.specs import open_data
    from .distributed import leave
    from .export import NAME

    run.validate()
    model = Path(run.work_dir) / NAME
    parts = open_data(run.data, run.data_options())
    if run.prepare_only:
        for part in parts:
            if hasattr(part, "prepare"):
                part.prepare(run.workers, run.progress)
        return model
    if run.threads:
        torch.set_num_threads(run.threads)
    if run.amp and not torch.cuda.is_available():
        raise ValueError("amp=true needs a CUDA device and none is there; leave it out on the CPU")
    runner = assemble(run, parts)
    runner.train()
    leave()
    return model


def assemble(run: RunSettings, parts: Sequence[Any]) -> Any:
    """Return mmengine's Runner for the settings, ready to train; a resumed one stands where it was."""
    import torch
    from mmengine.device import get_device

    from pc_perception.models.segmenters import SEGMENTERS

    from .checkpoint import load_state
    from .data.dataset import Picker
    from .distributed import place
    from .methods.method import Task
    from .stream import Numbers, SampleStream, make_loader
    from .survey import survey

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
    from pc_perception.labels import load_label_set

    from .objects import labels_of_data

    if run.method.task in ("classification", "shapes"):
        return labels_of_data(parts, run.label_set)
    return load_label_set(run.label_set) if run.label_set else None


def _n_levels(run: RunSettings, network: Any) -> int:
    """Return the depth of a scene encoder's pyramid, 0 for objects."""
    from pc_perception.inference.contract import InputContract

    if not isinstance(run.contract, InputContract):
        return 0
    return network.build_encoder(run.contract.n_features, run.encoder).n_levels


def limited(parts: Sequence[Any], limit: int) -> list[Any]:
    """Return the data sets with about ``limit`` clouds in total, spread evenly; all of them for 0."""
    from .data.dataset import Subset

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
    from .export import load_encoder
    from .foreign_weights import load_foreign_encoder

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
    import torch
    from mmengine.config import Config
    from mmengine.hooks import IterTimerHook, LoggerHook, RuntimeInfoHook
    from mmengine.runner import Runner
    from mmengine.visualization import TensorboardVisBackend, Visualizer

    from . import hooks
    from .distributed import launcher, wrap
    from .export import provenance
    from .progress import Progress

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
        train_cfg={"type": hooks.LimitedLoop, "progress": progress, "first": first},
        optim_wrapper=optim,
        default_hooks={
            "runtime_info": RuntimeInfoHook(),
            "timer": IterTimerHook(),
            "sampler_seed": None,
            "logger": LoggerHook(interval=run.log_steps),
            "param_scheduler": None,
            "checkpoint": None,
        },
        custom_hooks=[*ours, hooks.Bar(progress)] if run.progress and launcher() == "none" else ours,
        launcher=launcher(),
        log_processor={"by_epoch": False, "window_size": 20},
        log_level="WARNING" if run.progress else "INFO",
        visualizer=Visualizer(name=name, vis_backends=[TensorboardVisBackend(save_dir=run.work_dir)]),
        randomness={"seed": run.seed},
        experiment_name=name,
        cfg=Config({"run": provenance(run, data[2])["config"]}),  # dumped into work_dir, nothing else
    )
    if run.init and state is None:
        runner.logger.warning(
            f"init={run.init}: not loaded: {'; '.join(left)}" if left else f"init={run.init}: all loaded"
        )
    if state is not None:
        torch.set_rng_state(state["rng"])
    return runner


def _write(run: RunSettings, data: tuple, averaged: Any, name: str, more: dict[str, Any]) -> None:
    """Write a model file of the averaged weights into the run's folder."""
    from .export import provenance, write_model

    contract, labels, names, n_clouds = data
    story = provenance(run, names) | {"clouds": n_clouds} | more
    write_model(Path(run.work_dir) / name, run, contract, labels, run.method.deployable(averaged), story)


def _validation(run: RunSettings, data: tuple, average: Any) -> Any:
    """Return the hook that keeps the weights that were best on the validation part."""
    from pc_perception.inference.model_file import read_model_file

    from .data.object_sets import JoinedObjects
    from .data.specs import open_data
    from .export import BEST
    from .validation import Validation

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
    from . import hooks
    from .export import NAME

    def write(averaged: Any, step: int) -> None:
        _write(run, data, averaged, NAME, {"steps": step, "minutes": round(progress.elapsed_s / 60, 1)})

    often = (60 * run.checkpoint_minutes, run.checkpoint_steps, run.accumulate)
    return [
        hooks.Schedule(progress, run.lr, run.warm_up, run.cycles),
        average,
        checks,
        hooks.Saver(run.work_dir, *often, progress, average, write, checks),
        hooks.StopOnSignal(),
        hooks.Panels(run.panel_steps),
    ]


def _restore(state: dict[str, Any], optim: Any, average: Any, checks: Any) -> int:
    """Set optimiser, average and counts as a checkpoint has them; return its step."""
    optim.optimizer.load_state_dict(state["optimizer"])
    average.model.load_state_dict(state["average"])
    average.n, checks.seen, checks.bad = int(state["averaged"]), int(state["seen"]), int(state["bad"])
    return int(state["step"])


def _optimizer(run: RunSettings, model: Any) -> Any:
    import torch
    from mmengine.optim import AmpOptimWrapper, OptimWrapper

    optimizer = torch.optim.AdamW(groups(model, run.weight_decay), lr=run.lr, betas=run.betas)  # type: ignore[arg-type]
    wrapper = AmpOptimWrapper if run.amp else OptimWrapper
    more = {"dtype": "bfloat16"} if run.amp else {}
    clip = {"max_norm": run.clip} if run.clip else None
    return wrapper(optimizer, accumulative_counts=run.accumulate, clip_grad=clip, **more)


def groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's groups: matrices decay, vectors (biases, norms) and tokens do not."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    still = {name for name, p in trained if p.ndim <= 1 or name.endswith("token")}
    return [
        {"params": [p for name, p in trained if name not in still], "weight_decay": weight_decay},
        {"params": [p for name, p in trained if name in still], "weight_decay": 0.0},
    ]


if __name__ == "__main__":
    sys.exit(main())
