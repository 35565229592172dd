# SPDX-License-Identifier: Apache-2.0
"""``pc-train CONFIG [key=value ...]``: read the settings, open the data, let mmengine's Runner train."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent, wrap
from typing import TYPE_CHECKING

from pc_perception.refusals import refuse_unwritable, run_command

if TYPE_CHECKING:
    from .settings import RunSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pc-train``; problems are told in one line."""
    kept = "interrupted; what was saved is kept, resume=true goes on from it"
    return run_command("pc-train", lambda: _train(argv), kept, lines=True)


def _train(argv: Sequence[str] | None) -> None:
    run = _settings(argv)
    model = train(run)
    print("data is ready" if run.prepare_only else f"model: {model}")


def _settings(argv: Sequence[str] | None) -> RunSettings:
    from .data.specs import kinds
    from .settings import config_names, read_config

    names = "\n".join(wrap(", ".join(config_names()), 76))
    parser = argparse.ArgumentParser(
        prog="pc-train",
        description="Train a model; everything is saved in work_dir. Settings: training/settings.py.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"configs:\n{indent(names, '  ')}\n\n{kinds()}",
    )
    parser.add_argument(
        "config", help="a Python file that assigns `run`, or the name of one of training/configs"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings, e.g. data=folder:DIR max_minutes=30"
    )
    args = parser.parse_args(argv)
    return read_config(args.config, args.overrides)


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
    refuse_unwritable(Path(run.work_dir), is_folder=True)
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
        print("amp=true: bfloat16 on the CPU, where training gains nothing by it", file=sys.stderr)
    from .assembly import assemble  # mmengine, which preparing data does without

    runner = assemble(run, parts)
    runner.train()
    leave()
    return model


if __name__ == "__main__":
    sys.exit(main())
