# SPDX-License-Identifier: Apache-2.0
"""Real nodes on loopback: age, overhead, drops and memory, by ``python -m benchmarks.node``.

Run with ROS 2 sourced. Each row starts a node in its own process, sends it sweeps of 34,720 points or RGB-D
frames of 640 x 480 over DDS on loopback and listens to what it labels. ``age`` is from the stamp (set when the
input is published) to the labelled cloud in the listener's hands. ``overhead`` is the node's own: from its
callback to the message sent, without the model and without waiting for the input before. Targets: sweeps at
10 Hz without a crash, with flat memory over 2,000 of them, overhead <= 5 ms, age p99 <= 300 ms, also with the
other core kept busy; at 40 Hz the oldest are dropped and counted; frames at 15 Hz with every second or third pixel.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.feeds import IMAGE, INFO, Feed, parameters
from benchmarks.machine import busy_core, describe_machine
from benchmarks.soak_peers import told_counts
from pc_perception.io.message_types import CLOUD

LOOPBACK = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo' multicast='false'/></Interfaces>"
    "<AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
    "<MaxAutoParticipantIndex>99</MaxAutoParticipantIndex><Peers><Peer Address='127.0.0.1'/></Peers>"
    "</Discovery><Internal><SocketReceiveBufferSize min='1MB' max='4MB'/></Internal></Domain></CycloneDDS>"
)
WARM_UP = 20


def sweeps() -> Feed:
    """Return eight sweeps of eight simulated drives, 32 beams."""
    from benchmarks.live import messages
    from ros2_nodes.conversions import cloud_message

    clouds = [{"points": cloud_message(values)} for values in messages(32, 34_720, 8)]
    return Feed({"points": CLOUD}, clouds, ("segmentation", CLOUD), parameters(model="street"))


def frames(decimation: int) -> Feed:
    """Return eight frames of four simulated rooms, of which the node takes every ``decimation``-th pixel."""
    from benchmarks.rgbd import messages
    from ros2_nodes.conversions import new_message

    topics = {"depth": IMAGE, "camera_info": INFO, "rgb": IMAGE}
    variants = [dict(zip(topics, found, strict=False)) for found in messages(4, new_message)]
    arguments = parameters(model="room", decimation=decimation)
    return Feed(topics, variants, ("segmentation", CLOUD), arguments)


@dataclass(frozen=True)
class Load:
    """One row: which node gets what, how often, and whether the other core is kept busy."""

    name: str
    node: str
    feed: Callable[[], Feed]
    rate_hz: float
    busy: bool = False


LOADS = (
    Load("sweeps, 10 Hz", "segment_node", sweeps, 10.0),
    Load("the same, core busy", "segment_node", sweeps, 10.0, busy=True),
    Load("sweeps, 40 Hz", "segment_node", sweeps, 40.0),
    Load("frames, every 2nd", "rgbd_node", partial(frames, 2), 15.0),
    Load("frames, every 3rd", "rgbd_node", partial(frames, 3), 15.0),
)


@dataclass
class Row:
    """What one run saw."""

    sent: int = 0
    ages_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    node: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None


class Run:
    """A node under load: this process is sensor and listener."""

    def __init__(self, node: str, feed: Feed, threads: int) -> None:
        import psutil
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import qos_profile_sensor_data

        from ros2_nodes.conversions import new_message

        self.rclpy, self.row, self.feed = rclpy, Row(), feed
        rclpy.init()
        self.peer = rclpy.create_node("benchmark")
        kinds = {topic: type(new_message(kind)) for topic, kind in feed.inputs.items()}
        create = self.peer.create_publisher
        self.sensors = {topic: create(kind, topic, qos_profile_sensor_data) for topic, kind in kinds.items()}
        topic, kind = feed.answer
        self.peer.create_subscription(type(new_message(kind)), topic, self.receive, qos_profile_sensor_data)
        self.peer.create_subscription(DiagnosticArray, "/diagnostics", self.diagnose, 10)
        command = [sys.executable, "-m", f"ros2_nodes.{node}", "--ros-args", "--log-level", "warn"]
        self.process = subprocess.Popen([*command, *feed.arguments, *parameters(threads=threads)])
        self.watch = psutil.Process(self.process.pid)

    def receive(self, msg: Any) -> None:
        stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
        self.row.ages_ms.append((time.time_ns() - stamp_ns) / 1e6)

    def diagnose(self, msg: Any) -> None:
        self.row.node = told_counts(msg) or self.row.node

    def drive(self, rate_hz: float, count: int) -> Row:
        """Publish ``count`` inputs at ``rate_hz`` after a few to warm up; return what was seen of them."""
        while not all(sensor.get_subscription_count() for sensor in self.sensors.values()):
            if self.process.poll() is not None:
                raise RuntimeError(f"the node ended with {self.process.returncode} before it was active")
            self.rclpy.spin_once(self.peer, timeout_sec=0.1)
        self.wait(1.0)
        due = time.perf_counter()
        for i in range(WARM_UP + count):
            if i == WARM_UP:
                self.row.ages_ms.clear()
            due += 1 / rate_hz
            self.wait(due - time.perf_counter())
            for topic, msg in self.feed.messages(i, time.time_ns(), spoilt=False).items():
                self.sensors[topic].publish(msg)
            self.row.sent += 1
            if self.process.poll() is None:
                self.row.rss_mb.append(self.watch.memory_info().rss / 2**20)
        self.wait(2.5)  # the last answer, and the diagnostics that count it
        return self.row

    def wait(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.rclpy.spin_once(self.peer, timeout_sec=left)

    def close(self) -> None:
        """End the node as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.row.exit_code = self.process.wait(30)
        self.peer.destroy_node()
        self.rclpy.try_shutdown()


def line(name: str, row: Row) -> str:
    """Return one line of the table."""
    age = np.percentile(row.ages_ms, [50, 99]) if row.ages_ms else (np.nan, np.nan)
    tenth = max(len(row.rss_mb) // 10, 1)
    settled = row.rss_mb[len(row.rss_mb) // 4 :]  # until then the first sweeps fill the node's buffers
    growth = np.median(settled[-tenth:]) - np.median(settled[:tenth])
    lost = row.sent - int(row.node.get("received", 0))
    shown = ("overhead_ms_p50", "overhead_ms_p99", "inference_ms_p50")
    overhead, overhead_p99, network = (float(row.node.get(name, "nan")) for name in shown)
    return (
        f"{name:<20}{row.sent:>6}{len(row.ages_ms):>9}{row.node.get('dropped', '?'):>9}{lost:>6}"
        f"{age[0]:>9.1f}{age[1]:>9.1f}{overhead:>10.2f}{overhead_p99:>8.2f}{network:>9.1f}{growth:>+9.1f}"
        f"{row.exit_code:>6}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    nodes = sorted({load.node for load in LOADS})
    parser.add_argument("--nodes", nargs="*", default=nodes, choices=nodes)
    parser.add_argument("--count", type=int, default=200, help="inputs a row; the target speaks of 2,000")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["CYCLONEDDS_URI"] = LOOPBACK
    os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 90 + 10)
    ros, rmw = os.environ.get("ROS_DISTRO", "?"), os.environ.get("RMW_IMPLEMENTATION", "default RMW")
    print(f"{describe_machine()}; ROS 2 {ros}, {rmw}")
    print("milliseconds; RSS growth in MB")
    print(
        f"{'':<20}{'sent':>6}{'labelled':>9}{'dropped':>9}{'lost':>6}{'age p50':>9}{'p99':>9}"
        f"{'overhead':>10}{'p99':>8}{'network':>9}{'RSS':>9}{'exit':>6}"
    )
    for load in LOADS:
        if load.node not in arguments.nodes:
            continue
        run = Run(load.node, load.feed(), arguments.threads)
        try:
            with busy_core(load.busy):
                row = run.drive(load.rate_hz, arguments.count)
        finally:
            run.close()
        print(line(load.name, row), flush=True)


if __name__ == "__main__":
    main()
