# SPDX-License-Identifier: Apache-2.0
"""The endless stream of training samples: sample k is a pure function of the seed and k.

So a resumed run goes on where it was without reading what lies behind, and the number of workers
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from .data.dataset import Picker
from .methods.method import Method, Task

MAX_TRIES = 20


class SampleStream(Dataset):
    """Samples by their number in the stream; one that fails is named and replaced by another."""

    metainfo: ClassVar[dict[str, Any]] = {}  # mmengine warns where it is missing

    def __init__(self, picker: Picker, method: Method, task: Task, seed: int) -> None:
        self.picker, self.method, self.task, self.seed = picker, method, task, seed

    def __getitem__(self, k: int) -> Any:
        """Return sample ``k``.

        Raises:
            ValueError: ``MAX_TRIES`` clouds in a row were of no use.
        """
        bad: list[str] = []
        for attempt in range(MAX_TRIES):
            rng = np.random.default_rng([self.seed, 3, k, attempt])
            # A substitute comes from far along the stream: nearby numbers are somebody else's.
            index = self.picker.pick(k + attempt * 7_919_000_011)
            try:
                sample = self.method.sample(self.picker.joined[index], rng, self.task)
            except (ValueError, OSError) as error:
                bad.append(f"{self.picker.joined.name(index)}: {error}")
                continue
            return replace(sample, bad=tuple(bad))
        raise ValueError(f"{MAX_TRIES} clouds in a row cannot be trained on; the last: {bad[-1]}")


class Numbers(Sampler[int]):
    """The numbers of one process's samples, from batch ``first`` on, without end."""

    def __init__(self, batch_size: int, first: int = 0, rank: int = 0, world: int = 1) -> None:
        self.batch_size, self.first, self.rank, self.world = batch_size, first, rank, world

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while True:
            start = (step * self.world + self.rank) * self.batch_size
            yield from range(start, start + self.batch_size)
            step += 1

    def __len__(self) -> int:
        return 2**40


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)


def make_loader(stream: SampleStream, numbers: Numbers, workers: int) -> DataLoader:
    """Return the batches of ``numbers``; workers are spawned (numba's OpenMP does not survive a fork)."""
    more: dict[str, Any] = {}
    if workers:
        more = {
            "multiprocessing_context": "spawn",
            "persistent_workers": True,
            "worker_init_fn": _start_worker,
            "prefetch_factor": 4,
        }
    return DataLoader(
        stream,
        batch_size=numbers.batch_size,
        sampler=numbers,
        num_workers=workers,
        collate_fn=stream.method.collate,
        drop_last=True,
        generator=torch.Generator(),  # else each start draws from the global one, and a resumed run differs
        **more,
    )
