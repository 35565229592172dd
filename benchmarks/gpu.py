# SPDX-License-Identifier: Apache-2.0
"""Operations on one GPU, B5, B7 to B12 and B15. Rows of ``python -m benchmarks gpu``.

The public operations on tensors of the device, checked against the CPU and timed by events: as Python calls them, and
replayed from a CUDA graph where nothing in them waits for the device, which leaves Python and the launches out. Without
CUDA every row says "not measured"; ``--device cpu --tiny`` runs the rows' code on few points. ``gpu_rows`` lists the
operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

Operation = Callable[[list[Tensor], str | None], object]


@dataclass(frozen=True)
class Place:
    """Where the rows run: device, forced backend (None for the choice by device), tiny inputs or full ones."""

    device: str = "cuda"
    backend: str | None = None
    tiny: bool = False


@dataclass(frozen=True)
class GpuRow:
    """One row: ``make`` gives the inputs on the CPU at full or tiny size, ``call`` runs on them.

    ``in_buffers`` makes of the inputs the call to capture: it only launches, and waits for no sizes.
    """

    row: str
    input: str
    make: Callable[[np.random.Generator, bool], list[np.ndarray]]
    call: Operation
    target_ms: float
    floor_ms: float
    place: Place
    in_buffers: Callable[[list[Tensor]], Callable[[], object]] | None = None

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Return the median of ``rounds`` and what the copy to and check on the CPU say."""
        empty = dict.fromkeys(("ours_ms", "peer", "peer_ms", "ratio", "ratio_low"))
        record = {**empty, "target": self.target_ms, "floor_ms": self.floor_ms}
        if self.place.device == "cuda" and not torch.cuda.is_available():
            return {**record, "verdict": f"<= {self.target_ms:g} ms open" if self.target_ms else "-"}
        arrays = [torch.from_numpy(a) for a in self.make(rng, self.place.tiny)]
        inputs = [t.to(self.place.device) for t in arrays]
        expected: object = None
        if self.row.startswith("B"):
            # At full size torch would take minutes on the CPU: there the Numba kernels, tested against it, judge.
            exact = [t.float() if t.dtype == torch.float16 else t for t in arrays]
            expected = self.call(exact, "torch" if self.place.tiny else None)
            _compare(self.call(inputs, self.place.backend), expected)

        def call() -> object:
            return self.call(inputs, self.place.backend)

        p50, p99 = np.percentile(_times(call, rounds, self.place.device), [50, 99])
        record |= {"ours_ms": float(p50), "p99_ms": float(p99), "note": f"p99 {p99:.3g} ms"}
        if self.place.tiny or self.place.device != "cuda":
            return {**record, "floor_ms": None, "verdict": "not the row's size or device"}
        best, how = float(p50), ""
        if (replay := captured(self.in_buffers(inputs) if self.in_buffers else call)) is not None:
            if _alike(found := replay(), expected):
                _compare(found, expected)
            graph = float(np.median(_times(replay, rounds, "cuda")))
            record |= {"graph_ms": graph, "note": f"{record['note']}, as a graph {graph:.3g} ms"}
            if graph < best:
                best, how = graph, " as a graph"
        if self.target_ms:
            record["verdict"] = f"<= {self.target_ms:g} ms " + (
                f"met{how}" if best <= self.target_ms else "missed"
            )
        return record


def captured(call: Callable[[], object]) -> Callable[[], object] | None:
    """Return what replays ``call`` as a CUDA graph and returns its result, or None where it waits for the device."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # on another stream first, as torch asks for
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = call()
    except RuntimeError:  # such as for the size of a result: that cannot be captured
        torch.cuda.synchronize()
        return None

    def replay() -> object:
        graph.replay()
        return result

    return replay


def _times(call: Callable[[], object], rounds: int, device: str) -> list[float]:
    if device != "cuda":
        times = []
        for _ in range(rounds):
            start = perf_counter()
            call()
            times.append(1e3 * (perf_counter() - start))
        return times
    for _ in range(10):
        call()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in "ab"] for _ in range(rounds)]
    for start_event, end_event in pairs:
        start_event.record()
        call()
        end_event.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in pairs]


def _alike(found: object, expected: object) -> bool:
    """Say whether results have the same shapes: buffers may be larger than what is in them."""
    if isinstance(found, Tensor) and isinstance(expected, Tensor):
        return found.shape == expected.shape
    if isinstance(found, tuple | list) and isinstance(expected, tuple | list):
        return len(found) == len(expected) and all(_alike(a, b) for a, b in zip(found, expected, strict=True))
    return False


def _compare(found: object, expected: object) -> None:
    """Hold results against the reference's: integers equal, floats close."""
    if isinstance(found, Tensor) and isinstance(expected, Tensor):
        tolerance = 0.0 if not found.is_floating_point() else 2e-2 if found.dtype == torch.float16 else 1e-4
        torch.testing.assert_close(found.cpu().to(expected.dtype), expected, atol=tolerance, rtol=tolerance)
    elif isinstance(found, tuple | list) and isinstance(expected, tuple | list):
        for a, b in zip(found, expected, strict=True):
            _compare(a, b)
