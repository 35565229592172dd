# SPDX-License-Identifier: Apache-2.0
"""Days of running in minutes: ``python -m benchmarks soak [--targets serve segment_node ...]``.

A target runs in a process of its own and is fed over DDS on loopback: sweeps at a steady rate, every
hundredth malformed, the sensor unplugged for a while and back, the clock an hour back and forth. Its
memory, file handles and threads are watched from outside. ROS 2 nodes need a sourced ROS 2.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.node import LOOPBACK
from pc_perception.cloud import PointCloud
from pc_perception.io.message_encoding import encode_cloud
from pc_perception.io.message_types import CLOUD, cloud_message

MALFORMED_EVERY = 100
WARM_UP = 100
UNPLUGGED_S = 5.0
HOUR_NS = 3_600 * 10**9
OUTPUTS = {"serve": "/segmentation", "segment_node": "/segmentation", "classify_node": "/instances"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--targets", nargs="*", default=["serve"], choices=list(OUTPUTS))
    parser.add_argument("--sweeps", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=20.0, help="sweeps per second")
    parser.add_argument("--points", type=int, default=5000, help="per sweep: few make many sweeps")
    parser.add_argument("--model", default="street")


@dataclass
class Watch:
    """A process as seen from outside, sampled once a second."""

    pid: int
    rss_mb: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def sample(self) -> None:
        """Note memory, file handles and threads."""
        import psutil

        process = psutil.Process(self.pid)
        self.rss_mb.append(process.memory_info().rss / 2**20)
        self.handles.append(process.num_fds())
        self.threads.append(process.num_threads())

    def growth(self, values: list[Any]) -> str:
        """Return the medians of the first and the last fifth."""
        fifth = max(len(values) // 5, 1)
        return f"{np.median(values[:fifth]):.0f} -> {np.median(values[-fifth:]):.0f}"


def command(target: str, model: str, domain: int) -> list[str]:
    """Return how a target is started."""
    if target == "serve":
        return [sys.executable, "-m", "pc_perception.cli", target, "--domain", str(domain), "--model", model]
    start = [sys.executable, "-m", f"ros2_nodes.{target}", "--ros-args", "--log-level", "error"]
    return start if target == "classify_node" else [*start, "-p", f"model:={model}"]


def soak(target: str, arguments: argparse.Namespace, domain: int) -> str:
    """Feed one target; return its line of the table."""
    from pc_perception.io.dds import Participant

    process = subprocess.Popen(
        command(target, arguments.model, domain), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    watch, labelled = Watch(process.pid), [0]
    rng = np.random.default_rng(0)
    try:
        with Participant(domain) as peer:
            clouds = peer.publisher("/points", CLOUD)
            peer.subscribe(OUTPUTS[target], CLOUD, lambda _: labelled.__setitem__(0, labelled[0] + 1))
            while not clouds.n_subscribers:
                if process.poll() is not None:
                    raise RuntimeError(f"{target} ended with {process.returncode} before it listened")
                peer.spin(0.1)
            peer.spin(1.0)
            counts = _feed(clouds, peer, watch, arguments, rng)
            peer.spin(1.0)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    return (
        f"{target:<15}{counts['sent']:>8,}{counts['malformed']:>10}{labelled[0]:>10,}"
        f"{watch.growth(watch.rss_mb):>16}{watch.growth(watch.handles):>12}{watch.growth(watch.threads):>12}{code:>6}"
    )


def _feed(
    clouds: Any, peer: Any, watch: Watch, arguments: argparse.Namespace, rng: np.random.Generator
) -> dict[str, int]:
    messages = [cloud_message(encode_cloud(_cloud(arguments.points, rng))) for _ in range(5)]
    broken = cloud_message(encode_cloud(_cloud(arguments.points, rng)))
    broken.data = broken.data[:-7]
    counts = {"sent": 0, "malformed": 0}
    due = sampled = time.monotonic()
    for i in range(WARM_UP + arguments.sweeps):
        if i == arguments.sweeps // 2:
            peer.spin(UNPLUGGED_S)
            due = time.monotonic()
        malformed = i % MALFORMED_EVERY == MALFORMED_EVERY - 1
        msg = broken if malformed else messages[i % len(messages)]
        jump = HOUR_NS if arguments.sweeps // 3 < i < arguments.sweeps // 3 + 50 else 0
        msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(time.time_ns() - jump, 10**9)
        clouds.publish(msg)
        counts["sent"] += 1
        counts["malformed"] += malformed
        due += 1 / arguments.rate
        while (left := due - time.monotonic()) > 0:
            peer.spin(left)
        if i >= WARM_UP and time.monotonic() - sampled > 1.0:
            sampled = time.monotonic()
            watch.sample()
    return counts


def _cloud(n: int, rng: np.random.Generator) -> PointCloud:
    xyz = rng.uniform([-40, -40, -1.9], [40, 40, -1.7], (n, 3)).astype(np.float32)
    tall = rng.random(n) < 0.3
    xyz[tall, :2] = np.round(xyz[tall, :2] / 8) * 8
    xyz[tall, 2] += rng.uniform(0, 3, tall.sum()).astype(np.float32)
    return PointCloud(xyz, {"intensity": rng.uniform(0, 99, n).astype(np.float32)}, "lidar")


def run(arguments: argparse.Namespace) -> None:
    """Print the table."""
    os.environ["CYCLONEDDS_URI"] = LOOPBACK
    domain = 100 + os.getpid() % 100
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    print(
        f"{describe_machine()}; {arguments.points:,} points at {arguments.rate:g} Hz, model '{arguments.model}'"
    )
    print(
        f"{'':<15}{'sent':>8}{'malformed':>10}{'answered':>10}{'RSS, MB':>16}{'handles':>12}{'threads':>12}{'exit':>6}"
    )
    for target in arguments.targets:
        print(soak(target, arguments, domain), flush=True)
