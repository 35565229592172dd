# SPDX-License-Identifier: Apache-2.0
"""What a command says when it cannot go on: one sentence, whoever raised the error."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .interrupts import interruptible
from .packages import missing

_OF_FILES: dict[type[OSError], str] = {
    FileNotFoundError: "there is no '{}'",
    FileExistsError: "'{}' is there already and cannot be replaced; give another path",
    IsADirectoryError: "'{}' is a folder where a file is needed",
    NotADirectoryError: "'{}' is no path: a part of it is a file, not a folder",
    PermissionError: "no permission to use '{}'; change its owner or mode, or give another path",
}


def run_command(
    program: str, work: Callable[[], int | None], interrupted: str = "interrupted", lines: bool = False
) -> int:
    """Do a command's work and return its exit code, whatever ends it.

    Args:
        program: begins what is told.
        work: imports what takes its time, so that an interrupt is told from the beginning.
        interrupted: what to say then.
        lines: keep the line breaks of errors, for those that list files.

    Returns:
        What ``work`` does (None: 0), 1 where it is refused, with a sentence on stderr, 130 where it is interrupted.
    """
    try:
        with interruptible():
            return work() or 0
    except BrokenPipeError:
        # The reader of our output (head, less) is gone; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, MemoryError, ImportError) as error:
        told = sentence(error)
        print(f"{program}: {told if lines else ' '.join(told.split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: {interrupted}", file=sys.stderr)
        return 130


def sentence(error: BaseException) -> str:
    """Return what an error says, and of the system's errors what they mean for the user."""
    if isinstance(error, MemoryError):
        return f"the clouds do not fit into memory ({error or 'out of memory'}); crop or thin them first"
    if isinstance(error, ImportError) and (told := missing(error)):
        return told
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return error.strerror
        form = _OF_FILES.get(type(error), f"'{{}}': {error.strerror}")
        return form.format(os.fsdecode(error.filename))
    return str(error) or type(error).__name__


def finite(text: str) -> float:
    """Read a number of a command line (a ``type`` for argparse); ``nan`` and ``inf`` are none.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no finite number")
    return value


def refuse_unwritable(path: Path, is_folder: bool = False) -> None:
    """Refuse an output that could not be written, before the work for it begins.

    Raises:
        ValueError: ``path`` is a folder (or, with ``is_folder``, a file), is write-protected, or cannot be made
            where it is.
    """
    if path.exists() and path.is_dir() != is_folder:
        found, needed = ("file", "folder") if is_folder else ("folder", "file")
        raise ValueError(f"'{path}' is a {found}; name a {needed} to write to")
    full = path.absolute()
    there = next(p for p in (full, *full.parents) if p.exists())
    if there != full and not there.is_dir():
        raise ValueError(f"'{path}' cannot be written: '{there}' is a file, not a folder")
    for place in (there, there.parent) if there.is_file() else (there,):
        if not os.access(place, os.W_OK):
            raise ValueError(
                f"'{path}' cannot be written: no permission to write '{place}'; give another path"
            )
