# SPDX-License-Identifier: Apache-2.0
"""Fields on disk: one memory-mapped .npy file for each kind of array, made once, and resumed where it was left."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .field_arrays import FieldArrays, Sizes

FORMAT = 1
"""Raise when the arrays of a shape change, so that old files are not taken for new ones."""
_ARRAYS = tuple(f.name for f in fields(FieldArrays))
_TODO, _DONE, _REFUSED = 0, 1, 2

_log = logging.getLogger(__name__)


class FieldSource(Protocol):
    """Shapes by number, before anything is drawn of them; can be pickled.

    Attributes:
        key: changes whenever a shape does.
        classes: C names; labels: 0 .. C-1 of each shape, or -1; names: of each shape.
    """

    key: str
    classes: tuple[str, ...]
    labels: Sequence[int]
    names: Sequence[str]

    def make(self, index: int, sizes: Sizes) -> tuple[FieldArrays, str]:
        """Return the arrays of shape ``index``, a pure function of it, and what was repaired of it, or ''.

        Raises:
            ValueError, OSError: it is of no use; the message says why.
        """

    def surface(self, index: int, n: int, rng: Generator) -> NDArray[np.float64]:
        """Draw (n, 3) points on the surface of shape ``index``, more than are kept; for measuring distances."""


@dataclass(frozen=True)
class Stored:
    """Fields that were made.

    Attributes:
        arrays: by name of ``FieldArrays``, the first axis counts shapes of the source; read-only, memory-mapped.
        usable: (M,) int64 rows of the shapes that were not refused.
        repaired, refused: what was done to a shape, or why it is left out, by name.
    """

    arrays: dict[str, NDArray]
    usable: NDArray[np.int64]
    repaired: dict[str, str]
    refused: dict[str, str]


def open_stored(
    folder: Path, source: FieldSource, sizes: Sizes, workers: int = 1, progress: bool = False
) -> Stored:
    """Map the fields of a source, making those that are not there yet.

    An interrupted run loses at most the shapes that it was at; the next one goes on after them.

    Args:
        folder: where they are kept, in a folder of their own.
        workers: processes that make shapes; 1 does it in this one.

    Raises:
        ValueError: no shape is of use; the message has the first reason.
        OSError: the disk is too small.
    """
    place = folder / f"{source.key}-{FORMAT}-{'-'.join(map(str, astuple(sizes)))}"
    notes = place / "notes.json"
    if not notes.is_file():
        place.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            if not notes.is_file():
                _make(place, source, sizes, workers, progress)
    story = json.loads(notes.read_text(encoding="utf-8"))
    refused = np.isin(np.arange(len(source.names)), [int(i) for i in story["refused"]])
    if refused.all():
        first = next(iter(story["refused"].values()), "there is none")
        raise ValueError(f"none of {len(source.names)} shapes can be used; the first: {first}")
    return Stored(
        {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in _ARRAYS},
        np.flatnonzero(~refused),
        {source.names[int(i)]: text for i, text in story["repaired"].items()},
        {source.names[int(i)]: text for i, text in story["refused"].items()},
    )


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let one process at a time write to a folder, where the system has file locks."""
    try:
        from fcntl import LOCK_EX, flock
    except ImportError:
        yield
        return
    with (place / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


def _make(place: Path, source: FieldSource, sizes: Sizes, workers: int, progress: bool) -> None:
    from tqdm import tqdm

    n = len(source.names)
    arrays, state = _lay_out(place, n, sizes)
    log = place / "notes.jsonl"
    todo = np.flatnonzero(state == _TODO).tolist()
    bar = tqdm(
        _made(source, sizes, todo, workers),
        desc="making fields",
        unit="shape",
        total=n,
        initial=n - len(todo),
        disable=not progress,
    )
    with log.open("a", encoding="utf-8") as stream:
        for index, made, note in bar:
            if note:
                print(json.dumps([index, made is None, note]), file=stream, flush=True)
            if made is not None:
                for name in _ARRAYS:
                    arrays[name][index] = getattr(made, name)
            state[index] = _REFUSED if made is None else _DONE  # last: what is not done is made again
    for array in (*arrays.values(), state):
        array.flush()
    _finish(place, log, n)


def _lay_out(place: Path, n: int, sizes: Sizes) -> tuple[dict[str, np.memmap], np.memmap]:
    """Map the files of the arrays for writing, and that of what is done; begin anew where one does not fit.

    Raises:
        OSError: the disk is too small for them.
    """
    rows = {"surface": sizes.surface, "vol": sizes.vol, "near": sizes.near}
    layout = {name: ((n, rows[name], 3), np.dtype(np.float32)) for name in rows}
    layout |= {f"{name}_inside": ((n, rows[name]), np.dtype(bool)) for name in ("vol", "near")}
    layout["state"] = ((n,), np.dtype(np.uint8))  # the last: where it is, all others are
    files = {name: place / f"{name}.npy" for name in layout}
    if not all(_fits(files[name], *layout[name]) for name in layout):
        files["state"].unlink(missing_ok=True)
        needed = sum(math.prod(shape) * kind.itemsize for shape, kind in layout.values())
        free = shutil.disk_usage(place).free + sum(f.stat().st_size for f in files.values() if f.is_file())
        # A full disk would kill the process in the middle of writing to mapped memory.
        if free < needed:
            raise OSError(
                f"'{place}' has {free / 1e9:.1f} GB left, {n} shapes need {needed / 1e9:.1f} GB; name another "
                "cache_dir, or keep less of each shape"
            )
        for name, (shape, kind) in layout.items():
            np.lib.format.open_memmap(files[name], "w+", kind, shape)
    arrays = {name: np.load(file, mmap_mode="r+") for name, file in files.items()}
    return arrays, arrays.pop("state")


def _fits(file: Path, shape: tuple[int, ...], kind: np.dtype) -> bool:
    try:
        found = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False  # not there, or an interruption while the file was being laid out
    return found.shape == shape and found.dtype == kind


def _made(
    source: FieldSource, sizes: Sizes, todo: list[int], workers: int
) -> Iterable[tuple[int, FieldArrays | None, str]]:
    make = partial(_make_one, source, sizes)
    if workers <= 1:
        yield from map(make, todo)
        return
    # Spawned: forked children of a process that has used OpenMP hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make, todo, chunksize=4)


def _make_one(source: FieldSource, sizes: Sizes, index: int) -> tuple[int, FieldArrays | None, str]:
    try:
        made, note = source.make(index, sizes)
        return index, made, note
    except (ValueError, OSError) as error:
        return index, None, f"{source.names[index]}: {error}"


def _finish(place: Path, log: Path, n: int) -> None:
    """Gather the notes in one file, which says that everything is there."""
    repaired, refused = {}, {}
    for line in log.read_text(encoding="utf-8").splitlines():
        index, is_refused, note = json.loads(line)
        (refused if is_refused else repaired)[index] = note
    if refused or repaired:
        _log.warning(
            "of %d shapes %d were repaired and %d refused: see %s",
            n,
            len(repaired),
            len(refused),
            place / "notes.json",
        )
    unfinished = place / ".notes.json"
    unfinished.write_text(json.dumps({"repaired": repaired, "refused": refused}, indent=1), encoding="utf-8")
    unfinished.replace(place / "notes.json")
    log.unlink()
