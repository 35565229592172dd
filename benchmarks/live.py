# SPDX-License-Identifier: Apache-2.0
"""One cloud, message bytes to message bytes: time (A11) and memory (A12). Rows of ``python -m benchmarks stream``.

Eight sweeps of eight drives take turns. They hold equally many points but not equally many voxels, an open
place up to twice as many as a narrow street. So two ratios are told: ``p99/p50`` over everything, and
``jitter``, the 99th percentile of each time divided by the median of its own sweep.
"""

from __future__ import annotations

import os
import resource
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks.harness import compare
from pc_perception.cloud import PointCloud
from pc_perception.inference import segmenter
from pc_perception.inference.features import FIELDS
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.model_file import build, read_model_file
from pc_perception.inference.segmenter import Segmenter
from pc_perception.io.message_encoding import CloudMessage, LabelledCloudEncoder, encode_cloud
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.lidar import SpinningLidar
from pc_perception.simulation.scan import scan_room

MODEL = "street"
SWEEPS = 8
LARGE = 1 << 20
"""Bytes from which on memory taken by Python and NumPy is told."""

Path = Callable[[CloudMessage], dict[str, float]]


def messages(n_beams: int, n_points: int, count: int) -> list[CloudMessage]:
    """Simulate ``count`` different sweeps of exactly ``n_points``."""
    return of_size(drives(n_beams, n_points, count), n_points)


def drives(n_beams: int, n_points: int, count: int) -> Iterator[PointCloud]:
    """Simulate ``count`` different sweeps of about ``n_points``, more or less."""
    lidar = SpinningLidar(n_beams=n_beams, n_azimuths=-(-n_points * 2 // n_beams))
    for seed in range(40_000, 40_000 + count):
        yield next(iter(simulate_drive(seed, 1, lidar=lidar))).cloud


def rooms(n_points: int, count: int) -> list[CloudMessage]:
    """Simulate scans of ``count`` whole rooms of exactly ``n_points``, coloured."""
    return of_size(map(scan_room, range(40_000, 40_000 + count)), n_points)


def of_size(clouds: Iterable[PointCloud], n_points: int) -> list[CloudMessage]:
    """Make clouds messages of exactly ``n_points``: leave points out, or repeat some."""
    rng = np.random.default_rng(0)
    found = []
    for cloud in clouds:
        order = np.sort(rng.choice(len(cloud), n_points, replace=len(cloud) < n_points))
        found.append(encode_cloud(cloud.select(order)))
    return found


def live_path(model: Segmenter) -> Path:
    """Return the way of one sweep through decode, segment and encode; it gives the stages' milliseconds."""
    encoder = LabelledCloudEncoder(model.label_set)

    def walk(message: CloudMessage) -> dict[str, float]:
        start = time.perf_counter()
        cloud = cloud_from_msg(message, FIELDS)
        decoded = time.perf_counter()
        result = model(cloud)
        labelled = time.perf_counter()
        encoder.encode(cloud, result.labels, result.confidence)
        end = time.perf_counter()
        own = {"decode": decoded - start, "encode": end - labelled, "total": end - start}
        return {**{stage: 1e3 * s for stage, s in own.items()}, **result.milliseconds}

    return walk


def eager_path(model: str) -> Path:
    """Return a model's network in plain torch, float32, each operation shared by torch's own threads."""
    header, tensors = read_model_file(model)
    assert header.labels is not None
    network = build(header)
    network.load_state_dict(tensors, assign=True)
    walk = live_path(Segmenter(network, header.contract, header.labels, torch.device("cpu"), "float32"))

    def eager(message: CloudMessage) -> dict[str, float]:
        team, segmenter.team = segmenter.team, nullcontext  # type: ignore[assignment]
        os.environ["PC_PERCEPTION_BACKEND"] = "torch"
        try:
            return walk(message)
        finally:
            segmenter.team = team
            del os.environ["PC_PERCEPTION_BACKEND"]

    return eager


@dataclass(frozen=True)
class Latency:
    """Row A11 for the messages that ``clouds`` makes."""

    input: str
    clouds: Callable[[], list[CloudMessage]]
    model: str = MODEL
    target: float = 4.0
    floor_ms: float = 11.0
    row: str = "A11"

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Send all clouds ``rounds`` times through both paths in turn, after one turn to warm up."""
        keep_freed_memory()  # as the node and the commands do; the peer gains as well
        sweeps = self.clouds()
        own = load_segmenter(self.model, "cpu")
        paths = {"ours": live_path(own), "plain torch": eager_path(self.model)}
        spent: dict[str, list[dict[str, float]]] = {name: [] for name in paths}
        for turn in range(-1, rounds):
            for message in sweeps:
                for name, walk in paths.items():
                    stages = walk(message)
                    if turn >= 0:
                        spent[name].append(stages)
        totals = {name: np.array([s["total"] for s in each]) for name, each in spent.items()}
        ours = totals["ours"]
        turns = ours.reshape(-1, len(sweeps))
        stages = {k: [s[k] for s in spent["ours"]] for k in spent["ours"][0]}
        told = {k: [round(float(q), 3) for q in np.percentile(v, [50, 99])] for k, v in stages.items()}
        p50, p99 = np.percentile(ours, [50, 99])
        jitter = float(np.percentile(turns / np.median(turns, 0), 99))
        note = f"p99 {p99:.0f}, p99/p50 {p99 / p50:.2f}, jitter {jitter:.2f}; p50/p99 of " + ", ".join(
            f"{k} {a:.2f}/{b:.2f}" for k, (a, b) in told.items() if k != "total"
        )
        more = {"p99_ms": float(p99), "jitter": jitter, "stages_p50_p99_ms": told, "note": note}
        return {**compare(totals, rng), "target": self.target, "floor_ms": self.floor_ms, **more}


@dataclass(frozen=True)
class Memory:
    """Row A12: page faults and large allocations of the live path after warm-up, worst and median sweep."""

    input: str
    n_beams: int
    n_points: int
    row: str = "A12"

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Count faults in one pass over the sweeps, allocations in another: tracing makes faults of its own."""
        keep_freed_memory()
        sweeps = messages(self.n_beams, self.n_points, SWEEPS)
        walk = live_path(load_segmenter(MODEL, "cpu"))
        for message in sweeps * 2:
            walk(message)
        faults, times = [], []
        for message in sweeps * rounds:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            times.append(walk(message)["total"])
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        large = _large_allocations(walk, sweeps)
        median = int(np.median(faults))
        verdict = "<= 50 faults, 0 MB of Python memory " + (
            "met" if max(faults) <= 50 and not large else "missed"
        )
        note = f"{median} faults a sweep (at most {max(faults)}), {large} MB of Python memory at its peak"
        record = {"ours_ms": float(np.median(times)), "target": 50, "floor_ms": None, "verdict": verdict}
        counts = {"faults_p50": median, "faults_max": max(faults), "traced_peak_mb": large}
        empty = dict.fromkeys(("peer", "peer_ms", "ratio", "ratio_low", "ratio_high"))
        return {**record, **empty, **counts, "note": note}


def _large_allocations(walk: Path, sweeps: list[CloudMessage]) -> int:
    """Largest rise of the traced memory over its start within one sweep, in whole megabytes."""
    worst = 0
    tracemalloc.start()
    try:
        for message in sweeps:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            walk(message)
            worst = max(worst, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return worst // LARGE


ROWS = [
    Latency("N32, 34,720 points", partial(messages, 32, 34_720, SWEEPS)),
    Latency("N64, 120,000 points", partial(messages, 64, 120_000, SWEEPS), target=0.0, floor_ms=0.0),
    Latency("rooms, 150,000 points", partial(rooms, 150_000, SWEEPS), "room", target=0.0, floor_ms=0.0),
    Memory("N32, 34,720 points", 32, 34_720),
]
