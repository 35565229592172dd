# SPDX-License-Identifier: Apache-2.0
"""One sweep, message bytes in to message bytes out, on the CPU: ``python -m benchmarks.latency``.

Sizes as docs/performance.md names them: N32 = 32 beams x 1,085 azimuths, N64 = 64 x 1,875. Targets for
two cores: N32 p50 <= 150 ms and p99 <= 1.3 x p50; N64 p50 <= 450 ms.

Eight sweeps of eight drives take turns. They hold equally many points but not equally many voxels, an open
place up to twice as many as a narrow street. So two ratios are told: ``p99/p50`` over everything, and
``jitter``, the 99th percentile of each time divided by the median of its own sweep.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import time

import numpy as np

from benchmarks.machine import busy_core, describe_machine
from pc_perception.inference.model_file import load_model
from pc_perception.io.message_encoding import CloudMessage, LabelledCloudEncoder, encode_cloud
from pc_perception.io.pointcloud2 import cloud_from_msg
from pc_perception.simulation.drive import simulate_drive
from pc_perception.simulation.lidar import SpinningLidar

SIZES = {"N32": (32, 34_720), "N64": (64, 120_000)}


def messages(n_beams: int, n_points: int, count: int) -> list[CloudMessage]:
    """Simulate ``count`` different sweeps and bring each to exactly ``n_points`` by repeating points."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(count):
        lidar = SpinningLidar(n_beams=n_beams, n_azimuths=-(-n_points * 2 // n_beams))
        cloud = next(iter(simulate_drive(40_000 + seed, 1, lidar=lidar))).cloud
        order = np.sort(rng.choice(len(cloud), n_points, replace=len(cloud) < n_points))
        found.append(encode_cloud(cloud.select(order)))
    return found


def measure(model: str, sweeps: list[CloudMessage], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each stage of ``rounds`` sweeps, after one turn to warm up."""
    segmenter = load_model(model, "cpu")
    encoder = LabelledCloudEncoder(segmenter.label_set)
    spent: dict[str, list[float]] = {}
    for i in range(-len(sweeps), rounds):
        start = time.perf_counter()
        cloud = cloud_from_msg(sweeps[i % len(sweeps)])
        decoded = time.perf_counter()
        result = segmenter(cloud)
        labelled = time.perf_counter()
        encoder.encode(cloud, result.labels, result.confidence)
        end = time.perf_counter()
        if i < 0:
            continue
        row = {"decode": decoded - start, "encode": end - labelled, "total": end - start}
        for stage, ms in {**{k: 1e3 * v for k, v in row.items()}, **result.milliseconds}.items():
            spent.setdefault(stage, []).append(ms)
    return spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="street")
    parser.add_argument("--rounds", type=int, default=25, help="times that each of the eight sweeps comes")
    arguments = parser.parse_args()
    print(describe_machine())
    print(f"model '{arguments.model}', {8 * arguments.rounds} sweeps a row, milliseconds")
    stages = ("decode", "prepare", "network", "finish", "encode")
    print(
        f"{'input':<22}{'p50':>8}{'p99':>8}{'p99/p50':>9}{'jitter':>8}  "
        + "".join(f"{s:>10}" for s in stages)
    )
    for name, (beams, points) in SIZES.items():
        sweeps = messages(beams, points, 8)
        for busy in (False, True):
            with busy_core(busy):
                spent = measure(arguments.model, sweeps, arguments.rounds * len(sweeps))
            p50, p99 = np.percentile(spent["total"], [50, 99])
            turns = np.array(spent["total"]).reshape(-1, len(sweeps))
            jitter = np.percentile(turns / np.median(turns, 0), 99)
            label = f"{name} {points:,}" + (", core busy" if busy else "")
            medians = "".join(f"{np.median(spent[s]):>10.2f}" for s in stages)
            print(f"{label:<22}{p50:>8.1f}{p99:>8.1f}{p99 / p50:>9.2f}{jitter:>8.2f}  {medians}")


if __name__ == "__main__":
    main()
