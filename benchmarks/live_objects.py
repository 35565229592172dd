# SPDX-License-Identifier: Apache-2.0
"""One sweep to its objects and tracks, cloud to messages (A15). Rows of ``python -m benchmarks stream``.

A drive of 32 beams, every sweep brought to exactly 34,720 points, with the shipped models; no peer is timed against.
The CPU time, of all threads, is told beside the wall time: a busy machine does not change it much.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from pc_perception.cloud import PointCloud
from pc_perception.inference.loading import load_classifier, load_segmenter
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.object_messages import detections, instance_cloud, object_markers
from pc_perception.inference.objects import SweepObjects
from pc_perception.io.message_encoding import encode_cloud
from pc_perception.io.message_types import new_message
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.lidar import SpinningLidar

N_POINTS, N_SWEEPS, WARM_UPS = 34_720, 20, 5


@dataclass(frozen=True)
class Objects:
    """Row A15: message bytes to detections, markers and the cloud with instances.

    Attributes:
        seed: of the drive; this one passes 30 to 60 objects a sweep.
        segmenter: shipped model whose things are told apart; empty for geometry alone.
    """

    input: str
    seed: int
    segmenter: str
    row: str = "A15"

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Send one drive ``rounds`` times through the whole path."""
        keep_freed_memory()
        segmenter = load_segmenter(self.segmenter, "cpu") if self.segmenter else None
        sweeps = SweepObjects(load_classifier("objects", "cpu"), segmenter)
        drive, spent, counts = self._drive(rng), [], []
        for turn in range(rounds + 1):
            for message, T in drive[:WARM_UPS] if not turn else drive:
                start, worked = time.perf_counter(), time.process_time()
                cloud = cloud_from_msg(message)
                result = sweeps(cloud, T)
                where = (cloud.frame, cloud.stamp_ns, new_message)
                detections(result, *where)
                object_markers(result, *where)
                encode_cloud(instance_cloud(cloud, result))
                total, cpu = 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - worked)
                if turn:
                    messages = total - result.total_ms
                    spent.append({**result.milliseconds, "messages": messages, "cpu": cpu, "total": total})
                    counts.append(len(result))
        told = {k: np.percentile([s[k] for s in spent], [50, 99]) for k in spent[0]}
        p50, p99 = told.pop("total")
        cpu = told.pop("cpu")[0]
        stages = ", ".join(f"{k} {a:.1f}/{b:.1f}" for k, (a, b) in told.items())
        found = f"{np.median(counts):.0f} objects ({min(counts)} .. {max(counts)})"
        note = f"p99 {p99:.0f}, CPU time p50 {cpu:.0f}, {found}; p50/p99 of {stages}"
        empty = dict.fromkeys(("peer", "peer_ms", "ratio", "ratio_low", "ratio_high"))
        return {
            **empty,
            "ours_ms": float(p50),
            "p99_ms": float(p99),
            "target": 0.0,
            "floor_ms": None,
            "note": note,
        }

    def _drive(self, rng: np.random.Generator) -> list:
        """(message, T_world_lidar) of each sweep."""
        lidar = SpinningLidar(n_beams=32, n_azimuths=-(-N_POINTS * 2 // 32))
        out = []
        for frame in simulate_drive(self.seed, N_SWEEPS, lidar=lidar, speed=8.0):
            order = np.sort(rng.choice(len(frame.cloud), N_POINTS, replace=len(frame.cloud) < N_POINTS))
            measured = {name: frame.cloud.fields[name] for name in ("intensity", "ring", "time")}
            cloud: PointCloud = replace(frame.cloud, fields=measured).select(order)
            out.append((encode_cloud(cloud), frame.T_world_base @ frame.T_base_lidar))
        return out


ROWS = [
    Objects("N32, 34,720 points to objects and tracks, things of street", 60_009, "street"),
    Objects("the same, geometry alone", 60_009, ""),
]
