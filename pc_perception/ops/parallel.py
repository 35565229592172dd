# SPDX-License-Identifier: Apache-2.0
"""Rows in blocks on a few threads: what lets a CPU's cores share one scene.

OpenMP forks and joins at every single operation. On a live scene an operation lasts a fraction of a
millisecond: threads that sleep in between wake too late to help, and threads that spin take the core from
whoever else needs it. Here each thread walks a block of rows through several operations before they meet.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

LEAST_ROWS = 512
"""Fewer rows than this are not worth handing to another thread."""

_here = threading.local()
_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


@contextmanager
def team() -> Iterator[None]:
    """Inside, on the calling thread, rows are shared among as many threads as torch had, operations not.

    Threads of torch are counted per thread: other callers keep theirs.
    """
    size = torch.get_num_threads()
    if size == 1 or _size() > 1:
        yield
        return
    torch.set_num_threads(1)
    _here.size = size
    try:
        yield
    finally:
        _here.size = 1
        torch.set_num_threads(size)


def run_blocks(
    work: Callable[[int, int], object], n_rows: int, least_rows: int = LEAST_ROWS, pieces: int = 1
) -> None:
    """Call ``work(start, stop)`` for blocks that make up all rows, side by side within a ``team``.

    ``work`` writes its rows somewhere; it must not care which thread runs it, and release the GIL where it
    spends its time. Exceptions come back to the caller once no block is running any more. ``least_rows``
    says how many rows are worth another thread; a row may be as large as a scene. Where some rows take longer than
    others, each thread takes the next of several ``pieces``.
    """
    size = min(_size(), n_rows // least_rows)
    if size < 2:
        work(0, n_rows)
        return
    n_blocks = size * pieces
    blocks = iter([(n_rows * i // n_blocks, n_rows * (i + 1) // n_blocks) for i in range(n_blocks)])
    inference = torch.is_inference_mode_enabled()

    def run() -> None:
        with torch.inference_mode(inference):
            for start, stop in blocks:  # each takes what is next: a list's iterator can be shared
                work(start, stop)

    others = [_pool(size - 1).submit(run) for _ in range(size - 1)]
    own, _here.size = _size(), 1  # blocks within a block would wait for the others
    try:
        run()
    finally:
        _here.size = own
        errors = [other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error


def by_rows(f: Callable[..., Tensor], *rows: Tensor, least_rows: int = LEAST_ROWS) -> Tensor:
    """Return ``f(*rows)`` for an ``f`` whose every row follows from the same row of its arguments alone.

    Args:
        f: takes (N, ...) tensors, returns (N, C) of the first one's dtype.
        rows: (N, ...) tensors of equal length.
        least_rows: how many are worth another thread.

    Returns:
        (N, C); on the CPU, within a ``team`` and in inference mode, each thread computes a block of rows.
    """
    n = len(rows[0])
    alone = min(_size(), n // least_rows) < 2 or rows[0].device.type != "cpu"
    if alone or not torch.is_inference_mode_enabled():
        return f(*rows)
    parts: dict[int, Tensor] = {}

    def work(start: int, stop: int) -> None:
        parts[start] = f(*(t[start:stop] for t in rows))

    run_blocks(work, n, least_rows)
    return torch.cat([parts[start] for start in sorted(parts)])


def _size() -> int:
    return getattr(_here, "size", 1)


def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Return this process's helpers, each with one thread of torch's; a forked child gets its own."""
    key = (os.getpid(), n_threads)
    with _lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(n_threads, "pc_perception", torch.set_num_threads, (1,))
        return _pools[key]
