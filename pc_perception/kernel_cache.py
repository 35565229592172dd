# SPDX-License-Identifier: Apache-2.0
"""Where compiled kernels are kept, and the news that they have to be compiled first.

A folder where numba finds none: a container's user without a home, a read-only system.

numba keeps what it compiles beside the sources or in the user's cache. Where it may write neither, it refuses to
compile at all.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
COMPILING = "compiling the kernels for this machine, once; it takes about 20 s"


@contextmanager
def telling(say: Callable[[str], object]) -> Iterator[None]:
    """Call ``say`` once, with one line, as soon as numba compiles a kernel that it has in no cache."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]
        told = False

        def on_start(self, _: event.Event) -> None:
            if not self.told:
                self.told = True
                say(COMPILING)

        def on_end(self, _: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield


def provide() -> None:
    """Name a private folder to numba where it would find none; call this before kernels are defined."""
    if os.environ.get(VARIABLE):
        return
    user = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    folder = folder_beside((Path(__file__).parent / "ops" / "__pycache__", user / "numba"))
    if folder is not None:
        os.environ[VARIABLE] = str(folder)
        if "numba" in sys.modules:  # it has read its environment already
            sys.modules["numba"].config.CACHE_DIR = str(folder)


def folder_beside(places: Iterable[Path]) -> Path | None:
    """Return a folder of this user alone in the temporary one; None where a place of ``places`` can be written.

    It is kept from run to run. numba unpickles what it finds there, so one that others could have filled is not used.
    None also where nothing temporary can be written: numba then says so itself, when a kernel is needed.
    """
    if any(_can_be_written(place) for place in places):
        return None
    try:
        folder = Path(tempfile.gettempdir()) / f"pc_perception-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        return folder if private else Path(tempfile.mkdtemp(prefix="pc_perception-"))
    except OSError:
        return None


def _can_be_written(place: Path) -> bool:
    there = next(p for p in (place, *place.parents) if p.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
