# SPDX-License-Identifier: Apache-2.0
"""``pc-perception``: label clouds, simulate, look into model files and installations."""

from __future__ import annotations

import os

# Before torch is imported: with a busy neighbour on one core, threads that spin while waiting made a
# network 14 times slower; waiting passively costs a few per cent alone.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pc_perception.commands.arguments import build_parser
from pc_perception.refusals import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit code (0 done, 1 refused with one sentence, 130 interrupted)."""
    arguments = build_parser().parse_args(argv)
    run = RUNS[arguments.command]
    work = partial(run if run in QUICK else _with_kernels, arguments)
    return run_command("pc-perception", work, "interrupted; what was finished is kept")


def _with_kernels(a: argparse.Namespace) -> None:
    """Run a subcommand that computes; where it has to compile its kernels first, it says so."""
    from tqdm import tqdm

    from pc_perception import kernel_cache

    with kernel_cache.telling(partial(tqdm.write, file=sys.stderr)):  # between the lines of a progress bar
        RUNS[a.command](a)


def _segment_many(a: argparse.Namespace) -> None:
    from pc_perception.commands import fleet
    from pc_perception.commands.fleet_plan import Plan
    from pc_perception.inference.windows import Windows

    for name in ("columns", "picture", "html", "view"):
        if getattr(a, name) is not None:
            raise ValueError(f"--{name} shows or reads single clouds; it does not go with --jobs")
    Windows.asked(a.window, a.overlap)  # refused here, not by every job
    plan = Plan(a.model, a.device, a.topic, a.confidence_threshold, a.window, a.overlap)
    fleet.run(a.path, a.out, plan, 1 if a.jobs is None else a.jobs, a.cluster, a.as_json)


def _segment(a: argparse.Namespace) -> None:
    if a.jobs is not None or a.cluster:
        _segment_many(a)
        return
    if a.end_with_stdin:
        from pc_perception.commands.fleet_job import end_with_stdin

        end_with_stdin()
    from pc_perception.commands import segment
    from pc_perception.inference.stream import SweepOptions
    from pc_perception.inference.windows import Windows

    segment.run(
        a.path,
        model=a.model,
        device=a.device,
        topic=a.topic,
        columns=a.columns,
        out=a.out,
        picture=a.picture,
        html=a.html,
        as_json=a.as_json,
        options=SweepOptions(confidence_threshold=a.confidence_threshold),
        windows=Windows.asked(a.window, a.overlap),
        view=a.view,
    )


def _serve(a: argparse.Namespace) -> None:
    from pc_perception.commands import serve
    from pc_perception.io.dds import BEST_EFFORT, RELIABLE

    options = serve.ServeOptions(
        input=a.input,
        output=a.output,
        domain=a.domain,
        qos=RELIABLE if a.reliable else BEST_EFFORT,
        model=a.model or "street",
        device=a.device,
        max_rate_hz=a.max_rate,
        confidence_threshold=a.confidence_threshold,
        period_s=a.period,
    )
    serve.run(options, a.view)


def _classify(a: argparse.Namespace) -> None:
    common = {
        "model": a.model,
        "device": a.device,
        "topic": a.topic,
        "columns": a.columns,
        "as_json": a.as_json,
        "among": a.among,
    }
    names = ("out", "segmenter", "fixed_frame", "score_threshold")
    of_scenes = {name: getattr(a, name) for name in names}
    given = {name: value for name, value in of_scenes.items() if value is not None}
    if a.scene:
        from pc_perception.commands import scene_objects

        scene_objects.run(a.path, **common, **given)
        return
    if given:
        raise ValueError(f"--{next(iter(given)).replace('_', '-')} belongs to --scene")
    from pc_perception.commands import classify

    classify.run(a.path, **common)


def _complete(a: argparse.Namespace) -> None:
    from pc_perception.commands import complete

    complete.run(**_given(a))


def _generate(a: argparse.Namespace) -> None:
    from pc_perception.commands import generate

    generate.run(**_given(a))


def _demo(a: argparse.Namespace) -> None:
    from pc_perception.commands import demo

    demo.run(a.out, model=a.model or "street", device=a.device, n_sweeps=a.sweeps, seed=a.seed)


def _simulate(a: argparse.Namespace) -> None:
    from pc_perception.commands import simulate

    simulate.run(a.kind, a.out, form=a.format, count=a.count, seed=a.seed, cameras=a.cameras)


def _pick(a: argparse.Namespace) -> None:
    from pc_perception.commands import pick

    pick.run(**_given(a))


def _inspect(a: argparse.Namespace) -> None:
    from pc_perception.commands import inspect

    inspect.run(**_given(a))


def _doctor(a: argparse.Namespace) -> None:
    from pc_perception import doctor

    doctor.run(**_given(a))


def _given(a: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments by name, for a subcommand that calls them as its function does."""
    return {name: value for name, value in vars(a).items() if name != "command"}


RUNS: dict[str, Callable[[argparse.Namespace], None]] = {
    "segment": _segment,
    "classify": _classify,
    "complete": _complete,
    "generate": _generate,
    "serve": _serve,
    "demo": _demo,
    "simulate": _simulate,
    "pick": _pick,
    "inspect": _inspect,
    "doctor": _doctor,
}
QUICK = (_inspect, _doctor)
"""Those that need no kernels, and do not wait for Numba to be imported."""


if __name__ == "__main__":
    raise SystemExit(main())
