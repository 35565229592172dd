# SPDX-License-Identifier: Apache-2.0
"""One way for a command to be ended, whoever ends it and whatever it is doing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM (docker stop, systemd) end what runs inside as Ctrl-C does: files complete, peers told.

    Raises:
        KeyboardInterrupt: at either, also where compiled code that was running gave it another name.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()  # the others receive no signals
    before = signal.signal(signal.SIGTERM, interrupt) if in_main else None
    try:
        yield
    except SystemError as error:
        if not _from_interrupt(error):
            raise
        raise KeyboardInterrupt from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _from_interrupt(error: BaseException | None) -> bool:
    """Say whether an interrupt began it: numba passes one on that meets its boxing as a SystemError, or two."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None
