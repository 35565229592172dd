# SPDX-License-Identifier: Apache-2.0
"""One way for a command to be ended, whoever ends it and whatever it is doing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM (docker stop, systemd) end what runs inside as Ctrl-C does: files complete, peers told.

    Raises:
        KeyboardInterrupt: at either, also where compiled code that was running made another error of it: numba a
            SystemError, a library that was being imported an ImportError.
    """
    told = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal told
        told = True
        raise KeyboardInterrupt

    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():  # the others receive no signals
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # which nohup and background jobs ask for
                    stack.callback(signal.signal, number, signal.signal(number, interrupt))
        try:
            yield
        except Exception as error:
            if not told:
                raise
            raise KeyboardInterrupt from error
