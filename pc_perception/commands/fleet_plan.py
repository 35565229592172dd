# SPDX-License-Identifier: Apache-2.0
"""Which bags of a folder are to be labelled, into what, and which are finished."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pc_perception
from pc_perception.inference.model_file import shipped_models

from .fleet_job import FINISHED, Job, Outcome

BAG_SUFFIXES = (".mcap", ".db3", ".bag")
MANIFEST = "manifest.json"
_ENDS = 1 << 20


@dataclass(frozen=True)
class Plan:
    """The options of ``pc-perception segment`` that hold for all bags; None is its default."""

    model: str | None = None
    device: str = "auto"
    topic: str | None = None
    confidence_threshold: float = 0.0
    window: float = 0.0
    overlap: float | None = None

    def arguments(self) -> tuple[str, ...]:
        """Return them as the command line has them; a model's file by its full path."""
        given: dict[str, Any] = {**asdict(self), "model": None}
        if self.model is not None:
            given["model"] = self.model if self.model in shipped_models() else os.path.abspath(self.model)
        named = ((f"--{name.replace('_', '-')}", value) for name, value in given.items())
        return tuple(text for name, value in named if value is not None for text in (name, str(value)))


def find_bags(folder: Path, out: Path) -> list[Path]:
    """Return the recordings below a folder: rosbag2 folders (with metadata.yaml) and single files.

    What lies in ``out`` is left out.

    Raises:
        FileNotFoundError, ValueError: there is no such folder, or no bag in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"'{folder}' is not a folder; --jobs labels the bags below one")
    bags = bags_below(folder, out)
    if not bags:
        raise ValueError(f"no bag lies in or below '{folder}' ({', '.join(BAG_SUFFIXES)}, rosbag2 folders)")
    return bags


def bags_below(folder: Path, out: Path | None = None) -> list[Path]:
    """Return what ``find_bags`` does, which may be nothing."""
    bags: list[Path] = []
    for where, folders, files in os.walk(folder):
        here = Path(where)
        folders[:] = sorted(f for f in folders if out is None or (here / f).resolve() != out.resolve())
        if "metadata.yaml" in files:
            bags.append(here)
            folders.clear()
        else:
            bags += sorted(here / f for f in files if f.endswith(BAG_SUFFIXES))
    return bags


def make_jobs(folder: Path, bags: Sequence[Path], out: Path, plan: Plan, n_jobs: int) -> list[Job]:
    """Return a job for every bag; outputs keep the folder's structure.

    Raises:
        FileNotFoundError: the model is not there.
        ValueError: two bags would have one output.
    """
    arguments, model = plan.arguments(), _model_digest(plan.model)
    threads = max(1, (os.cpu_count() or 1) // n_jobs)
    jobs: dict[str, Job] = {}
    for bag in bags:
        name = (bag.name if bag == folder else bag.relative_to(folder).as_posix()).removesuffix(
            ".mcap"
        ) + ".mcap"
        if name in jobs:
            raise ValueError(f"two bags would be written to '{name}': {jobs[name].bag} and {bag}; rename one")
        key = _digest([pc_perception.__version__, model, arguments, _fingerprint(bag)])
        paths = os.path.abspath(bag), os.path.abspath(out / name)
        jobs[name] = Job(name, *paths, key, arguments, threads)
    return list(jobs.values())


def _model_digest(model: str | None) -> str:
    """Return a digest of the model's file; of all shipped ones where each bag chooses."""
    shipped = shipped_models()
    files = list(shipped.values()) if model is None else [shipped.get(model, Path(model))]
    if not all(file.is_file() for file in files):
        raise FileNotFoundError(
            f"no model '{model}': neither a file nor a shipped model ({', '.join(shipped)})"
        )
    return _digest([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])


def _fingerprint(bag: Path) -> list[Any]:
    """Return the sizes of a bag's files and a digest of their first and last megabyte.

    Gigabytes are not read for it: recordings are appended to and closed with an index, so another recording
    differs at one of its ends.
    """
    found = []
    for file in sorted(p for p in bag.rglob("*") if p.is_file()) if bag.is_dir() else [bag]:
        size = file.stat().st_size
        with file.open("rb") as stream:
            ends = hashlib.sha256(stream.read(_ENDS))
            stream.seek(max(0, size - _ENDS))
            ends.update(stream.read(_ENDS))
        found.append([file.name, size, ends.hexdigest()])
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Manifest:
    """What is finished in a folder of outputs; saved after every bag, in one step.

    Raises:
        ValueError: the file there is not a manifest.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._file = out, out / MANIFEST
        self._bags: dict[str, dict[str, Any]] = {}
        if self._file.is_file():
            try:
                self._bags = json.loads(self._file.read_text(encoding="utf-8"))["bags"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"'{self._file}' is not a manifest of labelled bags ({error}); remove it"
                ) from error

    def is_finished(self, job: Job) -> bool:
        """Tell whether the output is there and made from the same bag, model and options."""
        entry = self._bags.get(job.name, {})
        finished = entry.get("status") in FINISHED and entry.get("key") == job.key
        return finished and (self._out / job.name).is_file()

    def record(self, job: Job, outcome: Outcome) -> None:
        """Remember how a job ended."""
        self._bags[job.name] = {"key": job.key, **asdict(outcome)}
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps({"format": 1, "bags": self._bags}, indent=1), encoding="utf-8")
        part.replace(self._file)

    def outcome(self, job: Job) -> Outcome:
        """Return how a job ended, in this run or an earlier one."""
        entry = dict(self._bags[job.name])
        entry.pop("key")
        return Outcome(**entry)
