# SPDX-License-Identifier: Apache-2.0
"""``pc-evaluate MODEL [MODEL ...] --data SPEC``: the task in the model files decides what is measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from pc_perception.refusals import finite, run_command

RUNS = {"segmentation": "segmentation", "classification": "classification", "parts": "part_models"}
"""Modules whose ``run`` measures models, by their task."""
INSTEAD = {
    "detection": "measure its boxes by python -m training.evaluate.boxes",
    "encoder": "probe one of objects by python -m training.evaluate.objects",
    "shapes": "measure its shapes by python -m benchmarks.point_mge",
}
"""What to do with those of other tasks."""
ONLY_FOR = {"classification": ("among", "out", "seeds"), "segmentation": ("window", "overlap", "six_fold")}
"""Options of one task."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pc-evaluate``; problems are told in one line, missing files in one each."""
    return run_command("pc-evaluate", lambda: _run(build_parser().parse_args(argv)), lines=True)


def _run(args: argparse.Namespace) -> None:
    import torch

    from pc_perception.inference.model_file import read_model_file

    from .classification import files_of

    for name in ("threads", "limit"):
        if getattr(args, name) < 0:
            raise ValueError(f"--{name} must be 0 (no limit) or more, got {getattr(args, name)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    tasks = {read_model_file(next(iter(files_of(m))))[0].task for m in args.models}
    if len(tasks) > 1:
        raise ValueError(f"the models are for {' and '.join(sorted(tasks))}; evaluate them one by one")
    task = tasks.pop()
    if task not in RUNS:
        hint = INSTEAD.get(task, f"models for {', '.join(RUNS)} do")
        raise ValueError(f"a model for '{task}' gives no labels; {hint}")
    for other, names in ONLY_FOR.items():
        ignored = [name.replace("_", "-") for name in names if getattr(args, name) and task != other]
        if ignored:
            raise ValueError(f"--{ignored[0]} is for models of {other}, these are for {task}; leave it out")
    if task != "classification":  # of which a run's folder may hold two
        args.models = [str(next(iter(files_of(m)))) for m in args.models]
    import_module(f"training.evaluate.{RUNS[task]}").run(args)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``pc-evaluate``; which options count, the models' task decides."""
    from training.data.simulation import HELD_OUT
    from training.data.specs import kinds

    parser = argparse.ArgumentParser(
        prog="pc-evaluate",
        description="Measure models: of segmentation the IoU over points, of single objects their accuracy.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=kinds(),
    )
    add = parser.add_argument
    add(
        "models", nargs="+", help="model files, names of shipped ones, folders of runs; several: mean and std"
    )
    add("--data", required=True, help="what to measure on: KIND:WHERE, below")
    add("--label-source", default="", help="id space of the labels (nyu40, pandaset43 ...) or .yaml map")
    add("--label-field", default="", help="field of a folder's clouds that holds the labels")
    add("--version", default="", help="nuScenes tables, such as v1.0-mini")
    add(
        "--split",
        default="",
        help="official split, such as val, or file with a list of scenes; train, validation or"
        " test by instance of objects that have none",
    )
    add("--seeds", default="", help="of splits by instance: one for all models, or one for each")
    add("--sequences", default="", help="SemanticKITTI sequences, such as 08")
    add("--areas", default="", help="S3DIS areas, such as 5")
    add("--six-fold", action="store_true", help="six models, one for each area of S3DIS; counts are pooled")
    add("--topic", default="", help="topic of a bag")
    add("--variant", default="", help="of ScanObjectNN: bg, only, hardest")
    add("--y-up", default="", help="object files in which y is up, such as modelnet40_*")
    add("--n-scenes", type=int, default=25, help="simulated streets or rooms")
    add("--per-scene", type=int, default=4, help="clouds of each")
    add("--seed", type=int, default=HELD_OUT, help="first simulated scene; training uses those from 0")
    add("--cache-dir", default="", help="folder for simulated clouds, clouds of bags and parsed rooms")
    add("--limit", type=int, default=0, help="use only this many clouds (of each area)")
    add("--window", type=finite, default=0.0, help="cut scenes into squares of this many metres; 0: whole")
    add("--overlap", type=finite, help="metres that --window's squares share (default: 2)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    add("--threads", type=int, default=0, help="threads of torch")
    add("--json", action="store_true", help="print one JSON object")
    add(
        "--out",
        default="",
        help="result file (JSON) of classifiers: seeds, commit, settings, hash of the data",
    )
    add("--among", default="", help="only these classes of a classifier are possible, such as car,truck,pole")
    add("--record", action="store_true", help="add the figures to the model files' provenance")
    return parser
