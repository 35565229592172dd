# SPDX-License-Identifier: Apache-2.0
"""Newest wins: a mailbox for one item, and the thread that empties it. Needs neither torch nor ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """A mailbox for one item: a newer item replaces an unread one, which is counted as dropped."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.received = 0
        self.dropped = 0

    def put(self, item: T) -> None:
        """Leave ``item`` for the reader; never blocks."""
        with self._condition:
            self.received += 1
            self.dropped += self._item is not None
            self._item = item
            self._condition.notify()

    def take(self, timeout_s: float | None = None) -> T | None:
        """Wait for an item and take it; None after ``timeout_s`` or once closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Let the reader return; an unread item can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """True after ``close``."""
        return self._closed


class Worker(Generic[T]):
    """A thread that hands the newest item to ``handle``; an exception goes to ``on_error``, not to death."""

    def __init__(self, handle: Callable[[T], None], on_error: Callable[[Exception], None]) -> None:
        self.slot: LatestSlot[T] = LatestSlot()
        self._handle, self._on_error = handle, on_error
        self._thread = threading.Thread(target=self._run, name="pc_perception worker", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            item = self.slot.take()
            if item is None:
                if self.slot.closed:
                    return
                continue
            try:
                self._handle(item)
            except Exception as error:
                self._on_error(error)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Finish the item at hand and end the thread."""
        self.slot.close()
        self._thread.join(timeout_s)
