# SPDX-License-Identifier: Apache-2.0
"""One sweep through the small sparse U-Net (C3). Row of ``python -m benchmarks stream``."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.live import SWEEPS, messages
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.segmenter import Segmenter
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.labels import load_label_set
from pc_perception.models.segmenters import SEGMENTERS
from training.settings import read_config


@dataclass(frozen=True)
class UNetSweep:
    """A sweep to labels by the network of ``cmcr_finetune``, with random weights, which cost as much as any."""

    n_points: int = 34_720
    target: float = 250.0
    row: str = "C3"
    input: str = "sparse U-Net, small, 0.2 m, 34,720 points"

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Label eight sweeps ``rounds`` times, after one turn to warm up."""
        keep_freed_memory()
        run = read_config("cmcr_finetune")
        labels = load_label_set(run.label_set)
        network = SEGMENTERS[run.network.__name__].build(run.contract.n_features, len(labels), run.encoder)
        model = Segmenter(network, run.contract, labels, torch.device("cpu"))
        clouds = [cloud_from_msg(message) for message in messages(32, self.n_points, SWEEPS)]
        for cloud in clouds:
            model(cloud)
        worked = time.process_time()
        found = [model(cloud) for _ in range(rounds) for cloud in clouds]
        cpu = 1e3 * (time.process_time() - worked) / len(found)
        p50, p99 = np.percentile([result.total_ms for result in found], [50, 99])
        stages = {k: np.median([r.milliseconds[k] for r in found]) for k in found[0].milliseconds}
        note = f"p99 {p99:.0f}, CPU time {cpu:.0f}; " + ", ".join(f"{k} {v:.0f}" for k, v in stages.items())
        note += f"; peak of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
        verdict = f"<= {self.target:.0f} ms " + ("met" if p50 <= self.target else "missed")
        empty = dict.fromkeys(("peer", "peer_ms", "ratio", "ratio_low", "ratio_high", "floor_ms"))
        return {"ours_ms": float(p50), "target": self.target, "verdict": verdict, "note": note, **empty}


ROWS = [UNetSweep()]
