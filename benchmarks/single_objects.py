# SPDX-License-Identifier: Apache-2.0
"""What classifying single objects costs on the CPU, from cloud to result: rows of ``python -m benchmarks objects``."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from pc_perception.cloud import PointCloud
from pc_perception.inference.classifier import Classifier
from pc_perception.inference.memory import keep_freed_memory
from pc_perception.inference.object_contract import ObjectContract
from pc_perception.labels import load_label_set
from pc_perception.models.object_encoder import SIZES, ObjectClassifier, ObjectEncoder


@dataclass(frozen=True)
class Objects:
    """Objects of a thousand points in one call.

    Attributes:
        size: of the encoder, a name of ``SIZES``; its weights are random, which costs the same.
        n_objects: in the call.
        target: milliseconds for the call; 0 where there is none.
        n_points: of an object; 1,024 are taken as they are, more are thinned first.
    """

    row: str
    size: str
    n_objects: int
    target: float
    n_points: int = 1024

    @property
    def input(self) -> str:
        """What is classified."""
        return f"{self.size}, {self.n_objects} x {self.n_points:,} points"

    def measure(self, rounds: int, rng: np.random.Generator) -> dict[str, object]:
        """Classify fresh objects ``rounds`` times, after three to warm up."""
        keep_freed_memory()
        torch.manual_seed(0)
        network = ObjectClassifier(ObjectEncoder(**SIZES[self.size]), 16)
        labels = load_label_set("objects16")
        model = Classifier(network, ObjectContract(1024), labels, torch.device("cpu"))
        each, busy = [], []
        for _ in range(rounds + 3):
            objects = [
                PointCloud(rng.normal(size=(self.n_points, 3)).astype(np.float32))
                for _ in range(self.n_objects)
            ]
            start, start_cpu = time.perf_counter(), time.process_time()
            found = model(objects)
            each.append(1e3 * (time.perf_counter() - start))
            busy.append(1e3 * (time.process_time() - start_cpu))
            assert len(found) == self.n_objects
        ours = float(np.median(each[3:]))
        verdict = (
            f"<= {self.target:g} ms " + ("met" if ours <= self.target else "missed") if self.target else "-"
        )
        note = f"p99 {np.percentile(each[3:], 99):.3g}; CPU {np.median(busy[3:]):.3g}; {model.precision}"
        empty = dict.fromkeys(("peer", "peer_ms", "ratio", "ratio_low", "ratio_high", "floor_ms"))
        return {"ours_ms": ours, "target": self.target, "verdict": verdict, "note": note, **empty}


ROWS = [
    Objects("O1", "tiny", 1, 10.0),
    Objects("O2", "tiny", 64, 150.0),
    Objects("O3", "card", 1, 60.0),
    Objects("O4", "tiny", 1, 0.0, n_points=20_000),
]
