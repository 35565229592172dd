# SPDX-License-Identifier: Apache-2.0
"""Label one bag of a fleet in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

LIFELINE = "--end-with-stdin"
PART = ".part.mcap"
FINISHED = ("done", "cut", "gaps")
"""How bags end that are not tried again: the others are ``failed``."""


@dataclass(frozen=True)
class Job:
    """One bag to label.

    Attributes:
        name: of the output, relative to the folder of outputs.
        bag, out: absolute paths, valid wherever the job runs.
        key: of everything that the labels depend on.
        arguments: of ``pc-perception segment``, without bag and output.
        threads: of the process.
    """

    name: str
    bag: str
    out: str
    key: str
    arguments: tuple[str, ...]
    threads: int


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    ``done``; ``cut``, labelled up to where the recording breaks off; ``gaps``, labelled but for damaged messages; or
    ``failed``.
    """

    status: str
    clouds: int = 0
    points: int = 0
    seconds: float = 0.0
    model: str = ""
    labels: dict[str, int] = field(default_factory=dict)
    error: str = ""


def label_bag(job: Job, stop: Event | None = None) -> Outcome:
    """Run ``pc-perception segment`` on a bag; its output appears under its name when it is complete.

    What a killed process had labelled stays beside it, as ``.part.mcap``, until the next try.

    Args:
        stop: ends the process when set; the outcome is then ``failed``.
    """
    out = Path(job.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name.removesuffix(".mcap") + PART)
    command = [sys.executable, "-m", "pc_perception.cli", "segment", job.bag, "--out", str(part), "--json"]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        # The open pipe is the child's lifeline: it ends with this process, however that ends.
        process = subprocess.Popen(
            [*command, LIFELINE, *job.arguments],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=_environment(job.threads),
        )
        _wait(process, stop)
        assert process.stdin is not None
        process.stdin.close()
        outcome = _outcome(process.returncode, _last_line(stdout), _last_line(stderr))
    if outcome.status != "failed":
        part.replace(out)
    elif process.returncode > 0 and not outcome.clouds:
        part.unlink(missing_ok=True)
    return outcome


def end_with_stdin() -> None:
    """Let this process end as soon as its standard input does: the other end of ``label_bag``'s pipe."""

    def watch() -> None:
        # Not through sys.stdin: its lock, held here, would abort the interpreter at its end.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _wait(process: subprocess.Popen[bytes], stop: Event | None) -> None:
    while True:
        try:
            process.wait(0.2)
            return
        except subprocess.TimeoutExpired:
            if stop is not None and stop.is_set():
                process.terminate()
                stop = None


def _environment(threads: int) -> dict[str, str]:
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    return {**limits, **os.environ}


def _last_line(file: Any) -> str:
    file.seek(0)
    lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _outcome(code: int, stdout: str, stderr: str) -> Outcome:
    report = json.loads(stdout) if stdout.startswith("{") else {}
    error = stderr.removeprefix("pc-perception: ")
    if code < 0:
        number = signal.Signals(-code).name
        hint = " (the system ends processes so when memory runs out)" if number == "SIGKILL" else ""
        return Outcome("failed", error=f"its process was killed by {number}{hint}")
    if code == 0:
        status, error = "done", ""
    else:
        status = "cut" if report.get("cut_off") else "gaps" if report.get("left_out") else "failed"
    names = ("clouds", "points", "seconds", "model", "labels")
    return Outcome(status, error=error, **{name: report[name] for name in names if name in report})
