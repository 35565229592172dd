# SPDX-License-Identifier: Apache-2.0
"""How time grows with N from 8k to 512k points. Rows of ``python -m benchmarks growth``.

The points are one subset of a denser scan, in scan order or shuffled; for the network they are more and more scenes
side by side, so that its tokens grow as the points do. The slope is that of log time over log N in the upper half;
``steps`` are t(2N) / t(N), of which each must be at most 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from benchmarks.dense import sweep
from benchmarks.harness import timed_ms
from benchmarks.messages import message
from benchmarks.sequences import HEADS, KEYS, VALUES, tokens
from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_segmenter
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.io.pointcloud2 import decode_finite
from pc_perception.ops.neighbors import k_nearest
from pc_perception.ops.parallel import team
from pc_perception.ops.recurrence import gated_delta_rule
from pc_perception.ops.sampling import farthest_point_sampling
from pc_perception.ops.voxelize import Voxels, voxelize

SIZES = tuple(8192 * 2**i for i in range(7))
SCENE, APART_M = 34_720, 256.0
"""Points of one of the network's scenes, and how far they are apart: whole voxels of every level."""
SCENES = tuple(SCENE * 2**i for i in range(5))
STEP = 2.2

Make = Callable[[np.ndarray], Callable[[], object]]
Draw = Callable[[np.random.Generator, int], np.ndarray]


def slope(sizes: np.ndarray, times: np.ndarray) -> float:
    """Return the slope of log ``times`` over log ``sizes`` in the upper half, the middle included."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0])


def points(rng: np.random.Generator, n: int, shuffled: bool) -> np.ndarray:
    """Return ``n`` points of one scan of 64 beams: a random subset, in scan order or not."""
    scene = sweep(rng, 64, max(SIZES) // 64)
    chosen = rng.permutation(len(scene))[:n]
    return scene[chosen if shuffled else np.sort(chosen)]


def scenes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return ``n`` points: one sweep of 32 beams, again and again beside itself."""
    scene = sweep(rng, 32, SCENE // 32)
    return np.concatenate([scene + np.float32([0, APART_M * k, 0]) for k in range(n // SCENE)])


def _decode(xyz: np.ndarray) -> Callable[[], object]:
    msg, _ = message(np.random.default_rng(0), len(xyz), 20, (0, 4, 8, 12))
    raw = np.frombuffer(msg.data, np.uint8).reshape(-1, 20)
    raw[:, :12] = xyz.view(np.uint8).reshape(-1, 12)
    out, index = np.empty((len(xyz), 4), np.float32), np.empty(len(xyz), np.int32)
    return partial(decode_finite, msg, out=out, index_out=index)


def _copy(xyz: np.ndarray) -> Callable[[], object]:
    """As many bytes as decoding reads and writes: 20 a point each way."""
    source = np.random.default_rng(0).integers(0, 256, (len(xyz), 20), np.uint8)
    return partial(np.copyto, np.empty_like(source), source)


def _voxelize(xyz: np.ndarray) -> Callable[[], object]:
    tensor, room = torch.from_numpy(xyz), Voxels.room(len(xyz))

    def call() -> object:
        with team():
            return voxelize(tensor, 0.05, out=room)

    return call


def _neighbors(xyz: np.ndarray) -> Callable[[], object]:
    out = torch.empty(len(xyz), 16, dtype=torch.int64), torch.empty(len(xyz), 16)
    return partial(k_nearest, torch.from_numpy(xyz), 16, out=out)


def _mix(xyz: np.ndarray) -> Callable[[], object]:
    inputs = tokens(np.random.default_rng(0), len(xyz), HEADS, KEYS, VALUES)

    def call() -> object:
        with torch.inference_mode(), team():
            return gated_delta_rule(*map(torch.from_numpy, inputs), (0, len(xyz)))

    return call


def _network(xyz: np.ndarray) -> Callable[[], object]:
    keep_freed_memory()  # as the node and the commands do
    model = load_segmenter("street", "cpu")
    contract = replace(model.contract, max_range_m=0.0)
    prepared = contract.prepare(PointCloud(xyz, frame="lidar"), model.network.encoder.n_levels)

    def call() -> object:
        with torch.inference_mode(), team():
            return model.network(prepared.features, prepared.pyramid)

    return call


def _sample(xyz: np.ndarray, m: int) -> Callable[[], object]:
    return partial(farthest_point_sampling, torch.from_numpy(xyz), m or len(xyz) // 8)


@dataclass(frozen=True)
class Growth:
    """One operation on points that ``draw`` gives; ``limit`` is the slope to stay below."""

    row: str
    input: str
    make: Make
    draw: Draw
    limit: float
    sizes: tuple[int, ...] = SIZES

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Time all sizes in every round and judge the medians."""
        calls = [self.make(self.draw(rng, n)) for n in self.sizes]
        for call in calls:
            call()
        times = np.median([[timed_ms(call) for call in calls] for _ in range(rounds)], 0)
        steps = times[1:] / times[:-1]
        found = slope(np.array(self.sizes), times)
        good = found <= self.limit and steps.max() <= STEP
        verdict = f"slope <= {self.limit}, steps <= {STEP} " + ("met" if good else "missed")
        note = f"slope {found:.2f}, steps " + " ".join(f"{s:.2f}" for s in steps)
        empty = dict.fromkeys(("peer", "peer_ms", "ratio", "ratio_low", "floor_ms"))
        record = {"ours_ms": float(times[-1]), "target": self.limit, "verdict": verdict, "note": note}
        more = {
            "slope": found,
            "steps": steps.tolist(),
            "sizes": list(self.sizes),
            "times_ms": times.tolist(),
        }
        return {**empty, **record, **more}


OPERATIONS: list[tuple[str, Make, float]] = [
    ("copy", _copy, 1.05),
    ("decode", _decode, 1.05),
    ("voxelise", _voxelize, 1.12),
    ("kNN", _neighbors, 1.15),
    ("FPS N/8", partial(_sample, m=0), 1.30),
    ("FPS 1024", partial(_sample, m=1024), 1.10),
]
ROWS = [
    Growth(name, f"8k .. 512k, {order}", make, partial(points, shuffled=order == "shuffled"), limit)
    for name, make, limit in OPERATIONS
    for order in ("scan order", "shuffled")
]
ROWS += [
    Growth("GDN", "8k .. 512k tokens", _mix, partial(points, shuffled=False), 1.03),
    Growth("network", "1 .. 16 scenes of 34,720 points side by side", _network, scenes, 1.08, SCENES),
]
